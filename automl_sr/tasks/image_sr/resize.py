"""MATLAB's imresize with the bicubic kernel: how the field makes its low-resolution images.

Kernel: Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 1981, with
a = -0.5; widened when shrinking (anti-aliasing), symmetric border. MATLAB stores uint8 between the
two passes; leaving that rounding out changes up to 15 % of the values. Neither Pillow's, OpenCV's
nor torch's bicubic filter gives these pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from automl_sr.errors import DataError

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Target = float | tuple[int, int]
"""A scale factor, or (height, width) in pixels."""

_KERNEL_WIDTH = 4.0
# Sums that are a half in exact arithmetic come out as 0.49999999999999 or 0.5 by the order of
# summation (x3 kernels are multiples of 1/162, so this happens). Far above float64 noise, far below
# the distance between two possible sums.
_HALF_UP = 0.5 + 1e-9


def imresize(
    image: NDArray[np.uint8],
    target: float | tuple[int, int],
) -> NDArray[np.uint8]:
    """Resize as MATLAB's `imresize(image, target, 'bicubic')` does for uint8, bit for bit.

    image [H, W, C] or [H, W]; target: a scale factor, or (height, width) in pixels. Each pass is
    rounded half up and clipped to uint8; the axis that shrinks most goes first, height first where
    both are equal.
    """
    if image.dtype != np.uint8:
        raise DataError(
            f"imresize works on uint8 images, got {image.dtype}.",
            "Use imresize_float for float images.",
        )
    result = image
    for axis, length, scale in _passes(image.shape, target):
        filtered = _resize_axis(result, axis, length, scale)
        clipped = np.clip(filtered, 0.0, 255.0)
        rounded = np.floor(clipped + _HALF_UP)
        result = rounded.astype(np.uint8)
    return result


def imresize_float(image: NDArray[np.floating], target: Target) -> Floats:
    """Resize as MATLAB's `imresize` does for double images: no rounding, no clipping.

    image [H, W, C] or [H, W].
    """
    result = np.asarray(image, dtype=np.float64)
    for axis, length, scale in _passes(image.shape, target):
        result = _resize_axis(result, axis, length, scale)
    return result


def crop_to_multiple(image: Image, scale: int) -> Image:
    """Cut [H, W, ...] at the right and bottom to the largest multiple of `scale` (px).

    Returns a view.
    """
    height, width = image.shape[:2]
    if scale < 1 or height < scale or width < scale:
        raise DataError(
            f"An image of {width}x{height} pixels has no multiple of scale {scale}.",
            "Scales are whole numbers from 1; both sides must be at least the scale.",
        )
    bottom = height - height % scale
    right = width - width % scale
    return image[:bottom, :right]


def downscale(hr: Image, scale: int) -> Image:
    """Return the LR image [H, W, C] of an HR image [sH, sW, C] by MATLAB's uint8 bicubic.

    Sides must be multiples of `scale`.
    """
    height, width = hr.shape[:2]
    if height % scale or width % scale:
        raise DataError(
            f"An HR image of {width}x{height} pixels cannot be reduced by {scale}.",
            "Cut it to a multiple of the scale first (crop_to_multiple).",
        )
    size = (height // scale, width // scale)
    return imresize(hr, size)


def upscale(lr: Image, scale: int) -> Image:
    """Return the bicubic enlargement [sH, sW, C] of [H, W, C] by MATLAB's uint8 recipe.

    It is the baseline of every results table.
    """
    height, width = lr.shape[:2]
    size = (height * scale, width * scale)
    return imresize(lr, size)


def _passes(
    shape: tuple[int, ...],
    target: Target,
) -> list[tuple[int, int, float]]:
    """Return (axis, new length, scale) of the two passes, in MATLAB's order."""
    height, width = shape[:2]
    if isinstance(target, tuple):
        high, wide = (int(side) for side in target)
        scales = [high / height, wide / width]
    else:
        high = _scaled(height, target)
        wide = _scaled(width, target)
        scales = [float(target)] * 2
    if min(high, wide) < 1:
        raise DataError(f"Cannot resize {width}x{height} pixels to {wide}x{high}.")

    # The order matters: what is rounded after the first pass differs.
    down = (0, high, scales[0])
    right = (1, wide, scales[1])
    if scales[0] > scales[1]:
        return [right, down]
    return [down, right]


def _scaled(length: int, scale: float) -> int:
    # 1e-9: 3 * (1/3) may be a hair above 1, and MATLAB's own ceil would then add a pixel.
    return int(np.ceil(length * scale - 1e-9))


def _resize_axis(
    image: NDArray[np.generic],
    axis: int,
    length: int,
    scale: float,
) -> Floats:
    """Filter one axis; loops over the kernel's taps (4 to about 4/scale + 2), never over pixels."""
    sizes = list(image.shape)
    weights, indices = _contributions(sizes[axis], length, scale)
    # So shaped, a weight for each place of the axis spreads over all others.
    spread = [1] * image.ndim
    spread[axis] = length

    sizes[axis] = length
    result = np.zeros(sizes, dtype=np.float64)
    for tap in range(weights.shape[1]):
        places = indices[:, tap]
        pixels = np.take(image, places, axis=axis)
        weight = weights[:, tap].reshape(spread)
        result += pixels * weight
    return result


@lru_cache(maxsize=256)
def _contributions(
    old: int,
    new: int,
    scale: float,
) -> tuple[Floats, NDArray[np.intp]]:
    """Return weights and source indices of one axis, both [new, taps].

    They are as MATLAB's `contributions` makes them.
    """
    # The kernel is widened where the axis shrinks, and as it is where it grows.
    shrink = min(scale, 1.0)
    width = _KERNEL_WIDTH / shrink
    pixels = np.arange(new, dtype=np.float64)
    centre = (pixels + 0.5) / scale - 0.5

    edge = np.floor(centre - width / 2)
    first = edge.astype(np.intp)
    reach = int(np.ceil(width)) + 2
    taps = np.arange(reach)
    positions = first[:, None] + taps
    distances = centre[:, None] - positions
    weights = _cubic(distances * shrink)
    weights /= weights.sum(axis=1, keepdims=True)

    # Symmetric border with period 2 * old: ... 1 0 | 0 1 ... n-1 | n-1 n-2 ...
    folded = np.mod(positions, 2 * old)
    mirrored = 2 * old - 1 - folded
    indices = np.where(folded < old, folded, mirrored)

    used = np.any(weights != 0.0, axis=0)
    return weights[:, used], indices[:, used]


def _cubic(x: Floats) -> Floats:
    """Return Keys' cubic with a = -0.5, zero from |x| = 2 on."""
    near = np.abs(x)
    inner = 1.5 * near - 2.5
    inner = inner * near**2 + 1.0
    outer = -0.5 * near + 2.5
    outer = outer * near - 4.0
    outer = outer * near + 2.0
    tail = np.where(near < 2.0, outer, 0.0)
    return np.where(near <= 1.0, inner, tail)
