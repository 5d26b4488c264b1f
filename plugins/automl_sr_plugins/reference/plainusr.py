"""PlainUSR: plain convolutions on a part of the channels, with attentions that cost little."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import check_choice, check_image, check_positive
from automl_sr_plugins.reference.reparam import GatedBlock, bias_of, zero_start

WINDOW = 7
"""Side of the window that the attention pools over."""
SLOPE = 0.05
GENERAL = {"general": 2, "large": 3}
"""Convolutions in a block, by the kind of net."""


class SoftPool(nn.Module):
    """The mean of each window, weighed by the exponential of what it is the mean of."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool windows of 7x7 with a stride of 3; a smaller map is padded to one window."""
        height, width = features.shape[-2:]
        missing = (0, _missing(width), 0, _missing(height))
        # Exponentials need their range.
        padded = functional.pad(features.float(), missing)
        weights = padded.exp()
        total = functional.avg_pool2d(padded * weights, WINDOW, 3)
        return total / functional.avg_pool2d(weights, WINDOW, 3)


def _missing(side: int) -> int:
    """Return how much a side is shorter than a window.

    Arithmetic alone, so that the exported file works it out for each image.
    """
    short = WINDOW - side
    return (short + abs(short)) // 2


class Attention(nn.Module):
    """Features weighed by their first channel, and by what a window around them holds."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, squeezed, 1),
            SoftPool(),
            nn.Conv2d(squeezed, squeezed, 3, stride=2, padding=1),
            nn.Conv2d(squeezed, width, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Weigh features."""
        weights = torch.sigmoid(self.body(features))
        weights = functional.interpolate(
            weights, size=features.shape[-2:], mode="bilinear", align_corners=False
        )
        return features * torch.sigmoid(features[:, :1]) * weights


class SmallAttention(nn.Module):
    """Features weighed by their first channel, and by their neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh features."""
        return features * torch.sigmoid(features[:, :1]) * torch.sigmoid(self.body(features))


class Part(nn.Module):
    """Convolutions, and perhaps an attention, on the first channels; the others stay as they are.

    An attention reads the first channel, which the last convolution in front of it gathers.
    """

    def __init__(self, width: int, convolutions: int, attention: nn.Module | None) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        for place in range(convolutions):
            last = place == convolutions - 1
            layers.append(GatedBlock(width, gathers=last and attention is not None))
            if not last:
                layers.append(nn.LeakyReLU(SLOPE))
        if attention is not None:
            layers.append(attention)
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Change the first channels."""
        changed = self.body(features[:, : self.width])
        return torch.cat([changed, features[:, self.width :]], dim=1)


class PlainUSR(nn.Module):
    """Parts of a few widths between two convolutions (Wang et al., ACCV 2024).

    The image goes along in channels of its own: the untrained head puts it there, and the untrained
    tail enlarges them by repeating pixels. Published nets add random weights to both; without
    these, which is ours, an untrained net gives nothing but the enlarged image.
    """

    def __init__(self, channels: int, scale: int, n: int, parts: list[Part]) -> None:
        super().__init__()
        wide = n + channels
        copies = scale * scale
        self.head = nn.Conv2d(channels, wide, 3, padding=1)
        self.parts = nn.Sequential(*parts)
        last = nn.Conv2d(wide, channels * copies, 3, padding=1)
        self.tail = nn.Sequential(last, nn.PixelShuffle(scale))
        zero_start(last)
        with torch.no_grad():
            self.head.weight[n:] = 0
            bias_of(self.head)[n:] = 0
            for channel in range(channels):
                own = slice(channel * copies, (channel + 1) * copies)
                self.head.weight[n + channel, channel, 1, 1] = 1
                last.weight[own, n + channel, 1, 1] = 1

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        output: Tensor = self.tail(self.parts(self.head(image)))
        return output


def plainusr(*, channels: int, scale: int, kind: str, n: int, w2: int, w3: int, f: int) -> PlainUSR:
    """Make a PlainUSR, in the form in which it is trained; no part is wider than the first one."""
    check_image("plainusr", channels, scale)
    check_choice("plainusr", "kind", kind, ("ultra", *GENERAL))
    check_positive("plainusr", n=n, w2=w2, w3=w3, f=f)
    second, third = min(n, w2), min(n, w3)
    if kind == "ultra":
        middle = Part(second, 2, SmallAttention(second))
        return PlainUSR(channels, scale, n, [Part(n, 2, None), middle, Part(n, 2, None)])
    widths = (n, second, third, second, n)
    parts = [Part(width, GENERAL[kind], Attention(width, f)) for width in widths]
    return PlainUSR(channels, scale, n, parts)
