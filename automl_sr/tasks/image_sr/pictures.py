"""What models make of an image, side by side.

The square with the most detail is cut from every enlargement.
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


def example(
    pair: Pair,
    scale: int,
    models: Mapping[str, ImageModel],
) -> Example:
    """Cut the same piece from the original and from every enlargement.

    PSNR is that of the whole image.
    """
    # A multiple of the scale: the piece then begins and ends on pixels of the LR image.
    side = SIDE - SIDE % scale
    place = liveliest(pair.hr, side, scale)
    bicubic = upscale(pair.lr, scale)
    pieces = [
        Piece(
            "original",
            _cut(pair.hr, place),
            values={"psnr_y": None},
        ),
        _measured(
            "bicubic",
            _cut(bicubic, place),
            psnr_y(bicubic, pair.hr, scale),
        ),
    ]

    for name, model in models.items():
        output = network_output(model, pair.lr)
        enlarged = output
        if output.ndim == 2:
            enlarged = with_chroma(output, pair.lr)
        # Of the output: luma that goes to RGB and back is rounded once more.
        value = psnr_y(output, pair.hr, scale)
        piece = _measured(name, _cut(enlarged, place), value, runner=name)
        pieces.append(piece)

    top, left, height, width = place
    cut = {
        "top": top,
        "left": left,
        "height": height,
        "width": width,
    }
    return Example(pair.name, tuple(pieces), {"cut": cut})


def _cut(image: Image, place: tuple[int, int, int, int]) -> Image:
    top, left, height, width = place
    bottom = top + height
    right = left + width
    return image[top:bottom, left:right]


def _measured(
    what: str,
    picture: Image,
    value: float,
    runner: str | None = None,
) -> Piece:
    return Piece(
        what,
        picture,
        runner=runner,
        values={"psnr_y": value},
        note=f"{value:.2f} dB",
    )


def liveliest(
    image: Image,
    side: int,
    scale: int,
) -> tuple[int, int, int, int]:
    """Find the square with the most detail, on multiples of the scale.

    Returns (top, left, height, width).
    """
    rows, columns = image.shape[:2]
    height = min(side, rows)
    width = min(side, columns)
    sums = _sums(_detail(image))

    stride = 4 * scale
    tops = np.arange(0, rows - height + 1, stride)
    lefts = np.arange(0, columns - width + 1, stride)
    above = tops[:, None]
    below = above + height
    rights = lefts + width
    # What a rectangle holds follows from the sums at its four corners.
    inside = sums[below, rights]
    inside = inside - sums[above, rights]
    inside = inside - sums[below, lefts]
    inside = inside + sums[above, lefts]

    best = int(inside.argmax())
    row, column = np.unravel_index(best, inside.shape)
    top = int(tops[row])
    left = int(lefts[column])
    return top, left, height, width


def _detail(image: Image) -> NDArray[np.float64]:
    """Return how much each pixel [H, W] differs from those above and to the left."""
    grey = image.mean(axis=2)
    detail = np.zeros(grey.shape)
    down = np.diff(grey, axis=0)
    detail[1:] += np.abs(down)
    right = np.diff(grey, axis=1)
    detail[:, 1:] += np.abs(right)
    return detail


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums [H+1, W+1] of all that lies above and to the left of each corner."""
    rows, columns = values.shape
    sums = np.zeros((rows + 1, columns + 1))
    by_column = values.cumsum(axis=0)
    sums[1:, 1:] = by_column.cumsum(axis=1)
    return sums
