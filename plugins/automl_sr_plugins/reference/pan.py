"""PAN: self-calibrated blocks and an upsampler whose values are gated pixel by pixel (Zhao et al.,
ECCVW 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import check_image, check_positive


class PixelAttention(nn.Module):
    """Multiply by the sigmoid of a convolution of 1x1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Gate features."""
        return features * torch.sigmoid(self.conv(features))


class GatedConv(nn.Module):
    """A convolution that is gated pixel by pixel, and one after it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.k2 = nn.Conv2d(width, width, 1)
        self.k3 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.k4 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve features."""
        gated = self.k3(features) * torch.sigmoid(self.k2(features))
        output: Tensor = self.k4(gated)
        return output


class SCPA(nn.Module):
    """A block of two halves, one of them with pixel attention; added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1_a = nn.Conv2d(width, half, 1, bias=False)
        self.conv1_b = nn.Conv2d(width, half, 1, bias=False)
        self.k1 = nn.Sequential(nn.Conv2d(half, half, 3, padding=1, bias=False))
        self.PAConv = GatedConv(half)
        self.conv3 = nn.Conv2d(2 * half, width, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        plain = _leaky(self.k1(_leaky(self.conv1_a(features))))
        gated = _leaky(self.PAConv(_leaky(self.conv1_b(features))))
        joined: Tensor = self.conv3(torch.cat([plain, gated], dim=1))
        return features + joined


class PAN(nn.Module):
    """Blocks at low resolution, then stages that enlarge by repetition; added to a bilinear base.

    `tail` is the width of the stages, of which x4 has two.
    """

    def __init__(self, channels: int, scale: int, width: int, tail: int, blocks: int) -> None:
        super().__init__()
        self.scale = scale
        self.factors = (2, 2) if scale == 4 else (scale,)
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.SCPA_trunk = nn.Sequential(*(SCPA(width) for _ in range(blocks)))
        self.trunk_conv = nn.Conv2d(width, width, 3, padding=1)
        inputs = width
        for stage in range(1, len(self.factors) + 1):
            self.add_module(f"upconv{stage}", nn.Conv2d(inputs, tail, 3, padding=1))
            self.add_module(f"att{stage}", PixelAttention(tail))
            self.add_module(f"HRconv{stage}", nn.Conv2d(tail, tail, 3, padding=1))
            inputs = tail
        self.conv_last = nn.Conv2d(tail, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        shallow = self.conv_first(image)
        features = shallow + self.trunk_conv(self.SCPA_trunk(shallow))
        for stage, factor in enumerate(self.factors, start=1):
            features = self._stage(features, stage, factor)
        output: Tensor = self.conv_last(features)
        # Python's floats, not sizes, so that the exported file takes any height and width.
        return output + functional.interpolate(
            image, scale_factor=float(self.scale), mode="bilinear"
        )

    def _stage(self, features: Tensor, stage: int, factor: int) -> Tensor:
        repeated = functional.interpolate(features, scale_factor=float(factor), mode="nearest")
        convolved = self.get_submodule(f"upconv{stage}")(repeated)
        gated = _leaky(self.get_submodule(f"att{stage}")(convolved))
        return _leaky(self.get_submodule(f"HRconv{stage}")(gated))


def _leaky(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, 0.2)


def pan(*, channels: int, scale: int, width: int, tail: int, blocks: int) -> PAN:
    """Make a PAN; both halves of a block have half the width."""
    check_image("pan", channels, scale)
    check_positive("pan", width=width // 2, tail=tail, blocks=blocks)
    return PAN(channels, scale, width, tail, blocks)
