"""BSRN: distillation blocks of blueprint-separable convolutions, with attention over space and over
channels (Li et al., CVPRW 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import check_image, check_positive
from automl_sr_plugins.reference.sizes import at_least, cut_to

SMALLEST = 15
"""Px on a side below which the pooling of the spatial attention has nothing to pool."""
COPIES = 4
"""How often the image stands in the input of the first convolution."""
TINY = 1e-12
"""The least variance of which a root is taken: at zero, on flat images, its slope is infinite."""


class BSConv(nn.Module):
    """A convolution of 1x1 without bias, then a depthwise one of 3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.dw = nn.Conv2d(outputs, outputs, 3, stride, padding, groups=outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve features."""
        output: Tensor = self.dw(self.pw(features))
        return output


class SpatialAttention(nn.Module):
    """Multiply by what a wide view of the features, at a sixth of their size, says of each pixel:
    the paper's ESA.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = BSConv(inner, inner, stride=2, padding=0)
        self.conv_max = BSConv(inner, inner)
        self.conv3 = BSConv(inner, inner)
        self.conv3_ = BSConv(inner, inner)
        self.conv4 = nn.Conv2d(inner, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Gate features."""
        narrow = self.conv1(features)
        pooled = functional.max_pool2d(self.conv2(narrow), kernel_size=7, stride=3)
        seen = functional.gelu(self.conv_max(pooled))
        seen = self.conv3_(functional.gelu(self.conv3(seen)))
        seen = functional.interpolate(seen, size=features.shape[2:], mode="bilinear")
        return features * torch.sigmoid(self.conv4(seen + self.conv_f(narrow)))


class ChannelAttention(nn.Module):
    """Multiply every channel by what the mean and the spread of all channels say of it: the paper's
    CCA.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        first, last = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)
        if first.bias is not None:
            # Our own choice: of four ReLUs all would otherwise be dead now and then, for ever.
            first.bias.data.abs_()
        self.conv_du = nn.Sequential(first, nn.ReLU(), last, nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Gate features."""
        exact = features.float()
        mean = exact.mean((2, 3), keepdim=True)
        variance = (exact - mean).square().mean((2, 3), keepdim=True)
        contrast = mean + variance.clamp(min=TINY).sqrt()
        gated: Tensor = features * self.conv_du(contrast)
        return gated


class Block(nn.Module):
    """Three refinements, each of which leaves half of its channels, and both attentions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.c1_d, self.c1_r = nn.Conv2d(width, half, 1), BSConv(width, width)
        self.c2_d, self.c2_r = nn.Conv2d(width, half, 1), BSConv(width, width)
        self.c3_d, self.c3_r = nn.Conv2d(width, half, 1), BSConv(width, width)
        self.c4 = BSConv(width, half)
        self.c5 = nn.Conv2d(4 * half, width, 1)
        self.esa = SpatialAttention(width, max(1, width // 4))
        self.cca = ChannelAttention(width, max(1, width // 16))

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        steps = ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r))
        left = []
        rest = features
        for distil, refine in steps:
            left.append(functional.gelu(distil(rest)))
            rest = functional.gelu(refine(rest) + rest)
        left.append(functional.gelu(self.c4(rest)))
        joined: Tensor = self.c5(torch.cat(left, dim=1))
        output: Tensor = self.cca(self.esa(joined))
        return output + features


class Upsampler(nn.Module):
    """One convolution and a pixel shuffle."""

    def __init__(self, width: int, channels: int, scale: int) -> None:
        super().__init__()
        conv = nn.Conv2d(width, channels * scale * scale, 3, padding=1)
        self.upsampleOneStep = nn.Sequential(conv, nn.PixelShuffle(scale))

    def forward(self, features: Tensor) -> Tensor:
        """Enlarge features."""
        enlarged: Tensor = self.upsampleOneStep(features)
        return enlarged


class BSRN(nn.Module):
    """Blocks in a chain whose outputs are all joined; there is no skip from the image."""

    def __init__(self, channels: int, scale: int, width: int, blocks: int) -> None:
        super().__init__()
        self.scale, self.blocks = scale, blocks
        self.fea_conv = BSConv(COPIES * channels, width)
        for place in range(1, blocks + 1):
            self.add_module(f"B{place}", Block(width))
        self.c1 = nn.Conv2d(blocks * width, width, 1)
        self.c2 = BSConv(width, width)
        self.upsampler = Upsampler(width, channels, scale)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch; one that is smaller than 15 px has its last row and column repeated."""
        whole = at_least(image, SMALLEST)
        shallow = self.fea_conv(torch.cat([whole] * COPIES, dim=1))
        features = shallow
        made = []
        for place in range(1, self.blocks + 1):
            features = self.get_submodule(f"B{place}")(features)
            made.append(features)
        joined = functional.gelu(self.c1(torch.cat(made, dim=1)))
        return cut_to(self.upsampler(self.c2(joined) + shallow), image, self.scale)


def bsrn(*, channels: int, scale: int, width: int, blocks: int) -> BSRN:
    """Make a BSRN; what a block leaves at each step is half as wide."""
    check_image("bsrn", channels, scale)
    check_positive("bsrn", width=width // 2, blocks=blocks)
    return BSRN(channels, scale, width, blocks)
