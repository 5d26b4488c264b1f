"""Sizes that nets of the literature do not take as they are: images that are too small, and pooling
to a share of the sides.

What is exported may depend on no size as a Python number, so that one file takes all of them: while
a net is traced, places are computed by the graph itself.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional


def at_least(image: Tensor, side: int) -> Tensor:
    """Repeat the last row and the last column of [B, c, h, w] until both sides have `side` px."""
    for axis in (2, 3):
        image = _extended(image, axis, side)
    return image


def cut_to(output: Tensor, image: Tensor, scale: int) -> Tensor:
    """Cut an output to `scale` times the size of the image that was extended for it."""
    height, width = image.shape[2] * scale, image.shape[3] * scale
    return output[:, :, :height, :width]


class Share:
    """Pooling to a share of the sides of an image [B, c, h, w], and enlarging back from it.

    The bins are those of `adaptive_max_pool2d`, which the exporter writes for fixed sizes alone. A
    bin has at most `2 * share` rows: it is gathered with its last row repeated up to that number,
    and the maximum of what was gathered is that of the bin.

    Enlarging takes the nearest value. ONNX Runtime divides by the quotient of the sides where torch
    multiplies by it, and takes a neighbour for some places of sides that are no multiples of the
    share; whole numbers are right in both.
    """

    def __init__(self, image: Tensor, share: int) -> None:
        self.share = share
        self.sides = image.shape[2:]
        self.traced = _is_traced()
        if self.traced:  # once for all layers of a net: the graph stays small; sides are tensors
            counts = [_quotient(cast("Tensor", side), share) for side in self.sides]
            pairs = list(zip(self.sides, counts, strict=True))
            self.bins = [_bins(side, count, 2 * share) for side, count in pairs]
            self.nearest = [_quotient(_up_to(side) * count, side) for side, count in pairs]

    def pool(self, maps: Tensor) -> Tensor:
        """Pool [B, c, h, w] to [B, c, h // share, w // share] by maxima."""
        if not self.traced:
            height, width = (side // self.share for side in self.sides)
            return functional.adaptive_max_pool2d(maps, (height, width))
        for axis, places in zip((2, 3), self.bins, strict=True):
            gathered = maps.index_select(axis, places)
            before, after = gathered.shape[:axis], gathered.shape[axis + 1 :]
            # Not `unflatten`, which the exporter writes for fixed sizes alone.
            maps = gathered.reshape(*before, -1, 2 * self.share, *after).amax(axis + 1)
        return maps

    def enlarge(self, maps: Tensor) -> Tensor:
        """Enlarge [B, c, h // share, w // share] to [B, c, h, w] by the nearest value."""
        if not self.traced:
            return functional.interpolate(maps, size=self.sides, mode="nearest")
        rows, columns = self.nearest
        return maps.index_select(3, columns).index_select(2, rows)  # rows are copied as a whole


def _extended(image: Tensor, axis: int, side: int) -> Tensor:
    length = image.shape[axis]
    if _is_traced():
        # Sizes are tensors then.
        wanted = cast("Tensor", length).clamp(min=side)
        return image.index_select(axis, _up_to(wanted).clamp(max=length - 1))
    if length >= side:
        return image
    places = torch.arange(side, device=image.device).clamp(max=length - 1)
    return image.index_select(axis, places)


def _bins(length: int, count: Tensor, most: int) -> Tensor:
    """Return the places of all bins, `most` for each: [count * most]."""
    numbers = _up_to(count)
    starts = _quotient(numbers * length, count)
    ends = _quotient((numbers + 1) * length + count - 1, count)
    places: Tensor = torch.minimum(starts[:, None] + _up_to(most), ends[:, None] - 1)
    return places.flatten()


def _up_to(count: Any) -> Tensor:
    """Count from 0; `count` is a tensor where sizes are traced."""
    numbers: Tensor = torch.arange(count)
    return numbers


def _is_traced() -> bool:
    """Say whether torch records what is computed, as it does to export a net."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _quotient(number: Tensor, divisor: Tensor | int) -> Tensor:
    return torch.div(number, divisor, rounding_mode="trunc")
