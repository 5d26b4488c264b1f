"""Bicubic enlargement as one fixed convolution: exact, exportable with dynamic sizes, cheap and
easy to quantize.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

A = -0.5  # MATLAB's cubic; torch's own `bicubic` uses -0.75, which is another filter
RADIUS = 2  # an integer factor reaches two low-resolution pixels to each side


def cubic(x: float) -> float:
    """Weigh a pixel at distance `x`: R. Keys, Cubic convolution interpolation, IEEE TASSP 1981,
    with a = -0.5.
    """
    x = abs(x)
    if x <= 1:
        return (A + 2) * x**3 - (A + 3) * x**2 + 1
    if x < 2:
        return A * x**3 - 5 * A * x**2 + 8 * A * x - 4 * A
    return 0.0


def phase_weights(scale: int) -> list[list[float]]:
    """Give, for each of the `scale` new pixels inside an old one, the weights of the old pixels
    -2..2 around it.
    """
    phases = []
    for phase in range(scale):
        position = (phase + 0.5) / scale - 0.5
        weights = []
        for tap in range(-RADIUS, RADIUS + 1):
            weights.append(cubic(position - tap))
        total = math.fsum(weights)
        phases.append([weight / total for weight in weights])
    return phases


class BicubicUpsample(nn.Module):
    """Enlarge [B, c, h, w] to [B, c, s h, s w] by MATLAB's bicubic filter for an integer scale s.

    Each of the s x s positions inside a pixel is one 5x5 filter, so a depthwise convolution and a
    pixel shuffle do it. Edges are replicated. MATLAB mirrors them instead: only the outermost s //
    2 rows and columns differ, which the metrics of the field cut away.
    """

    kernel: Tensor

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.channels = channels
        rows = torch.tensor(phase_weights(scale))
        filters = torch.einsum("ia,jb->ijab", rows, rows).reshape(
            scale * scale, 1, 2 * RADIUS + 1, 2 * RADIUS + 1
        )
        # Part of the state, so that a model made on the meta device is whole once its state is
        # loaded.
        self.register_buffer("kernel", filters.repeat(channels, 1, 1, 1))
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        padded = functional.pad(image, (RADIUS, RADIUS, RADIUS, RADIUS), mode="replicate")
        enlarged: Tensor = self.shuffle(
            functional.conv2d(padded, self.kernel, groups=self.channels)
        )
        return enlarged
