"""Grids of equally spaced values, to which weights are rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.api import Layer

MOST_BITS = 16
Per = Literal["tensor", "channel"]


@dataclass(frozen=True)
class Grid:
    """The values low * scale, (low + 1) * scale, ..., high * scale, which so many bits number.

    `scale` has one number, or one for each output channel in a shape that is broadcast over the
    weight.
    """

    bits: int
    scale: Tensor
    low: int
    high: int

    def codes(self, weight: Tensor) -> Tensor:
        """Return the number of the nearest value; halves are rounded to even ones."""
        return (weight / self.scale).round().clamp(self.low, self.high)

    def round(self, weight: Tensor) -> Tensor:
        """Return the nearest value of the grid, of the shape of the weight."""
        return self.codes(weight) * self.scale


def scaled_integers(weight: Tensor, bits: int, per: Per, axis: int) -> Grid:
    """Return integers from -(2^(b-1) - 1) to 2^(b-1) - 1, scaled so that the largest weight fits.

    They are symmetric: zero stays zero. `axis` is that of the output channels.
    """
    high = 2 ** (bits - 1) - 1
    scale = _largest(weight, per, axis) / high
    # What is zero everywhere is so with any scale.
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return Grid(bits, scale, -high, high)


def plain_integers(bits: int) -> Grid:
    """Return the integers themselves: Q(x) = round(x)."""
    high = 2 ** (bits - 1) - 1
    return Grid(bits, torch.ones(1), -high, high)


def binary_point(weight: Tensor, bits: int, per: Per, axis: int) -> Grid:
    """Return a word of so many bits whose binary point lies where the largest weight needs it.

    m = ceil(log2(max|x|)) + 1 bits stand before the point, the sign among them, and the others
    behind it. m is negative where all weights are small.
    """
    whole = _whole_bits(_largest(weight, per, axis))
    scale = torch.exp2(whole - bits)
    return Grid(bits, scale, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def set_point(weight: Tensor, fraction_bits: int) -> Grid:
    """Return the grid with a step of 2^-k, with as many bits as the largest weight needs.

    There are at most 16: a tensor that would need more gets fewer bits behind the point.
    """
    largest = _largest(weight, "tensor", 0)
    whole = int(_whole_bits(largest).item())
    bits = max(2, whole + fraction_bits)
    if bits > MOST_BITS:
        fraction_bits = MOST_BITS - whole
        bits = MOST_BITS
    scale = torch.full((1,), 2.0**-fraction_bits)
    return Grid(bits, scale, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def bits_by_layer(
    found: Sequence[Layer],
    first: int,
    body: Sequence[int],
    last: int,
) -> dict[str, int]:
    """Return the bits of each layer, by the name of its weight.

    `body` has one number for each part of the body; its layers are divided in order. A layer that
    is first and last gets the more of both.
    """
    bits: dict[str, int] = {}
    inner: list[str] = []
    for layer in found:
        at_ends = []
        if "first" in layer.roles:
            at_ends.append(first)
        if "last" in layer.roles:
            at_ends.append(last)
        if at_ends:
            bits[layer.weight] = max(at_ends)
        else:
            inner.append(layer.weight)

    for place, name in enumerate(inner):
        part = math.floor(place * len(body) / len(inner))
        bits[name] = body[part]
    return bits


def _largest(weight: Tensor, per: Per, axis: int) -> Tensor:
    """Return the largest absolute value: [1], or one a channel in a shape to broadcast."""
    if per == "tensor":
        return weight.abs().max().reshape(1)
    others = [place for place in range(weight.dim()) if place != axis]
    return weight.abs().amax(others, keepdim=True)


def _whole_bits(largest: Tensor) -> Tensor:
    """Return how many bits stand before the binary point; 1, the sign, where all is zero."""
    ones = torch.ones_like(largest)
    some = torch.where(largest > 0, largest, ones)
    return torch.ceil(torch.log2(some)) + 1
