"""Small upscaling nets for tests, of the kinds that studies search over."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_AXES = {name: {0: "batch", 2: "height", 3: "width"} for name in ("input", "output")}


class Espcn(nn.Module):
    """Convolutions and a pixel shuffle."""

    def __init__(self, channels: int = 1, width: int = 8, depth: int = 2, scale: int = 2) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth):
            body += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(
            *body, nn.Conv2d(width, channels * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


class Fsrcnn(nn.Module):
    """PReLU and a transposed convolution to more than one channel."""

    def __init__(self, channels: int = 3, scale: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 5, padding=2),
            nn.PReLU(16),
            nn.Conv2d(16, 4, 1),
            nn.PReLU(4),
            nn.ConvTranspose2d(4, channels, 9, scale, 4, scale - 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Recurrent(nn.Module):
    """A GRU along every row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.GRU(1, 6, batch_first=True, bidirectional=True)
        self.out = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(batch * height, width, channels)
        states = self.rows(rows)[0].reshape(batch, height, width, 12)
        return F.pixel_shuffle(self.out(states.permute(0, 3, 1, 2)), 2)


class Attention(nn.Module):
    """Attention within 8x8 windows of a padded image."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(64, 64)
        self.out = nn.Conv2d(1, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        below, right = (8 - height % 8) % 8, (8 - width % 8) % 8
        padded = F.pad(x, (0, right, 0, below), mode="reflect")
        rows, columns = (height + below) // 8, (width + right) // 8
        windows = (
            padded.view(batch, rows, 8, columns, 8)
            .permute(0, 1, 3, 2, 4)
            .reshape(batch, 1, rows * columns, 64)
        )
        windows = self.project(windows)
        mixed = F.scaled_dot_product_attention(windows, windows, windows)
        image = (
            mixed.view(batch, rows, columns, 8, 8)
            .permute(0, 1, 3, 2, 4)
            .reshape(batch, 1, rows * 8, columns * 8)
        )
        return F.pixel_shuffle(self.out(image), 2)[:, :, : height * 2, : width * 2]


def seeded(kind: type[nn.Module], **fields: int) -> nn.Module:
    """A net with fixed random weights."""
    torch.manual_seed(0)
    return kind(**fields).eval()
