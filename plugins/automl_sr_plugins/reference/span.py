"""SPAN: features are weighed by themselves, without any parameters for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import check_choice, check_image, check_positive
from automl_sr_plugins.reference.nets import Residual, Skip
from automl_sr_plugins.reference.reparam import ThreeLayerBlock, zero_start

MEAN = (0.4488, 0.4371, 0.4040)
"""DIV2K's mean colour in 0..1."""
LUMA_MEAN = (16 + 65.481 * MEAN[0] + 128.553 * MEAN[1] + 24.966 * MEAN[2]) / 255
"""The luma (BT.601) of that colour."""


class SelfWeighed(nn.Module):
    """Three convolutions whose result weighs what it is added to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1_r = ThreeLayerBlock(width, width)
        self.c2_r = ThreeLayerBlock(width, width)
        self.c3_r = ThreeLayerBlock(width, width)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighed features, and the activated ones of the first convolution."""
        first = functional.silu(self.c1_r(features))
        third = self.c3_r(functional.silu(self.c2_r(first)))
        return (third + features) * (torch.sigmoid(third) - 0.5), first


class SPAN(Residual):
    """Blocks in a chain, of which the first, the middle of the last and the last are put together
    (Wan et al., CVPRW 2024).

    Published with images in 0..255, which is the same net with weights 255 times as small in the
    first layer.
    """

    mean: Tensor

    def __init__(self, channels: int, scale: int, width: int, blocks: int, skip: Skip) -> None:
        super().__init__(channels, scale, skip)
        colour: tuple[float, ...] = MEAN
        if channels == 1:
            colour = (LUMA_MEAN,)
        self.register_buffer("mean", torch.tensor(colour)[:, None, None])

        self.conv_1 = ThreeLayerBlock(channels, width)
        self.blocks = nn.ModuleList(SelfWeighed(width) for _ in range(blocks))
        self.conv_2 = ThreeLayerBlock(width, width)
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        last = nn.Conv2d(width, channels * scale * scale, 3, padding=1)
        self.upsampler = nn.Sequential(last, nn.PixelShuffle(scale))
        if skip == "bicubic":
            zero_start(last)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        shallow = self.conv_1(image - self.mean)
        features, activated = self.blocks[0](shallow)
        after_first = features
        for block in self.blocks[1:]:
            features, activated = block(features)
        together = torch.cat([shallow, self.conv_2(features), after_first, activated], dim=1)
        return self.added_to_skip(self.upsampler(self.conv_cat(together)), image)


def span(*, channels: int, scale: int, width: int, blocks: int, skip: Skip) -> SPAN:
    """Make a SPAN, in the form in which it is trained."""
    check_image("span", channels, scale)
    check_positive("span", width=width, blocks=blocks)
    check_choice("span", "skip", skip, ("bicubic", "none"))
    return SPAN(channels, scale, width, blocks, skip)
