"""A graph's digest stands for the time that it takes: weights leave it alone, sizes do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import IMAGE_AXES, Attention, Espcn, Fsrcnn, Recurrent
from torch import Tensor, nn
from torch.nn import functional as F

from automl_sr.compression.export import export_onnx, quantize_static
from automl_sr.compression.onnx_file import graph_digest

int8 = pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])


def digest(net: nn.Module, folder: Path, *, int8: bool, seed: int = 0, channels: int = 1) -> str:
    """Export a net, and name the file's graph; the seed draws the images for calibration, and
    metadata.
    """
    example = (torch.rand(1, channels, 16, 18),)
    path = folder / "float.onnx"
    exported = export_onnx(
        net.eval(), path, example, dynamic_axes=IMAGE_AXES, metadata={"seed": str(seed)}
    )
    if not int8:
        return graph_digest(path)
    images = np.random.default_rng(seed).random((3, 1, channels, 24, 16), dtype=np.float32)
    return graph_digest(quantize_static(exported, list(images), folder / "int8.onnx").path)


def drawn(kind: type[nn.Module], seed: int, **fields: Any) -> nn.Module:
    torch.manual_seed(seed)
    return kind(**fields)


@int8
@pytest.mark.parametrize("kind", [Espcn, Fsrcnn, Recurrent, Attention])
def test_files_that_differ_in_their_weights_have_one_digest(
    kind: type[nn.Module], int8: bool, tmp_path: Path
) -> None:
    channels = 3 if kind is Fsrcnn else 1
    found = {
        digest(drawn(kind, seed), tmp_path, int8=int8, seed=seed, channels=channels)
        for seed in (0, 1)
    }
    assert len(found) == 1


@int8
def test_another_width_or_depth_is_another_graph(int8: bool, tmp_path: Path) -> None:
    nets = [Espcn(width=8), Espcn(width=12), Espcn(depth=3)]
    assert len({digest(net, tmp_path, int8=int8) for net in nets}) == 3


def test_int8_is_another_graph_than_float(tmp_path: Path) -> None:
    assert digest(Espcn(), tmp_path, int8=True) != digest(Espcn(), tmp_path, int8=False)


class Sized(nn.Module):
    """Convolutions around an image that is made larger: by a factor, by a border, to a multiple, or
    to a size.
    """

    def __init__(self, how: str, by: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)
        self.how = how
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.larger(self.first(x)))
        return found

    def larger(self, image: Tensor) -> Tensor:
        if self.how == "Resize":
            return F.interpolate(image, scale_factor=self.by, mode="nearest")
        if self.how == "Pad":
            return F.pad(image, (self.by,) * 4)
        height, width = image.shape[2:]
        if self.how == "Pad to a multiple":
            return F.pad(image, (0, -width % self.by, 0, -height % self.by))
        return F.interpolate(image, size=(height * self.by, width * self.by), mode="nearest")


@int8
@pytest.mark.parametrize("how", ["Resize", "Pad", "Pad to a multiple", "Resize to a size"])
def test_another_size_of_a_resize_or_pad_is_another_graph(
    how: str, int8: bool, tmp_path: Path
) -> None:
    """The weights have the same shapes: the sizes alone tell which file takes longer."""
    found = {digest(drawn(Sized, 0, how=how, by=by), tmp_path, int8=int8) for by in (4, 8)}
    assert len(found) == 2
