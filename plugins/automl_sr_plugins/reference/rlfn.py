"""RLFN: plain residual blocks of three convolutions with attention over space (Kong et al., CVPRW
2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import check_image, check_positive
from automl_sr_plugins.reference.sizes import at_least, cut_to

SMALLEST = 15
"""Px on a side below which the pooling of the attention has nothing to pool."""


class SpatialAttention(nn.Module):
    """Multiply by what a wide view of the features, at a sixth of their size, says of each pixel:
    the paper's ESA.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2)
        self.conv3 = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv4 = nn.Conv2d(inner, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Gate features."""
        narrow = self.conv1(features)
        pooled = functional.max_pool2d(self.conv2(narrow), kernel_size=7, stride=3)
        seen = functional.interpolate(self.conv3(pooled), size=features.shape[2:], mode="bilinear")
        return features * torch.sigmoid(self.conv4(seen + self.conv_f(narrow)))


class Block(nn.Module):
    """Three convolutions, added to the input, and the attention."""

    def __init__(self, width: int, middle: int, attention: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(width, middle, 3, padding=1)
        self.c2_r = nn.Conv2d(middle, middle, 3, padding=1)
        self.c3_r = nn.Conv2d(middle, width, 3, padding=1)
        self.c5 = nn.Conv2d(width, width, 1)
        self.esa = SpatialAttention(width, attention)

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        refined = features
        for layer in (self.c1_r, self.c2_r, self.c3_r):
            refined = functional.leaky_relu(layer(refined), 0.05)
        output: Tensor = self.esa(self.c5(refined + features))
        return output


class RLFN(nn.Module):
    """Blocks with a long skip over them, then one convolution and a pixel shuffle."""

    def __init__(
        self, channels: int, scale: int, width: int, middle: int, blocks: int, attention: int
    ) -> None:
        super().__init__()
        self.scale, self.blocks = scale, blocks
        self.conv_1 = nn.Conv2d(channels, width, 3, padding=1)
        for place in range(1, blocks + 1):
            self.add_module(f"block_{place}", Block(width, middle, attention))
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        last = nn.Conv2d(width, channels * scale * scale, 3, padding=1)
        self.upsampler = nn.Sequential(last, nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch; one that is smaller than 15 px has its last row and column repeated."""
        shallow = self.conv_1(at_least(image, SMALLEST))
        features = shallow
        for place in range(1, self.blocks + 1):
            features = self.get_submodule(f"block_{place}")(features)
        return cut_to(self.upsampler(self.conv_2(features) + shallow), image, self.scale)


def rlfn(
    *, channels: int, scale: int, width: int, middle: int, blocks: int, attention: int
) -> RLFN:
    """Make an RLFN."""
    check_image("rlfn", channels, scale)
    check_positive("rlfn", width=width, middle=middle, blocks=blocks, attention=attention)
    return RLFN(channels, scale, width, middle, blocks, attention)
