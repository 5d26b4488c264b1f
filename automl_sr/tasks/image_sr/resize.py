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

_KERNEL_WIDTH = 4.0
# Sums that are a half in exact arithmetic come out as 0.49999999999999 or 0.5 by the order of
# summation (x3 kernels are multiples of 1/162, so this happens). Far above float64 noise, far below
# the distance between two possible sums.
_HALF_UP = 0.5 + 1e-9


def imresize(image: NDArray[np.uint8], target: float | tuple[int, int]) -> NDArray[np.uint8]:
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
        result = np.floor(np.clip(filtered, 0.0, 255.0) + _HALF_UP).astype(np.uint8)
    return result


def imresize_float(
    image: NDArray[np.floating], target: float | tuple[int, int]
) -> NDArray[np.float64]:
    """Resize as MATLAB's `imresize` does for double images: no rounding, no clipping. [H, W, C] or
    [H, W].
    """
    result = np.asarray(image, dtype=np.float64)
    for axis, length, scale in _passes(image.shape, target):
        result = _resize_axis(result, axis, length, scale)
    return result


def crop_to_multiple(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Cut [H, W, ...] at the right and bottom to the largest multiple of `scale` (px).

    Returns a view.
    """
    height, width = image.shape[:2]
    if scale < 1 or height < scale or width < scale:
        raise DataError(
            f"An image of {width}x{height} pixels has no multiple of scale {scale}.",
            "Scales are whole numbers from 1; both sides must be at least the scale.",
        )
    return image[: height - height % scale, : width - width % scale]


def downscale(hr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """LR image of an HR image [sH, sW, C] -> [H, W, C]: MATLAB's uint8 bicubic; sides must be
    multiples of `scale`.
    """
    height, width = hr.shape[:2]
    if height % scale or width % scale:
        raise DataError(
            f"An HR image of {width}x{height} pixels cannot be reduced by {scale}.",
            "Cut it to a multiple of the scale first (crop_to_multiple).",
        )
    return imresize(hr, (height // scale, width // scale))


def upscale(lr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Bicubic enlargement [H, W, C] -> [sH, sW, C]: the baseline of every results table, MATLAB's
    uint8 recipe.
    """
    height, width = lr.shape[:2]
    return imresize(lr, (height * scale, width * scale))


def _passes(
    shape: tuple[int, ...], target: float | tuple[int, int]
) -> list[tuple[int, int, float]]:
    """(axis, new length, scale) of the two passes, in MATLAB's order."""
    if isinstance(target, tuple):
        sizes = (int(target[0]), int(target[1]))
        scales = (sizes[0] / shape[0], sizes[1] / shape[1])
    else:
        # 1e-9: 3 * (1/3) may be a hair above 1, and MATLAB's own ceil would then add a pixel.
        sizes = (int(np.ceil(shape[0] * target - 1e-9)), int(np.ceil(shape[1] * target - 1e-9)))
        scales = (float(target), float(target))
    if min(sizes) < 1:
        raise DataError(f"Cannot resize {shape[1]}x{shape[0]} pixels to {sizes[1]}x{sizes[0]}.")
    if scales[0] <= scales[1]:
        order = (0, 1)
    else:
        order = (1, 0)
    found: list[tuple[int, int, float]] = []
    for axis in order:
        found.append((axis, sizes[axis], scales[axis]))
    return found


def _resize_axis(
    image: NDArray[np.generic], axis: int, length: int, scale: float
) -> NDArray[np.float64]:
    """Filter one axis; loops over the kernel's taps (4 to about 4/scale + 2), never over pixels."""
    weights, indices = _contributions(image.shape[axis], length, scale)
    shape = [1] * image.ndim
    shape[axis] = length
    result = np.zeros((*image.shape[:axis], length, *image.shape[axis + 1 :]), dtype=np.float64)
    for tap in range(weights.shape[1]):
        result += np.take(image, indices[:, tap], axis=axis) * weights[:, tap].reshape(shape)
    return result


@lru_cache(maxsize=256)
def _contributions(
    old: int, new: int, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Weights [new, taps] and source indices [new, taps] of one axis, as MATLAB's `contributions`
    makes them.
    """
    shrink = min(scale, 1.0)
    width = _KERNEL_WIDTH / shrink
    centre = (np.arange(new, dtype=np.float64) + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2).astype(np.intp)
    positions = first[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = _cubic((centre[:, None] - positions) * shrink)
    weights /= weights.sum(axis=1, keepdims=True)
    # Symmetric border with period 2 * old: ... 1 0 | 0 1 ... n-1 | n-1 n-2 ...
    folded = np.mod(positions, 2 * old)
    indices = np.where(folded < old, folded, 2 * old - 1 - folded)
    used = np.any(weights != 0.0, axis=0)
    return weights[:, used], indices[:, used]


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic with a = -0.5, zero from |x| = 2 on."""
    near = np.abs(x)
    inner = (1.5 * near - 2.5) * near**2 + 1.0
    outer = ((-0.5 * near + 2.5) * near - 4.0) * near + 2.0
    return np.where(near <= 1.0, inner, np.where(near < 2.0, outer, 0.0))
