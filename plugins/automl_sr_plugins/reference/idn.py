"""IDN: blocks that enhance some channels further and hand the others on, and a deconvolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl_sr_plugins.reference.bicubic import BicubicUpsample
from automl_sr_plugins.reference.checks import check_image, check_multiple, check_positive
from automl_sr_plugins.reference.initialization import kaiming, last_layer
from automl_sr_plugins.reference.nets import Deconvolution

SLOPE = 0.05
GROUPS = 4
SIDE = 17
"""Of the kernel of the deconvolution."""


class IDN(nn.Module):
    """Extract, distil in a chain of blocks, deconvolve, add to bicubic (Hui et al., CVPR 2018)."""

    def __init__(self, channels: int, scale: int, width: int, blocks: int) -> None:
        super().__init__()
        self.upsample = BicubicUpsample(channels, scale)
        self.extract = _activated([_conv(channels, width), _conv(width, width)])
        self.blocks = nn.Sequential(*(DistillationBlock(width) for _ in range(blocks)))
        deconvolution = Deconvolution(width, channels, scale, side=SIDE)
        self.deconvolution = last_layer(deconvolution, "bicubic")

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        features = self.blocks(self.extract(image))
        output: Tensor = self.deconvolution(features) + self.upsample(image)
        return output


class DistillationBlock(nn.Module):
    """Three convolutions, three more on the first channels alone, and a 1x1 convolution.

    The last quarter of the channels skips the second half. As in the public port, nothing follows
    the 1x1 convolution.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kept = width // 4
        self.passed = passed = width - self.kept
        self.first = _activated(
            [
                _conv(width, passed),
                _conv(passed, width // 2, groups=GROUPS),
                _conv(width // 2, width),
            ]
        )
        self.second = _activated(
            [
                _conv(passed, width),
                _conv(width, passed, groups=GROUPS),
                _conv(passed, width + self.kept),
            ]
        )
        self.compress = kaiming(nn.Conv2d(width + self.kept, width, 1), SLOPE)

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        enhanced = self.first(features)
        passed, kept = torch.split(enhanced, [self.passed, self.kept], dim=1)
        together = self.second(passed) + torch.cat([features, kept], dim=1)
        output: Tensor = self.compress(together)
        return output


def _conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    # By torch's default weights the features fade: the net then hardly leaves bicubic in 300 steps.
    return kaiming(nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups), SLOPE)


def _activated(convolutions: list[nn.Conv2d]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for convolution in convolutions:
        layers += [convolution, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def idn(*, channels: int, scale: int, width: int, blocks: int) -> IDN:
    """Make an IDN whose blocks keep a quarter of `width` channels and have four groups."""
    check_image("idn", channels, scale)
    check_positive("idn", width=width, blocks=blocks)
    check_multiple("idn", "width", width, 4 * GROUPS)
    return IDN(channels, scale, width, blocks)
