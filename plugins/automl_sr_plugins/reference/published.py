"""Published checkpoints as weights of our nets: for every net a function that knows the names and
sizes in its files.

A reader is called with the tensors of a file and the channels and scale that are asked for. It
gives the fields of the file's net and the tensors under our names, or None where the file is of
another net.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
