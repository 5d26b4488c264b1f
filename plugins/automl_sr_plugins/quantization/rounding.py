"""Rounding to a grid in the forward pass, with gradients for the values and for the grid.

Torch has such a function, `_fake_quantize_learnable_per_tensor_affine`. On a CPU it goes through
memory several times, which takes as long as the convolution between two roundings; here it is done
in parts that stay in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEVELS = 255
"""The largest number of eight bits."""
PART = 65_536
"""So many values are rounded at a time on a CPU: with what is in between they fit its cache."""


class RoundedMap(torch.autograd.Function):
    """Round a map to 256 values: scale * (0 - zero), ..., scale * (255 - zero).

    Gradients pass where the value lies within the range, and are zero outside. Those of scale and
    zero point are LSQ's and LSQ+'s (Esser et al., ICLR 2020; Bhalgat et al., CVPRW 2020): within
    the range the scale gets the rounding error in steps, outside of it the bound.
    """

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        scale: Tensor,
        zero: Tensor,
        step: float,
        offset: int,
        factor: float,
    ) -> Tensor:
        """Return the rounded map, in the layout and number format of the map.

        `step` and `offset` are the numbers in scale and zero, read once for all maps of a pass.
        `factor` multiplies the gradients of both.
        """
        value = _dense(value)
        rounded = torch.empty_like(value)
        size = _part(value)
        buffer = torch.empty(size, device=value.device)
        for source, target in zip(_parts(value, size), _parts(rounded, size), strict=True):
            steps = buffer[: len(source)]
            steps.copy_(source)
            steps.mul_(1 / step).round_().clamp_(-offset, LEVELS - offset).mul_(step)
            target.copy_(steps)
        # Nothing else: what lies in between is worked out once more.
        ctx.save_for_backward(value)
        ctx.grid = (step, offset, factor)
        return rounded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the map, its scale and its zero point."""
        (value,) = ctx.saved_tensors
        step, offset, factor = ctx.grid
        if gradient.stride() != value.stride():
            gradient = torch.empty_like(value).copy_(gradient)
        passed = torch.empty_like(value)

        size = _part(value)
        buffers = torch.empty(4, size, device=value.device)
        sources = _parts(value, size)
        # One number of each kind for each part, written where it is added up.
        sums = torch.empty(4, len(sources), device=value.device)
        parts = zip(
            sources,
            _parts(gradient, size),
            _parts(passed, size),
            sums.unbind(1),
            strict=True,
        )
        for source, given, target, summed in parts:
            steps, codes, within, arriving = buffers[:, : len(source)]
            arriving.copy_(given)
            steps.copy_(source)
            steps.mul_(1 / step)
            # In one go what a mask would take three for: it passes within these bounds.
            torch.ops.aten.hardtanh_backward.grad_input(
                arriving,
                steps,
                -offset - 0.5,
                LEVELS - offset + 0.5,
                grad_input=within,
            )
            torch.round(steps, out=codes)
            codes.clamp_(-offset, LEVELS - offset)
            target.copy_(within)

            of_codes, of_steps, all_of_it, inside = summed
            torch.dot(arriving, codes, out=of_codes)
            torch.dot(within, steps, out=of_steps)
            torch.sum(arriving, 0, out=all_of_it)
            torch.sum(within, 0, out=inside)

        of_codes, of_steps, all_of_it, inside = sums.sum(1)
        scale_gradient = ((of_codes - of_steps) * factor).reshape(1)
        zero_gradient = ((inside - all_of_it) * (step * factor)).reshape(1)
        return passed, scale_gradient, zero_gradient, None, None, None


def _dense(value: Tensor) -> Tensor:
    """Return a map that fills its memory without gaps, in one of the two layouts of images."""
    if value.is_contiguous():
        return value
    if value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last):
        return value
    return value.contiguous()


def _part(value: Tensor) -> int:
    if value.device.type == "cpu":
        return min(PART, value.numel())
    return value.numel()


def _parts(value: Tensor, size: int) -> tuple[Tensor, ...]:
    """Divide the memory of a dense map."""
    flat = value.as_strided((value.numel(),), (1,))
    parts: tuple[Tensor, ...] = torch.split(flat, size)
    return parts
