"""PSNR and SSIM as the super-resolution literature reports them.

An image is RGB [H, W, 3] or, from a model that works on luma, Y [H, W] or [H, W, 1] in BT.601's
16..235; values lie in 0..255, uint8 or floating point. `scale` pixels are cut from every side of
both images before comparing. The value of a set is the mean of its images' values, never the value
of a pooled error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_sr.errors import DataError
from automl_sr.tasks.image_sr.luma import LUMA_OFFSET, LUMA_WEIGHTS

Image = NDArray[Any]
Plane = NDArray[np.float64]

PEAK = 255.0
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def rgb_to_y(rgb: Image) -> Plane:
    """Convert RGB [H, W, 3] in 0..255 to BT.601 luma [H, W] in 16..235, not rounded (as MATLAB's
    rgb2ycbcr on floats).

    Rounding Y would move PSNR by 0.01 to 0.09 dB.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise DataError(f"Luma needs an image of shape [H, W, 3], not {list(rgb.shape)}.")
    luma: Plane = rgb.astype(np.float64) @ np.array(LUMA_WEIGHTS) + LUMA_OFFSET
    return luma


def psnr(a: Image, b: Image, scale: int = 0) -> float:
    """Return the peak signal-to-noise ratio in dB of two images of equal shape; infinity where they
    are equal.
    """
    first, second = _cropped(a, b, scale)
    mse = float(np.mean(np.square(first - second)))
    if mse == 0:
        return math.inf
    return 10.0 * math.log10(PEAK**2 / mse)


def psnr_y(prediction: Image, truth: Image, scale: int) -> float:
    """Return the PSNR in dB on luma; each image is RGB or already Y."""
    return psnr(_luma(prediction), _luma(truth), scale)


def psnr_rgb(prediction: Image, truth: Image, scale: int) -> float:
    """Return the PSNR in dB over the three colour channels together."""
    for image in (prediction, truth):
        if image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"psnr_rgb needs images of shape [H, W, 3], not {list(image.shape)}.")
    return psnr(prediction, truth, scale)


def ssim_y(prediction: Image, truth: Image, scale: int) -> float:
    """Return the structural similarity on luma (Wang et al., TIP 2004): 'valid' places of an 11x11
    Gaussian window.
    """
    return ssim(_luma(prediction), _luma(truth), scale)


def ssim(a: Image, b: Image, scale: int = 0) -> float:
    """Return the structural similarity of two planes [H, W] in 0..255; raises DataError below 11x11
    pixels.
    """
    first, second = _cropped(a, b, scale)
    if first.ndim != 2 or min(first.shape) < SSIM_WINDOW:
        raise DataError(
            "SSIM needs planes of at least 11x11 pixels inside the borders, not"
            f" {list(first.shape)}."
        )
    mean_a, mean_b, squares, product = _smooth(
        np.stack([first, second, first**2 + second**2, first * second])
    )
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    # Only the sum of the two variances occurs in SSIM, so that their squares are smoothed together.
    mean_product = mean_a * mean_b
    mean_squares = mean_a**2 + mean_b**2
    similarity = (2 * mean_product + c1) * (2 * (product - mean_product) + c2)
    similarity /= (mean_squares + c1) * (squares - mean_squares + c2)
    return float(similarity.mean())


def _luma(image: Image) -> Image:
    if image.ndim == 2:
        return image
    if image.ndim == 3 and image.shape[2] == 1:
        return image[:, :, 0]
    return rgb_to_y(image)


def _cropped(a: Image, b: Image, scale: int) -> tuple[Plane, Plane]:
    if a.shape != b.shape:
        shapes = f"{list(a.shape)} and {list(b.shape)}"
        raise DataError(f"The two images differ in shape: {shapes}.", "Cut both to equal sizes.")
    height, width = a.shape[:2]
    if min(height, width) <= 2 * scale:
        raise DataError(
            f"Nothing is left of {width}x{height} pixels after cutting {scale} from every side."
        )
    inside = (slice(scale, height - scale), slice(scale, width - scale))
    return a[inside].astype(np.float64), b[inside].astype(np.float64)


def _smooth(planes: Plane) -> Plane:
    """Filter planes [N, H, W] with the separable Gaussian window; only positions where it fits
    inside remain.
    """
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        planes = _filter(planes, kernel, axis)
    return planes


def _filter(planes: Plane, kernel: Plane, axis: int) -> Plane:
    taps = len(kernel)
    length = planes.shape[axis] - taps + 1
    middle = taps // 2

    def shifted(start: int) -> Plane:
        window = (slice(None),) * axis + (slice(start, start + length),)
        return planes[window]

    total: Plane = shifted(middle) * kernel[middle]
    for tap in range(middle):  # the kernel is symmetric: one multiplication serves two taps
        pair = shifted(tap) + shifted(taps - 1 - tap)
        pair *= kernel[tap]
        total += pair
    return total
