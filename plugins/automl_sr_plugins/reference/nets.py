"""The reference nets: each maps low-resolution [B, c, h, w] in 0..1 to [B, c, s h, s w], for any h
and w.

Names of layers are those of the public implementations, so that published weights can be read.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.bicubic import BicubicUpsample
from automl_sr_plugins.reference.checks import check_choice, check_image, check_positive
from automl_sr_plugins.reference.initialization import (
    fan_out_normal,
    kaiming_tenth,
    last_layer,
)
from automl_sr_plugins.reference.reparam import Reparam, conv3, zero_start

Skip = Literal["bicubic", "none"]
Tail = Literal["full", "lite"]
REPARAMS = ("none", "linear", "edge")


class Residual(nn.Module):
    """A net whose output is added to the bicubic enlargement, or stands alone where `skip` is
    "none".
    """

    def __init__(self, channels: int, scale: int, skip: Skip) -> None:
        super().__init__()
        self.skip = BicubicUpsample(channels, scale) if skip == "bicubic" else None

    def added_to_skip(self, output: Tensor, image: Tensor) -> Tensor:
        """Add the enlarged input, where the net has that skip."""
        return output if self.skip is None else output + self.skip(image)


class SRCNN(nn.Module):
    """Three convolutions on the bicubic enlargement (Dong et al., TPAMI 2016)."""

    def __init__(
        self, channels: int, scale: int, sizes: tuple[int, int, int], width: int, skip: Skip
    ) -> None:
        super().__init__()
        first, second, third = sizes
        self.upsample = BicubicUpsample(channels, scale)
        self.conv1 = fan_out_normal(nn.Conv2d(channels, width, first, padding=first // 2))
        self.conv2 = fan_out_normal(nn.Conv2d(width, width // 2, second, padding=second // 2))
        self.conv3 = last_layer(nn.Conv2d(width // 2, channels, third, padding=third // 2), skip)
        self.residual = skip == "bicubic"

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        enlarged = self.upsample(image)
        features = functional.relu(self.conv2(functional.relu(self.conv1(enlarged))))
        output: Tensor = self.conv3(features)
        return output + enlarged if self.residual else output


class Deconvolution(nn.ConvTranspose2d):
    """A transposed convolution to `scale` times the size; in training it is computed as a
    sub-pixel convolution.

    The same sums in another order: every phase of the output is a small convolution of the input
    (W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", arXiv
    1609.07009, 2016), which is faster on a CPU.
    """

    def __init__(self, inputs: int, outputs: int, scale: int, side: int = 9) -> None:
        half = side // 2
        super().__init__(
            inputs, outputs, side, stride=scale, padding=half, output_padding=scale - 1
        )
        self.before, self.after = half // scale, (scale - 1 + half) // scale
        """How far a phase's convolution reaches to either side of its input pixel."""

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Enlarge a batch of features."""
        if not self.training:
            return super().forward(features, output_size)
        scale, side, reach = self.stride[0], self.kernel_size[0], self.before + self.after + 1
        first = scale * self.after - side // 2
        last = scale * reach - side - first
        inputs, outputs = self.in_channels, self.out_channels
        weight = functional.pad(self.weight, (first, last, first, last))
        phases = (
            weight.view(inputs, outputs, reach, scale, reach, scale)
            .flip(2, 4)
            .permute(1, 3, 5, 0, 2, 4)
        )
        padded = functional.pad(features, (self.before, self.after, self.before, self.after))
        kernel = phases.reshape(outputs * scale * scale, inputs, reach, reach)
        bias = None if self.bias is None else self.bias.repeat_interleave(scale * scale)
        return functional.pixel_shuffle(functional.conv2d(padded, kernel, bias), scale)


class FSRCNN(Residual):
    """Extract, shrink, map m times, expand, deconvolve (Dong et al., ECCV 2016)."""

    def __init__(
        self, channels: int, scale: int, d: int, s: int, m: int, skip: Skip, reparam: Reparam
    ) -> None:
        super().__init__(channels, scale, skip)
        self.first_part = nn.Sequential(
            fan_out_normal(nn.Conv2d(channels, d, 5, padding=2)), nn.PReLU(d)
        )
        layers: list[nn.Module] = [fan_out_normal(nn.Conv2d(d, s, 1)), nn.PReLU(s)]
        for _ in range(m):
            mapping = conv3(reparam, s, s)
            if isinstance(mapping, nn.Conv2d):
                fan_out_normal(mapping)
            layers += [mapping, nn.PReLU(s)]
        layers += [fan_out_normal(nn.Conv2d(s, d, 1)), nn.PReLU(d)]
        self.mid_part = nn.Sequential(*layers)
        self.last_part = last_layer(Deconvolution(d, channels, scale), skip)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        return self.added_to_skip(self.last_part(self.mid_part(self.first_part(image))), image)


class ESPCN(Residual):
    """Convolve at low resolution, then shuffle channels to pixels (Shi et al., CVPR 2016)."""

    def __init__(self, channels: int, scale: int, width: int, activation: str, skip: Skip) -> None:
        super().__init__(channels, scale, skip)
        act = nn.Tanh if activation == "tanh" else nn.ReLU
        self.feature_maps = nn.Sequential(
            fan_out_normal(nn.Conv2d(channels, width, 5, padding=2)),
            act(),
            fan_out_normal(nn.Conv2d(width, width // 2, 3, padding=1)),
            act(),
        )
        last = last_layer(nn.Conv2d(width // 2, channels * scale * scale, 3, padding=1), skip)
        self.sub_pixel = nn.Sequential(last, nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        return self.added_to_skip(self.sub_pixel(self.feature_maps(image)), image)


class ResidualBlock(nn.Module):
    """x + scale * conv(ReLU(conv(x))), without normalisation (Lim et al., CVPRW 2017)."""

    def __init__(self, width: int, res_scale: float, reparam: Reparam = "none") -> None:
        super().__init__()
        self.res_scale = res_scale
        self.conv1 = conv3(reparam, width, width)
        self.conv2 = conv3(reparam, width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        residual: Tensor = self.conv2(functional.relu(self.conv1(features)))
        return features + (residual if self.res_scale == 1 else residual * self.res_scale)


class MSRResNet(nn.Module):
    """Residual blocks, pixel shuffles and a bilinear base (SRResNet as modified in ESRGAN; Wang et
    al., ECCVW 2018).
    """

    def __init__(self, channels: int, scale: int, width: int, blocks: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width, 1.0) for _ in range(blocks)))
        factor = 2 if scale == 4 else scale
        self.upconv1 = nn.Conv2d(width, width * factor * factor, 3, padding=1)
        self.upconv2 = nn.Conv2d(width, width * 4, 3, padding=1) if scale == 4 else None
        self.pixel_shuffle = nn.PixelShuffle(factor)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, channels, 3, padding=1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                kaiming_tenth(part)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        features = self.body(_leaky(self.conv_first(image)))
        features = _leaky(self.pixel_shuffle(self.upconv1(features)))
        if self.upconv2 is not None:
            features = _leaky(self.pixel_shuffle(self.upconv2(features)))
        output: Tensor = self.conv_last(_leaky(self.conv_hr(features)))
        # Python's floats, not sizes, so that the exported file takes any height and width.
        return output + functional.interpolate(
            image, scale_factor=float(self.scale), mode="bilinear"
        )


class EDSR(Residual):
    """Residual blocks with a long skip; the full tail convolves at high resolution, the lite one
    shuffles only.

    Lim et al., CVPRW 2017; the lite tail as in Zhang et al., SRP, ICLR 2022. Without the
    subtraction of DIV2K's mean.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int,
        blocks: int,
        res_scale: float,
        tail: Tail,
        skip: Skip,
        reparam: Reparam,
    ) -> None:
        super().__init__(channels, scale, skip)
        self.conv_first = conv3(reparam, channels, width)
        blocks_of = (ResidualBlock(width, res_scale, reparam) for _ in range(blocks))
        self.body = nn.Sequential(*blocks_of)
        self.conv_after_body = conv3(reparam, width, width)
        if tail == "lite":
            self.upsample = nn.Sequential()
            self.conv_last = conv3(reparam, width, channels * scale * scale)
            self.shuffle: nn.Module = nn.PixelShuffle(scale)
        else:
            self.upsample = nn.Sequential(*full_tail(width, width, scale, reparam))
            self.conv_last = conv3(reparam, width, channels)
            self.shuffle = nn.Identity()
        if skip == "bicubic":
            zero_start(self.conv_last)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        shallow = self.conv_first(image)
        deep = self.conv_after_body(self.body(shallow)) + shallow
        return self.added_to_skip(self.shuffle(self.conv_last(self.upsample(deep))), image)


