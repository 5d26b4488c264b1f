"""The nets of the examples, and what changes them; torch is imported here alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNELS = (1, 3, 5)
"""Sides of the kernels that a search has the choice of, px."""


class Block(nn.Module):
    """Two convolutions added to their input; a new block changes nothing yet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for value in self.second.parameters():
            nn.init.zeros_(value)

    def forward(self, features: Tensor) -> Tensor:
        """Change features [B, width, h, w]."""
        return features + self.second(functional.relu(self.first(features)))


class Upscaler(nn.Module):
    """A head, a body and a pixel shuffle, added to the enlarged input."""

    def __init__(self, channels: int, scale: int, width: int, body: nn.Module) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = body
        self.tail = nn.Conv2d(width, channels * scale * scale, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge [B, channels, h, w]."""
        details = functional.pixel_shuffle(self.tail(self.body(self.head(image))), self.scale)
        return details + functional.interpolate(
            image, scale_factor=float(self.scale), mode="nearest"
        )


def shallow(*, channels: int, scale: int, width: int) -> Upscaler:
    """Make a net with one block."""
    return Upscaler(channels, scale, width, nn.Sequential(Block(width)))


def add_block(net: Upscaler, *, width: int) -> Upscaler:
    """Put one more block at the end of the body."""
    assert isinstance(net.body, nn.Sequential)  # noqa: S101 - what `shallow` made
    net.body.append(Block(width))
    return net


class Mixed(nn.Module):
    """All kernels at once, weighed by what the search has learnt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(
            nn.Conv2d(width, width, side, padding=side // 2) for side in KERNELS
        )
        self.alpha = nn.Parameter(torch.zeros(len(KERNELS)))

    def forward(self, features: Tensor) -> Tensor:
        """Change features [B, width, h, w]."""
        parts = [
            share * kernel(features)
            for share, kernel in zip(self.alpha.softmax(0), self.kernels, strict=True)
        ]
        return functional.relu(torch.stack(parts).sum(0))


def supernet(*, channels: int, scale: int, width: int, layers: int) -> Upscaler:
    """Make the net in which kernels are searched."""
    return Upscaler(channels, scale, width, nn.Sequential(*(Mixed(width) for _ in range(layers))))


def chain(*, channels: int, scale: int, width: int, sides: Sequence[int]) -> Upscaler:
    """Make the net that a search has found: a kernel of one side in each layer."""
    layers: list[nn.Module] = []
    for side in sides:
        layers += [nn.Conv2d(width, width, side, padding=side // 2), nn.ReLU()]
    return Upscaler(channels, scale, width, nn.Sequential(*layers))
