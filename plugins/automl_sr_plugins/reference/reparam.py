"""Convolutions that are trained as several layers and ship as one: what a layer can express stays
the same, how it learns does not.

Every block has a fold that is exact, borders included, and that gradients pass through. In
training the kernel is built anew in each step and then used by one convolution, so that a wide
block takes little more time than a plain one; `expanded` is what the block is by definition.
"""

from __future__ import annotations

import contextlib
import copy
from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Reparam = Literal["none", "linear", "edge"]
"""How 3x3 convolutions are trained: as they ship, by SESR's blocks or by ECBSR's."""

EXPANSION = 4
"""So many times as wide as the wider end are the linear blocks of nets that have no width of their
own for them: the 64 of 16 channels in SESR-M11.
"""
EDGES = (
    ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
    ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0)),
)
"""Sobel filters in both directions, and the Laplacian."""


class Wide(nn.Module):
    """A convolution with stride 1 that is trained as several layers.

    `identity` adds the input to what the kernel gives. It is no part of the kernel in training:
    half a number format would round what is learnt beside a one.
    """

    def __init__(self, inputs: int, outputs: int, side: int, *, identity: bool = False) -> None:
        super().__init__()
        if identity and inputs != outputs:
            raise ValueError(f"{inputs} channels cannot be added to {outputs}.")
        self.inputs = inputs
        self.outputs = outputs
        self.side = side
        self.identity = identity

    @abstractmethod
    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Return weight [outputs, inputs, side, side] and bias [outputs] of the one convolution,
        without the identity.
        """

    @abstractmethod
    def expanded(self, features: Tensor) -> Tensor:
        """Return what the layers give one after the other, without the identity."""

    @abstractmethod
    def start_at_zero(self) -> None:
        """Let the kernel and its bias be zero, and yet learn from the first step on."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve features by the kernel as it is now."""
        with _full_precision(features.device):
            weight, bias = self.kernel()
        output = functional.conv2d(features, weight, bias, padding=self.side // 2)
        if self.identity:
            return output + features
        return output

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """Return the one convolution that gives the same, worked out in double precision."""
        weight, bias = copy.deepcopy(self).double().kernel()
        if self.identity:
            weight = weight + _identity_kernel(weight)
        present = next(self.parameters())
        conv = nn.Conv2d(
            self.inputs,
            self.outputs,
            self.side,
            padding=self.side // 2,
            bias=bias is not None,
            device=present.device,
            dtype=present.dtype,
        )
        conv.weight.copy_(weight)
        if conv.bias is not None and bias is not None:
            conv.bias.copy_(bias)
        return conv.train(self.training)


class LinearBlock(Wide):
    """A convolution to `middle` channels and a 1x1 convolution back, with nothing in between.

    Bhardwaj et al., Collapsible Linear Blocks for Super-Efficient Super Resolution, MLSys 2022.
    Weights are drawn by Glorot's uniform rule, as there.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int,
        middle: int,
        *,
        bias: bool = True,
        identity: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, side, identity=identity)
        self.expand = nn.Conv2d(inputs, middle, side, padding=side // 2, bias=bias)
        self.squeeze = nn.Conv2d(middle, outputs, 1, bias=bias)
        for layer in (self.expand, self.squeeze):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Return the product of the two layers."""
        back = _matrix(self.squeeze)
        weight = torch.einsum("op,piyx->oiyx", back, self.expand.weight)
        if self.expand.bias is None or self.squeeze.bias is None:
            return weight, None
        return weight, self.squeeze.bias + back @ self.expand.bias

    def expanded(self, features: Tensor) -> Tensor:
        """Return what the two layers give."""
        output: Tensor = self.squeeze(self.expand(features))
        return output

    def start_at_zero(self) -> None:
        """Let the 1x1 convolution be zero; it learns first."""
        nn.init.zeros_(self.squeeze.weight)


class EdgeBlock(Wide):
    """The sum of a 3x3 convolution, an expanding one, and three that look for edges.

    Zhang, Zeng, Zhang, Edge-oriented Convolution Block for Real-time Super Resolution on Mobile
    Devices, ACM MM 2021. Each 1x1 convolution is followed by a padding with its own bias, which is
    what makes the fold exact at the borders. The biases in front of the edge filters are left out:
    these filters sum to zero, so that such a bias changes nothing and gets no gradient.
    """

    masks: Tensor

    def __init__(self, inputs: int, outputs: int, *, identity: bool = False) -> None:
        super().__init__(inputs, outputs, 3, identity=identity)
        self.plain = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.expand = nn.Conv2d(inputs, 2 * outputs, 1)
        self.squeeze = nn.Conv2d(2 * outputs, outputs, 3)
        self.edges = nn.ModuleList(nn.Conv2d(inputs, outputs, 1, bias=False) for _ in EDGES)
        self.scale = nn.Parameter(1e-3 * torch.randn(len(EDGES), outputs))
        self.shift = nn.Parameter(1e-3 * torch.randn(len(EDGES), outputs))
        # Part of the state, so that a net made on the meta device is whole once its state is
        # loaded.
        self.register_buffer("masks", torch.tensor(EDGES))

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Return the sum of all branches."""
        first, second = self.expand, self.squeeze
        points = torch.stack([_matrix(layer) for layer in self.edges])
        weight = self.plain.weight
        weight = weight + torch.einsum("odyx,di->oiyx", second.weight, _matrix(first))
        weight = weight + torch.einsum("jo,jyx,joi->oiyx", self.scale, self.masks, points)
        bias = bias_of(self.plain) + bias_of(second) + self.shift.sum(0)
        bias = bias + torch.einsum("odyx,d->o", second.weight, bias_of(first))
        return weight, bias

    def expanded(self, features: Tensor) -> Tensor:
        """Return the sum of what all branches give."""
        output: Tensor = self.plain(features)
        output = output + self.squeeze(_padded_by_bias(self.expand(features), bias_of(self.expand)))
        for layer, scale, shift, mask in zip(
            self.edges, self.scale, self.shift, self.masks, strict=True
        ):
            filters = scale[:, None, None, None] * mask
            points = functional.pad(layer(features), (1, 1, 1, 1))
            output = output + functional.conv2d(points, filters, shift, groups=self.outputs)
        return output

    def start_at_zero(self) -> None:
        """Let the last layer of each branch be zero; it learns first."""
        for layer in (self.plain, self.squeeze):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(bias_of(layer))
        nn.init.zeros_(self.scale)
        nn.init.zeros_(self.shift)


class ThreeLayerBlock(Wide):
    """1x1, 3x3 and 1x1 convolutions, twice as wide in between, beside a 1x1 convolution.

    SPAN's block: Wan et al., Swift Parameter-free Attention Network for Efficient Super-Resolution,
    CVPRW 2024. The input is padded before the first layer, which makes the fold exact at the
    borders.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3)
        self.expand = nn.Conv2d(inputs, 2 * inputs, 1)
        self.middle = nn.Conv2d(2 * inputs, 2 * outputs, 3)
        self.squeeze = nn.Conv2d(2 * outputs, outputs, 1)
        self.beside = nn.Conv2d(inputs, outputs, 1)

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Return the product of the three layers, with the fourth one at its centre."""
        back = _matrix(self.squeeze)
        weight = torch.einsum("oq,qpyx->opyx", back, self.middle.weight)
        weight = torch.einsum("opyx,pi->oiyx", weight, _matrix(self.expand))
        weight = weight + functional.pad(self.beside.weight, (1, 1, 1, 1))
        through = torch.einsum("qpyx,p->q", self.middle.weight, bias_of(self.expand))
        bias = bias_of(self.squeeze) + bias_of(self.beside)
        return weight, bias + back @ (bias_of(self.middle) + through)

    def expanded(self, features: Tensor) -> Tensor:
        """Return what both branches give."""
        padded = functional.pad(features, (1, 1, 1, 1))
        output: Tensor = self.squeeze(self.middle(self.expand(padded))) + self.beside(features)
        return output

    def start_at_zero(self) -> None:
        """Let the last layer of both branches be zero; it learns first."""
        for layer in (self.squeeze, self.beside):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(bias_of(layer))


class GatedBlock(Wide):
    """x + W2 (a * K1 (W0 x) + W0 x): a 3x3 convolution between two 1x1 ones, weighed by channel.

    PlainUSR's block: Wang et al., PlainUSR: Chasing Faster ConvNet for Efficient Super-Resolution,
    ACCV 2024. The weights a = sigmoid(Lb SiLU(La t)) do not depend on the input. With `gathers`,
    which stands before an attention, channel 0 becomes a weighted sum of all channels. La and Lb
    start at 1 / inputs: published they are all ones, with which a is 1 in float32 from 16 channels
    on, and t, La and Lb never get a gradient.
    """

    def __init__(self, channels: int, *, gathers: bool = False) -> None:
        # What is gathered contains the input, so that the identity is then part of the kernel.
        super().__init__(channels, channels, 3, identity=not gathers)
        wide = 2 * channels
        self.expand = nn.Conv2d(channels, wide, 1)
        self.middle = nn.Conv2d(wide, wide, 3)
        self.squeeze = nn.Conv2d(wide, channels, 1)
        self.gate = nn.Parameter(torch.full((wide,), 0.1))
        self.gate_in = nn.Linear(wide, max(1, channels // 2), bias=False)
        self.gate_out = nn.Linear(max(1, channels // 2), wide, bias=False)
        for layer in (self.gate_in, self.gate_out):
            nn.init.constant_(layer.weight, 1 / layer.in_features)
        self.gather: nn.Conv2d | None = None
        if gathers:
            self.gather = nn.Conv2d(channels, 1, 1)
            nn.init.constant_(self.gather.weight, 1 / channels)
            nn.init.zeros_(bias_of(self.gather))

    def channel_weights(self) -> Tensor:
        """Return a, the weight of each channel in between [2 * channels]."""
        hidden = functional.silu(self.gate_in(self.gate))
        return torch.sigmoid(self.gate_out(hidden))

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Return the product of the layers; where channels are gathered, with the identity."""
        weights = self.channel_weights()
        back = _matrix(self.squeeze)

        middle = weights[:, None, None, None] * self.middle.weight
        middle = middle + _identity_kernel(middle)
        weight = torch.einsum("oq,qpyx->opyx", back, middle)
        weight = torch.einsum("opyx,pi->oiyx", weight, _matrix(self.expand))
        through = torch.einsum("qpyx,p->q", middle, bias_of(self.expand))
        bias = bias_of(self.squeeze) + back @ (weights * bias_of(self.middle) + through)
        if self.gather is None:
            return weight, bias

        weight = weight + _identity_kernel(weight)
        share = _matrix(self.gather)[0]
        first = torch.einsum("o,oiyx->iyx", share, weight)
        level = share @ bias + bias_of(self.gather)
        return torch.cat([first[None], weight[1:]]), torch.cat([level, bias[1:]])

    def expanded(self, features: Tensor) -> Tensor:
        """Return what the layers give; where channels are gathered, with the identity."""
        wide = self.expand(features)
        weights = self.channel_weights()[:, None, None]
        middle = self.middle(_padded_by_bias(wide, bias_of(self.expand)))
        output: Tensor = self.squeeze(weights * middle + wide)
        if self.gather is None:
            return output
        output = output + features
        return torch.cat([self.gather(output), output[:, 1:]], dim=1)

    def start_at_zero(self) -> None:
        """Let the last layer be zero, so that the block gives its input; it learns first."""
        nn.init.zeros_(self.squeeze.weight)
        nn.init.zeros_(bias_of(self.squeeze))


