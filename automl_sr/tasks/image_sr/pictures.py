"""What models make of an image, side by side: the square with the most detail, cut from every
enlargement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from automl_sr.plugin.task import Example, Piece
from automl_sr.tasks.image_sr.image_model import network_output, with_chroma
from automl_sr.tasks.image_sr.quality import psnr_y
from automl_sr.tasks.image_sr.resize import upscale

if TYPE_CHECKING:
    from automl_sr.tasks.image_sr.image_model import ImageModel
    from automl_sr.tasks.image_sr.samples import Pair

Image = NDArray[np.uint8]
SIDE = 128
"""Side of a cut in pixels: 16 of them, kept without loss, are about half a megabyte."""


def example(pair: Pair, scale: int, models: Mapping[str, ImageModel]) -> Example:
    """Cut the same piece from the original and from every enlargement; PSNR is that of the whole
    image.
    """
    top, left, height, width = liveliest(pair.hr, SIDE - SIDE % scale, scale)

    def cut(image: Image) -> Image:
        return image[top : top + height, left : left + width]

    bicubic = upscale(pair.lr, scale)
    pieces = [
        Piece("original", cut(pair.hr), values={"psnr_y": None}),
        _measured("bicubic", cut(bicubic), psnr_y(bicubic, pair.hr, scale)),
    ]
    for name, model in models.items():
        output = network_output(model, pair.lr)
        if output.ndim == 2:
            enlarged = with_chroma(output, pair.lr)
        else:
            enlarged = output
        pieces.append(_measured(name, cut(enlarged), psnr_y(output, pair.hr, scale), runner=name))
    about = {"cut": {"top": top, "left": left, "height": height, "width": width}}
    return Example(pair.name, tuple(pieces), about)


def _measured(what: str, picture: Image, value: float, runner: str | None = None) -> Piece:
    return Piece(what, picture, runner=runner, values={"psnr_y": value}, note=f"{value:.2f} dB")


def liveliest(image: Image, side: int, scale: int) -> tuple[int, int, int, int]:
    """Find the square with the most detail: (top, left, height, width), on multiples of the
    scale.
    """
    height, width = min(side, image.shape[0]), min(side, image.shape[1])
    grey = image.mean(axis=2)
    detail = np.zeros(grey.shape)
    detail[1:] += np.abs(np.diff(grey, axis=0))
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    sums = np.zeros((grey.shape[0] + 1, grey.shape[1] + 1))
    sums[1:, 1:] = detail.cumsum(axis=0).cumsum(axis=1)
    tops = np.arange(0, grey.shape[0] - height + 1, 4 * scale)
    lefts = np.arange(0, grey.shape[1] - width + 1, 4 * scale)
    inside = (
        sums[tops[:, None] + height, lefts + width]
        - sums[tops[:, None], lefts + width]
        - sums[tops[:, None] + height, lefts]
        + sums[tops[:, None], lefts]
    )
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(tops[row]), int(lefts[column]), height, width