def full_tail(inputs: int, width: int, scale: int, reparam: Reparam = "none") -> list[nn.Module]:
    """Return the layers that shuffle `inputs` channels to `width` channels of `scale` times the
    size, by 4 in two steps.
    """
    factors: tuple[int, ...] = (scale,)
    if scale == 4:
        factors = (2, 2)

    layers: list[nn.Module] = []
    for factor in factors:
        layers.append(conv3(reparam, inputs, width * factor * factor))
        layers.append(nn.PixelShuffle(factor))
        inputs = width
    return layers


def _leaky(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, 0.1)


def srcnn(*, channels: int, scale: int, kernels: str, width: int, skip: Skip) -> SRCNN:
    """Make an SRCNN; the second layer has half the width of the first."""
    check_image("srcnn", channels, scale)
    check_choice("srcnn", "kernels", kernels, ("9-1-5", "9-5-5"))
    check_choice("srcnn", "skip", skip, ("bicubic", "none"))
    check_positive("srcnn", width=width // 2)
    first, second, third = (int(size) for size in kernels.split("-"))
    return SRCNN(channels, scale, (first, second, third), width, skip)


def fsrcnn(
    *, channels: int, scale: int, d: int, s: int, m: int, skip: Skip, reparam: Reparam = "none"
) -> FSRCNN:
    """Make an FSRCNN(d, s, m), in the form in which it is trained."""
    check_image("fsrcnn", channels, scale)
    check_positive("fsrcnn", d=d, s=s, m=m)
    check_choice("fsrcnn", "skip", skip, ("bicubic", "none"))
    check_choice("fsrcnn", "reparam", reparam, REPARAMS)
    return FSRCNN(channels, scale, d, s, m, skip, reparam)


def espcn(*, channels: int, scale: int, width: int, activation: str, skip: Skip) -> ESPCN:
    """Make an ESPCN; the second layer has half the width of the first."""
    check_image("espcn", channels, scale)
    check_positive("espcn", width=width // 2)
    check_choice("espcn", "activation", activation, ("relu", "tanh"))
    check_choice("espcn", "skip", skip, ("bicubic", "none"))
    return ESPCN(channels, scale, width, activation, skip)


def msrresnet(*, channels: int, scale: int, width: int, blocks: int) -> MSRResNet:
    """Make an MSRResNet."""
    check_image("msrresnet", channels, scale)
    check_positive("msrresnet", width=width, blocks=blocks)
    return MSRResNet(channels, scale, width, blocks)


def edsr(
    *,
    channels: int,
    scale: int,
    width: int,
    blocks: int,
    res_scale: float,
    tail: Tail,
    skip: Skip,
    reparam: Reparam = "none",
) -> EDSR:
    """Make an EDSR, in the form in which it is trained."""
    check_image("edsr", channels, scale)
    check_positive("edsr", width=width, blocks=blocks, res_scale=res_scale)
    check_choice("edsr", "tail", tail, ("full", "lite"))
    check_choice("edsr", "skip", skip, ("bicubic", "none"))
    check_choice("edsr", "reparam", reparam, REPARAMS)
    return EDSR(channels, scale, width, blocks, res_scale, tail, skip, reparam)
