"""Small nets of the kinds that are drawn: residual, gated, distilled, recursive, pruned, shifted
windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int = 8, outputs: int = 8, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2)


class Block(nn.Module):
    """Two grouped convolutions beside a skip."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        added = self.conv2(F.relu(self.conv1(x)))
        return x + (added if self.factor == 1.0 else added * self.factor)


class Residual(nn.Module):
    """Blocks in a long skip, a pixel shuffle, and a fixed filter beside all of it."""

    filter: Tensor

    def __init__(self, blocks: int = 4, factor: float = 0.1) -> None:
        super().__init__()
        self.head, self.tail, self.last = conv(3), conv(), conv(8, 12)
        self.body = nn.Sequential(*(Block(factor) for _ in range(blocks)))
        self.register_buffer("filter", torch.ones(3, 1, 3, 3) / 9)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.head(x)
        large = F.pixel_shuffle(self.last(self.tail(self.body(shallow)) + shallow), 2)
        smooth = F.conv2d(x, self.filter, padding=1, groups=3)
        return large + F.interpolate(smooth, scale_factor=2.0, mode="bilinear")


class Gate(nn.Module):
    """Channel attention."""

    def __init__(self) -> None:
        super().__init__()
        pool = nn.AdaptiveAvgPool2d(1)
        self.body = nn.Sequential(pool, conv(8, 2, 1), nn.ReLU(), conv(2, 8, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.body(x)


class Gated(nn.Module):
    """Four gates in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = conv(3), nn.Sequential(*(Gate() for _ in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.head(x))


class Distilling(nn.Module):
    """Half of the channels is kept, the other half is worked on."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = conv(), conv(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        kept, rest = torch.split(F.leaky_relu(self.wide(x), 0.05), 4, 1)
        return torch.cat([kept, self.narrow(rest)], 1) + x


class Distilled(nn.Module):
    """Three such blocks, all of whose outputs are read in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.last = conv(3), conv(24, 3, 1)
        self.blocks = nn.ModuleList([Distilling() for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return self.last(torch.cat(outputs, 1))


class Recursive(nn.Module):
    """One convolution that is called five times, each time beside the same skip."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.again, self.last = conv(3), conv(), conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.head(x)
        deep = shallow
        for _ in range(5):
            deep = F.relu(self.again(deep)) + shallow
        return self.last(deep)


class Widths(nn.Module):
    """Residual blocks of different widths, as pruning leaves them."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.head, self.last = conv(3), conv(8, 3)
        self.first = nn.ModuleList([conv(8, width) for width in widths])
        self.second = nn.ModuleList([conv(width, 8) for width in widths])

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(F.relu(first(x)))
        return self.last(x)


class Irregular(nn.Module):
    """Stages that are all different, of more layers than a drawing has room for."""

    def __init__(self) -> None:
        super().__init__()
        activations = [nn.ReLU, nn.Tanh, nn.SiLU, nn.Sigmoid, nn.ELU]
        self.head, self.stages = conv(3, 2, 1), nn.ModuleList()
        generator = torch.Generator().manual_seed(1)
        for _ in range(10):
            stage: list[nn.Module] = []
            for kind, side in torch.randint(5, (8, 2), generator=generator).tolist():
                stage += [conv(2, 2, 1 + 2 * side), activations[kind]()]
            self.stages.append(nn.Sequential(*stage))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        for stage in self.stages:
            x = stage(x)
        return x


class ShiftedBlock(nn.Module):
    """Attention within shifted windows, then two linear layers, each beside a skip."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        wide = nn.Linear(width, 2 * width)
        self.mixing = nn.Sequential(wide, nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        moved = torch.roll(self.norm1(x), (-2, -2), (1, 2))
        parts = self.qkv(moved.reshape(batch, height * width, channels))
        parts = parts.reshape(batch, -1, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = (query * 0.5 @ key.transpose(-2, -1)).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, height, width, channels)
        x = x + torch.roll(self.out(mixed), (2, 2), (1, 2))
        return x + self.mixing(self.norm2(x))


class Shifted(nn.Module):
    """Three such blocks between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.last = conv(3), conv(8, 3)
        self.blocks = nn.Sequential(*(ShiftedBlock() for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x).permute(0, 2, 3, 1)
        return self.last(self.blocks(x).permute(0, 3, 1, 2))
