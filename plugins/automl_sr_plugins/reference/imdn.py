"""IMDN: blocks that put a quarter of their channels aside again and again, weighed by contrast."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import (
    check_choice,
    check_image,
    check_multiple,
    check_positive,
)
from automl_sr_plugins.reference.initialization import small_normal
from automl_sr_plugins.reference.nets import Residual, Skip

SLOPE = 0.05
REDUCTION = 16
"""By how much contrast-aware attention narrows its channels."""
EPSILON = 1e-10
"""Added to a variance: the root of zero, on a flat patch, would have an infinite gradient."""


class IMDN(Residual):
    """Multi-distillation blocks whose outputs are fused (Hui et al., ACM MM 2019)."""

    def __init__(self, channels: int, scale: int, width: int, blocks: int, skip: Skip) -> None:
        super().__init__(channels, scale, skip)
        self.fea_conv = _conv(channels, width)
        self.blocks = nn.ModuleList(MultiDistillationBlock(width) for _ in range(blocks))
        self.c = nn.Sequential(nn.Conv2d(blocks * width, width, 1), nn.LeakyReLU(SLOPE))
        self.lr_conv = _conv(width, width)

        last = _conv(width, channels * scale * scale)
        if skip == "bicubic":
            small_normal(last, 0.0)
        self.upsampler = nn.Sequential(last, nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        shallow = self.fea_conv(image)

        features = shallow
        outputs = []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)

        fused = self.lr_conv(self.c(torch.cat(outputs, dim=1)))
        return self.added_to_skip(self.upsampler(fused + shallow), image)


class MultiDistillationBlock(nn.Module):
    """Four convolutions, each of which puts a quarter of the channels aside, and their fusion."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kept = width // 4
        self.passed = width - self.kept
        self.c1 = _conv(width, width)
        self.c2 = _conv(self.passed, width)
        self.c3 = _conv(self.passed, width)
        self.c4 = _conv(self.passed, self.kept)
        self.cca = ContrastAttention(width)
        self.c5 = nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        aside: list[Tensor] = []
        passed = features
        for conv in (self.c1, self.c2, self.c3):
            activated = functional.leaky_relu(conv(passed), SLOPE)
            kept, passed = torch.split(activated, [self.kept, self.passed], dim=1)
            aside.append(kept)
        aside.append(self.c4(passed))

        weighed = self.cca(torch.cat(aside, dim=1))
        output: Tensor = self.c5(weighed)
        return output + features


class ContrastAttention(nn.Module):
    """Weigh channels by the sum of their mean and their standard deviation over the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = width // REDUCTION
        self.conv_du = nn.Sequential(
            nn.Conv2d(width, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, width, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Weigh a batch of features."""
        # In float32 also where the net trains in bf16, whose sums over an image are too coarse.
        exact = features.float()
        mean = exact.mean(dim=(2, 3), keepdim=True)
        variance = (exact - mean).square().mean(dim=(2, 3), keepdim=True)
        contrast = torch.sqrt(variance + EPSILON) + mean
        weights: Tensor = self.conv_du(contrast.to(features.dtype))
        return features * weights


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def imdn(*, channels: int, scale: int, width: int, blocks: int, skip: Skip) -> IMDN:
    """Make an IMDN whose blocks put a quarter of `width` channels aside at each step."""
    check_image("imdn", channels, scale)
    check_positive("imdn", width=width, blocks=blocks)
    check_multiple("imdn", "width", width, REDUCTION)
    check_choice("imdn", "skip", skip, ("bicubic", "none"))
    return IMDN(channels, scale, width, blocks, skip)
