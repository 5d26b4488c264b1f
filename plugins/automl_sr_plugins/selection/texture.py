"""How textured an image patch is, what it looks like, and which patches look alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

ORIENTATIONS = 8
BANDS = 3
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def luma(images: Tensor) -> Tensor:
    """Return luma [B, H, W] in 0..1 of uint8 RGB [B, 3, H, W] (BT.601, studio range)."""
    weights = torch.tensor([65.481, 128.553, 24.966], device=images.device) / 255
    return (16 + torch.einsum("bchw,c->bhw", images.float(), weights)) / 255


def gradients(gray: Tensor) -> tuple[Tensor, Tensor]:
    """Return the horizontal and vertical 3x3 Sobel gradients of [B, H, W], edges replicated."""
    kernel = torch.tensor(SOBEL, device=gray.device)
    padded = functional.pad(gray[:, None], (1, 1, 1, 1), mode="replicate")
    both = functional.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    return both[:, 0], both[:, 1]


def sobel_score(gray: Tensor) -> Tensor:
    """Return the mean gradient magnitude [B] of [B, H, W]; a constant image scores 0."""
    x, y = gradients(gray)
    return torch.hypot(x, y).mean(dim=(1, 2))


def descriptors(gray: Tensor) -> Tensor:
    """Describe [B, H, W] by [B, 13]: gradient orientations (8), mean, deviation, energy in 3
    frequency bands.
    """
    x, y = gradients(gray)
    magnitude = torch.hypot(x, y).flatten(1)
    angle = torch.remainder(torch.atan2(y, x).flatten(1) / torch.pi, 1.0)
    bins = (angle * ORIENTATIONS).long().clamp_(max=ORIENTATIONS - 1)
    histogram = torch.zeros(len(gray), ORIENTATIONS, device=gray.device).scatter_add_(
        1, bins, magnitude
    )
    histogram = histogram / histogram.sum(1, keepdim=True).clamp_min(1e-8)
    level = torch.stack([gray.mean((1, 2)), gray.std((1, 2))], dim=1)
    return torch.cat([histogram, level, _band_energies(gray)], dim=1)


def _band_energies(gray: Tensor) -> Tensor:
    height, width = gray.shape[1:]
    spectrum = torch.fft.fft2(gray - gray.mean((1, 2), keepdim=True)).abs().square()
    rows = torch.fft.fftfreq(height, device=gray.device)[:, None]
    columns = torch.fft.fftfreq(width, device=gray.device)[None, :]
    radius = torch.hypot(rows, columns)
    band = (radius * 2 * BANDS).long().clamp_(max=BANDS - 1).flatten()
    energies = torch.zeros(len(gray), BANDS, device=gray.device).index_add_(
        1, band, spectrum.flatten(1)
    )
    return energies / energies.sum(1, keepdim=True).clamp_min(1e-8)


def clusters_of(features: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Divide [N, f] into at most `count` clusters by k-means on standardised features; always the
    same ones.
    """
    from sklearn.cluster import KMeans

    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 1e-8, spread, 1.0)
    distinct = len(np.unique(scaled, axis=0))
    model = KMeans(n_clusters=max(1, min(count, distinct)), n_init=4, random_state=0)
    labels: NDArray[np.int64] = model.fit_predict(scaled).astype(np.int64)
    return labels
