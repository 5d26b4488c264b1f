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
SSIM_C1 = (0.01 * PEAK) ** 2  # the constants of the paper, which keep flat places finite
SSIM_C2 = (0.03 * PEAK) ** 2


def rgb_to_y(rgb: Image) -> Plane:
    """Convert RGB [H, W, 3] in 0..255 to BT.601 luma [H, W] in 16..235.

    As MATLAB's rgb2ycbcr on floats, it does not round.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise DataError(f"Luma needs an image of shape [H, W, 3], not {list(rgb.shape)}.")
    # Rounding Y would move PSNR by 0.01 to 0.09 dB.
    values = rgb.astype(np.float64)
    weights = np.array(LUMA_WEIGHTS)
    luma: Plane = values @ weights + LUMA_OFFSET
    return luma


def psnr(
    a: Image,
    b: Image,
    scale: int = 0,
) -> float:
    """Return the peak signal-to-noise ratio in dB of two images of equal shape.

    It is infinity where they are equal.
    """
    first, second = _cropped(a, b, scale)
    squares = np.square(first - second)
    mse = float(np.mean(squares))
    if mse == 0:
        return math.inf
    ratio = PEAK**2 / mse
    return 10.0 * math.log10(ratio)


def psnr_y(
    prediction: Image,
    truth: Image,
    scale: int,
) -> float:
    """Return the PSNR in dB on luma; each image is RGB or already Y."""
    first = _luma(prediction)
    second = _luma(truth)
    return psnr(first, second, scale)


def psnr_rgb(
    prediction: Image,
    truth: Image,
    scale: int,
) -> float:
    """Return the PSNR in dB over the three colour channels together."""
    for image in (prediction, truth):
        if image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"psnr_rgb needs images of shape [H, W, 3], not {list(image.shape)}.")
    return psnr(prediction, truth, scale)


def ssim_y(
    prediction: Image,
    truth: Image,
    scale: int,
) -> float:
    """Return the structural similarity on luma, at the 'valid' places of an 11x11 Gaussian window.

    Source: Wang et al., TIP 2004.
    """
    first = _luma(prediction)
    second = _luma(truth)
    return ssim(first, second, scale)


def ssim(
    a: Image,
    b: Image,
    scale: int = 0,
) -> float:
    """Return the structural similarity of two planes [H, W] in 0..255.

    Raises DataError below 11x11 pixels.
    """
    first, second = _cropped(a, b, scale)
    if first.ndim != 2 or min(first.shape) < SSIM_WINDOW:
        raise DataError(
            "SSIM needs planes of at least 11x11 pixels inside the borders, not"
            f" {list(first.shape)}."
        )

    # Only the sum of the two variances occurs in SSIM, so that their squares are smoothed together.
    both_squares = first**2 + second**2
    planes = np.stack([first, second, both_squares, first * second])
    mean_a, mean_b, squares, product = _smooth(planes)

    mean_product = mean_a * mean_b
    mean_squares = mean_a**2 + mean_b**2
    covariance = product - mean_product
    variances = squares - mean_squares
    alike = (2 * mean_product + SSIM_C1) * (2 * covariance + SSIM_C2)
    most = (mean_squares + SSIM_C1) * (variances + SSIM_C2)
    similarity = alike / most
    return float(similarity.mean())


def _luma(image: Image) -> Image:
    if image.ndim == 2:
        return image
    if image.ndim == 3 and image.shape[2] == 1:
        return image[:, :, 0]
    return rgb_to_y(image)


def _cropped(
    a: Image,
    b: Image,
    scale: int,
) -> tuple[Plane, Plane]:
    """Return both images without `scale` pixels of their borders."""
    if a.shape != b.shape:
        raise DataError(
            f"The two images differ in shape: {list(a.shape)} and {list(b.shape)}.",
            "Cut both to equal sizes.",
        )
    height, width = a.shape[:2]
    if min(height, width) <= 2 * scale:
        raise DataError(
            f"Nothing is left of {width}x{height} pixels after cutting {scale} from every side."
        )
    rows = slice(scale, height - scale)
    columns = slice(scale, width - scale)
    # In double precision: the difference of two uint8 wraps around.
    first = a[rows, columns].astype(np.float64)
    second = b[rows, columns].astype(np.float64)
    return first, second


def _smooth(planes: Plane) -> Plane:
    """Filter planes [N, H, W] with the Gaussian window, where it fits inside."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    spread = 2 * SSIM_SIGMA**2
    kernel = np.exp(-(offsets**2) / spread)
    kernel /= kernel.sum()
    # The window is separable: two passes of 11 taps do what one of 121 would.
    for axis in (1, 2):
        planes = _filter(planes, kernel, axis)
    return planes


def _filter(
    planes: Plane,
    kernel: Plane,
    axis: int,
) -> Plane:
    taps = len(kernel)
    length = planes.shape[axis] - taps + 1
    middle = taps // 2
    before = (slice(None),) * axis

    def shifted(start: int) -> Plane:
        window = slice(start, start + length)
        return planes[(*before, window)]

    total: Plane = shifted(middle) * kernel[middle]
    for tap in range(middle):  # the kernel is symmetric: one multiplication serves two taps
        opposite = taps - 1 - tap
        pair = shifted(tap) + shifted(opposite)
        pair *= kernel[tap]
        total += pair
    return total
