"""SwinIR with a light tail: self-attention within windows, plain and shifted ones in turns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from automl_sr_plugins.reference.checks import (
    check_choice,
    check_image,
    check_multiple,
    check_positive,
)
from automl_sr_plugins.reference.initialization import small_normal
from automl_sr_plugins.reference.nets import Residual, Skip

MLP_RATIO = 2
MEAN = (0.4488, 0.4371, 0.4040)
"""Of DIV2K's RGB images; nothing is subtracted from luma, as in the public implementation."""
FORBIDDEN = -100.0
"""Added to the score of two pixels that are neighbours only because the image was rolled."""


@dataclass(frozen=True)
class Windows:
    """What all layers share for an image of one size."""

    side: int
    shift: int
    positions: Tensor
    """[n, n]: which entry of the bias table stands for two of the n pixels of a window."""
    mask: Tensor
    """[windows, n, n]: what is added to scores in shifted windows."""


class SwinIRLight(Residual):
    """Swin Transformer blocks between convolutions (Liang et al., ICCVW 2021).

    The tail is one convolution and a pixel shuffle ("pixelshuffledirect"). Without the stochastic
    depth with which the published nets were trained.
    """

    mean: Tensor
    positions: Tensor

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int,
        stages: int,
        depth: int,
        heads: int,
        window: int,
        skip: Skip,
    ) -> None:
        super().__init__(channels, scale, skip)
        self.scale = scale
        self.window = window

        mean = (0.0,) * channels
        if channels == len(MEAN):
            mean = MEAN
        self.register_buffer("mean", torch.tensor(mean).view(1, channels, 1, 1))
        self.register_buffer("positions", _relative_positions(window))

        self.conv_first = _conv(channels, width)
        self.first_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Stage(width, depth, heads, window) for _ in range(stages))
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = _conv(width, width)

        last = _conv(width, channels * scale * scale)
        if skip == "bicubic":
            small_normal(last, 0.0)
        self.upsample = nn.Sequential(last, nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        height, width = image.shape[2], image.shape[3]
        padded = self._padded(image) - self.mean
        shallow = self.conv_first(padded)
        windows = self._windows(padded.shape[2], padded.shape[3])

        tokens = self.first_norm(shallow.permute(0, 2, 3, 1))
        for stage in self.layers:
            tokens = stage(tokens, windows)
        deep = self.conv_after_body(self.norm(tokens).permute(0, 3, 1, 2)) + shallow

        enlarged: Tensor = self.upsample(deep)[:, :, : height * self.scale, : width * self.scale]
        if self.skip is None:
            return enlarged + self.mean
        return self.added_to_skip(enlarged, image)

    def _padded(self, image: Tensor) -> Tensor:
        """Reflect the image at its right and lower edge, up to whole windows."""
        rows = _reflected(image.shape[2], self.window, image.device)
        columns = _reflected(image.shape[3], self.window, image.device)
        return image.index_select(2, rows).index_select(3, columns)

    def _windows(self, height: int, width: int) -> Windows:
        """Say what windows are like in a padded image."""
        side, shift = self.window, self.window // 2
        rows = _regions(height, side, shift, self.positions.device)
        columns = _regions(width, side, shift, self.positions.device)
        regions = rows[:, None] * 3 + columns[None, :]  # three regions along each axis

        of_pixels = _cut(regions[None, :, :, None], side)[:, :, 0]
        apart = of_pixels[:, :, None] != of_pixels[:, None, :]
        mask = apart.to(self.mean.dtype) * FORBIDDEN
        return Windows(side, shift, self.positions, mask)


class Stage(nn.Module):
    """Swin layers, a convolution, and a skip around both (RSTB)."""

    def __init__(self, width: int, depth: int, heads: int, window: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinLayer(width, heads, window, shifted=place % 2 == 1) for place in range(depth)
        )
        self.conv = _conv(width, width)

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        """Refine tokens [B, h, w, width]."""
        deep = tokens
        for block in self.blocks:
            deep = block(deep, windows)
        convolved: Tensor = self.conv(deep.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return convolved + tokens


class SwinLayer(nn.Module):
    """Attention within windows, then two linear layers for each pixel, each with its skip."""

    def __init__(self, width: int, heads: int, window: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            _linear(width, MLP_RATIO * width), nn.GELU(), _linear(MLP_RATIO * width, width)
        )

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        """Refine tokens [B, h, w, width]."""
        attended = tokens + self._attend(self.norm1(tokens), windows)
        refined: Tensor = attended + self.mlp(self.norm2(attended))
        return refined

    def _attend(self, tokens: Tensor, windows: Windows) -> Tensor:
        height, width = tokens.shape[1], tokens.shape[2]
        if not self.shifted:
            attended = self.attn(_cut(tokens, windows.side), windows.positions, None)
            return _joined(attended, windows.side, height, width)

        shift = windows.shift
        rolled = torch.roll(tokens, (-shift, -shift), (1, 2))
        attended = self.attn(_cut(rolled, windows.side), windows.positions, windows.mask)
        joined = _joined(attended, windows.side, height, width)
        return torch.roll(joined, (shift, shift), (1, 2))


class WindowAttention(nn.Module):
    """Self-attention with several heads and a learnt bias for each relative position."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.factor = (width // heads) ** -0.5
        table = torch.empty((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.qkv = _linear(width, 3 * width)
        self.proj = _linear(width, width)

    def forward(self, windows: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows [B * count, n, width]; the mask is [count, n, n]."""
        pixels, width = windows.shape[1], windows.shape[2]
        parts = self.qkv(windows).reshape(-1, pixels, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)

        bias = self.relative_position_bias_table[positions.flatten()]
        bias = bias.reshape(pixels, pixels, self.heads).permute(2, 0, 1)
        scores = (query * self.factor) @ key.transpose(-2, -1) + bias

        if mask is not None:
            by_image = scores.reshape(-1, mask.shape[0], self.heads, pixels, pixels)
            scores = (by_image + mask[:, None]).reshape(-1, self.heads, pixels, pixels)

        mixed = scores.softmax(dim=-1).to(value.dtype) @ value
        output: Tensor = self.proj(mixed.transpose(1, 2).reshape(-1, pixels, width))
        return output


def _cut(tokens: Tensor, side: int) -> Tensor:
    """Cut [B, h, w, c] into windows [B * count, side * side, c], row by row."""
    batch, height, width, channels = tokens.shape
    parts = tokens.reshape(batch, height // side, side, width // side, side, channels)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, channels)


def _joined(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """Put windows together again, to [B, height, width, c]."""
    channels = windows.shape[2]
    parts = windows.reshape(-1, height // side, width // side, side, side, channels)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels)


def _relative_positions(side: int) -> Tensor:
    """Number the relative positions of any two pixels of a window: [side * side, side * side]."""
    place = torch.arange(side * side)
    row, column = place // side, place % side
    down = row[:, None] - row[None, :] + side - 1
    right = column[:, None] - column[None, :] + side - 1
    return down * (2 * side - 1) + right


def _regions(length: int, side: int, shift: int, device: torch.device) -> Tensor:
    """Number the parts of a rolled axis that were neighbours before it was rolled: 0, 1 or 2."""
    place = torch.arange(length, device=device)
    last_window = (place >= length - side).to(torch.int64)
    rolled_round = (place >= length - shift).to(torch.int64)
    return last_window + rolled_round


def _reflected(length: int, side: int, device: torch.device) -> Tensor:
    """Say which pixels stand along an axis that is reflected at its end, up to whole windows.

    Arithmetic alone, so that the exported file does it for any length.
    """
    whole = (length + side - 1) // side * side
    last = length - 1
    period = 2 * last + 1 // length  # 1 for a single pixel, which stands everywhere
    place = torch.arange(whole, device=device) % period
    return last - (last - place).abs()


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def swinir_light(
    *,
    channels: int,
    scale: int,
    width: int,
    stages: int,
    depth: int,
    heads: int,
    window: int,
    skip: Skip,
) -> SwinIRLight:
    """Make a SwinIR of `stages` times `depth` Swin layers, with the light tail."""
    net = "swinir_light"
    check_image(net, channels, scale)
    check_positive(net, width=width, stages=stages, depth=depth, heads=heads)
    check_multiple(net, "width", width, heads)
    check_positive(net, window=window)
    check_multiple(net, "window", window, 2)
    check_choice(net, "skip", skip, ("bicubic", "none"))
    return SwinIRLight(channels, scale, width, stages, depth, heads, window, skip)