def conv3(reparam: Reparam, inputs: int, outputs: int) -> nn.Conv2d | Wide:
    """Return a 3x3 convolution with a bias, in the form in which it is trained."""
    if reparam == "linear":
        return LinearBlock(inputs, outputs, 3, EXPANSION * max(inputs, outputs))
    if reparam == "edge":
        return EdgeBlock(inputs, outputs)
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def zero_start(layer: nn.Conv2d | Wide) -> None:
    """Let a layer give zeros, and learn from the first step on."""
    if isinstance(layer, Wide):
        layer.start_at_zero()
        return
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def fold(net: nn.Module) -> nn.Module:
    """Put the folded convolution in the place of every wide block of a net, under its name."""
    if isinstance(net, Wide):
        return net.folded()
    for name, part in net.named_children():
        setattr(net, name, fold(part))
    return net


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Surround what builds a kernel: products of weights are not rounded on the way."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def _padded_by_bias(features: Tensor, bias: Tensor) -> Tensor:
    """Put one pixel of each channel's bias around: what the layer would give outside the image."""
    beyond = bias[:, None, None]
    return functional.pad(features - beyond, (1, 1, 1, 1)) + beyond


def _identity_kernel(weight: Tensor) -> Tensor:
    """Return the kernel that changes nothing, of the shape of another one."""
    channels, half = weight.shape[0], weight.shape[-1] // 2
    ones = torch.eye(channels, dtype=weight.dtype, device=weight.device)
    return functional.pad(ones[:, :, None, None], (half, half, half, half))


def _matrix(layer: nn.Module) -> Tensor:
    """Return the weight of a 1x1 convolution as a matrix [outputs, inputs]."""
    weight = layer.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{type(layer).__name__} has no weight.")
    return weight[:, :, 0, 0]


def bias_of(layer: nn.Conv2d) -> Tensor:
    """Return the bias of a layer that has one."""
    if layer.bias is None:
        raise TypeError("The layer was made without a bias.")
    return layer.bias
