"""CARN-M: residual blocks with shared weights, whose outputs are all handed on (Ahn et al., ECCV
2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import check_image, check_positive

RGB_MEAN = (0.4488, 0.4371, 0.4040)
LUMA_MEAN = (0.4379,)
"""BT.601's luma, 16/255 to 235/255, of that mean."""
UNITS = 3
"""Steps of every cascade of the paper but for the outer one, where `blocks` counts them."""


class Bottleneck(nn.Module):
    """Two grouped convolutions and one of 1x1, added to the input; a unit of a cascade."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        return functional.relu(self.body(features) + features)


class Join(nn.Module):
    """A convolution of 1x1 and a ReLU over all that a cascade has made so far."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inputs, width, 1), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Join features."""
        joined: Tensor = self.body(features)
        return joined


class Block(nn.Module):
    """A cascade over one unit, which runs three times with the same weights."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.b1 = Bottleneck(width, groups)
        for place in range(1, UNITS + 1):
            self.add_module(f"c{place}", Join(width * (place + 1), width))

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        everything = output = features
        for place in range(1, UNITS + 1):
            everything = torch.cat([everything, self.b1(output)], dim=1)
            output = self.get_submodule(f"c{place}")(everything)
        return output


class Upsample(nn.Module):
    """Grouped convolutions, ReLUs and pixel shuffles."""

    def __init__(self, width: int, groups: int, scale: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for factor in (2, 2) if scale == 4 else (scale,):
            shuffled = width * factor * factor
            layers += [
                nn.Conv2d(width, shuffled, 3, padding=1, groups=groups),
                nn.ReLU(),
                nn.PixelShuffle(factor),
            ]
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Enlarge features."""
        enlarged: Tensor = self.body(features)
        return enlarged


class CARNM(nn.Module):
    """A cascade of cascades, then one upsampler for its scale; there is no long skip."""

    mean: Tensor

    def __init__(self, channels: int, scale: int, width: int, blocks: int, groups: int) -> None:
        super().__init__()
        mean = RGB_MEAN if channels == 3 else LUMA_MEAN
        self.register_buffer("mean", torch.tensor(mean).reshape(1, channels, 1, 1))
        self.blocks = blocks
        self.entry = nn.Conv2d(channels, width, 3, padding=1)
        for place in range(1, blocks + 1):
            self.add_module(f"b{place}", Block(width, groups))
            self.add_module(f"c{place}", Join(width * (place + 1), width))
        self.upsample = Upsample(width, groups, scale)
        self.exit = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        everything = output = self.entry(image - self.mean)
        for place in range(1, self.blocks + 1):
            made = self.get_submodule(f"b{place}")(output)
            everything = torch.cat([everything, made], dim=1)
            output = self.get_submodule(f"c{place}")(everything)
        enlarged: Tensor = self.exit(self.upsample(output))
        return enlarged + self.mean


def carn_m(*, channels: int, scale: int, width: int, blocks: int, groups: int) -> CARNM:
    """Make a CARN-M."""
    check_image("carn_m", channels, scale)
    check_positive("carn_m", blocks=blocks, groups=groups, width=width // max(groups, 1))
    return CARNM(channels, scale, width, blocks, groups)
