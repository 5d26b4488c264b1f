"""Published checkpoints as weights of our nets: for every net a function that knows the names and
sizes in its files.

A reader is called with the tensors of a file and the channels and scale that are asked for. It
gives the fields of the file's net and the tensors under our names, or None where the file is of
another net. Whether the tensors fit a model of these fields is checked by core.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Tensors = Mapping[str, Tensor]
Found = tuple[dict[str, Any], dict[str, Tensor]]
"""Fields of the technique, and tensors by the names of our model."""


@dataclass(frozen=True)
class Asked:
    """The task's channels and scale: a file can hold several nets."""

    channels: int
    scale: int


def imdn(tensors: Tensors, asked: Asked) -> Found | None:
    """Read an IMDN (Zheng222/IMDN), which maps RGB in 0..1 to RGB in 0..1 and subtracts no mean.

    Names may begin with `module.`, and blocks are counted from 1: IMDB1, IMDB2, ...
    """
    theirs = {name.removeprefix("module."): value for name, value in tensors.items()}
    if not {"fea_conv.weight", "IMDB1.c1.weight", "LR_conv.weight"} <= theirs.keys():
        return None
    ours = {}
    for name, value in theirs.items():
        numbered = re.sub(r"^IMDB(\d+)", _block_from_zero, name)
        ours[numbered.replace("LR_conv", "lr_conv")] = value
    width = theirs["fea_conv.weight"].shape[0]
    blocks = theirs["c.0.weight"].shape[1] // width
    return {"width": width, "blocks": blocks, "skip": "none"}, ours


def _block_from_zero(found: re.Match[str]) -> str:
    return f"blocks.{int(found[1]) - 1}"


def carn_m(tensors: Tensors, asked: Asked) -> Found | None:
    """Read a CARN-M (nmhkahn/CARN-pytorch): one file has an upsampler for each scale.

    The shifts by the mean of DIV2K are convolutions there, with frozen weights; here that mean is a
    constant of the net.
    """
    if not {"entry.weight", "b1.b1.body.0.weight"} <= tensors.keys():
        return None
    width, inputs = tensors["b1.b1.body.0.weight"].shape[:2]
    fields = {
        "width": width,
        "blocks": _highest(tensors, "b", ".b1.body.0.weight"),
        "groups": width // inputs,
    }
    ours = {}
    chosen = f"upsample.up{asked.scale}."
    for name, value in tensors.items():
        if name.startswith(chosen):
            ours[f"upsample.{name.removeprefix(chosen)}"] = value
        elif not name.startswith(("upsample.up", "sub_mean.", "add_mean.")):
            ours[name] = value
    if "sub_mean.shifter.bias" in tensors:
        shift = tensors["sub_mean.shifter.bias"]
        ours["mean"] = -shift.reshape(1, -1, 1, 1)
    return fields, ours


def pan(tensors: Tensors, asked: Asked) -> Found | None:
    """Read a PAN (zhaohengyuan1/PAN); names are ours, and files of x2 and x3 look the same."""
    if not {"conv_first.weight", "upconv1.weight", "SCPA_trunk.0.conv3.weight"} <= tensors.keys():
        return None
    fields = {
        "width": tensors["conv_first.weight"].shape[0],
        "tail": tensors["upconv1.weight"].shape[0],
        "blocks": _highest(tensors, "SCPA_trunk.", ".conv3.weight") + 1,
    }
    return fields, dict(tensors)


def bsrn(tensors: Tensors, asked: Asked) -> Found | None:
    """Read a BSRN (xiaom233/BSRN); names are ours."""
    if not {"fea_conv.pw.weight", "B1.cca.conv_du.0.weight"} <= tensors.keys():
        return None
    fields = {
        "width": tensors["fea_conv.pw.weight"].shape[0],
        "blocks": _highest(tensors, "B", ".c1_d.weight"),
    }
    return fields, dict(tensors)


def rlfn(tensors: Tensors, asked: Asked) -> Found | None:
    """Read an RLFN (bytedance/RLFN), which takes and gives 0..255 where ours takes and gives 0..1.

    The first convolution takes the factor in, and the last one takes it out again: exact, as zero
    padding is the same in both ranges.
    """
    if not {"conv_1.weight", "upsampler.0.weight", "block_1.c1_r.weight"} <= tensors.keys():
        return None
    middle, width = tensors["block_1.c1_r.weight"].shape[:2]
    fields = {
        "width": width,
        "middle": middle,
        "blocks": _highest(tensors, "block_", ".c1_r.weight"),
        "attention": tensors["block_1.esa.conv1.weight"].shape[0],
    }
    ours = dict(tensors)
    ours["conv_1.weight"] = tensors["conv_1.weight"] * 255
    for name in ("upsampler.0.weight", "upsampler.0.bias"):
        ours[name] = tensors[name] / 255
    return fields, ours


def safmn(tensors: Tensors, asked: Asked) -> Found | None:
    """Read a SAFMN (sunny2109/SAFMN) of either form; names are ours."""
    if not {"to_feat.weight", "feats.0.safm.aggr.weight"} <= tensors.keys():
        return None
    fields = {
        "width": tensors["to_feat.weight"].shape[0],
        "blocks": _highest(tensors, "feats.", ".safm.aggr.weight") + 1,
        "form": "ntire" if "norm.gamma" in tensors else "iccv",
    }
    return fields, dict(tensors)


READERS: Mapping[str, Callable[[Tensors, Asked], Found | None]] = {
    "imdn": imdn,
    "carn_m": carn_m,
    "pan": pan,
    "bsrn": bsrn,
    "rlfn": rlfn,
    "safmn": safmn,
}
"""By the name of the technique."""


def _highest(tensors: Tensors, before: str, after: str) -> int:
    """Return the highest number that stands between two parts of a name, or 0."""
    highest = 0
    for name in tensors:
        number = name.removeprefix(before).removesuffix(after)
        if name == f"{before}{number}{after}" and number.isdigit():
            highest = max(highest, int(number))
    return highest
