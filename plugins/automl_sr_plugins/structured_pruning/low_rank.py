"""A convolution as the product of two: k x k to few channels, then 1 x 1 to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from automl_sr.api import layers

if TYPE_CHECKING:
    from automl_sr.api import Task


class _Size(NamedTuple):
    """The sides of a convolution's weight as a matrix."""

    outputs: int
    inputs: int
    """With the pixels of the kernel: channels * k * k."""

    @property
    def full(self) -> int:
        """The largest rank that there is."""
        return min(self.outputs, self.inputs)

    def saves(self, rank: int) -> bool:
        """Return whether two convolutions of this rank are smaller than the one."""
        return rank * (self.inputs + self.outputs) < self.inputs * self.outputs


def ranks_by_share(net: nn.Module, task: Task, share: float) -> dict[str, int]:
    """Return the rank of each layer that becomes smaller: a share of its full one."""
    found = {}
    for name, conv in _plain_layers(net, task).items():
        size = _size(conv)
        rank = max(1, round(share * size.full))
        if size.saves(rank):
            found[name] = rank
    return found


def least_ranks(net: nn.Module, task: Task) -> dict[str, int]:
    """Return rank 1 for each layer that can be divided: less there cannot be."""
    found = {}
    for name, conv in _plain_layers(net, task).items():
        if _size(conv).saves(1):
            found[name] = 1
    return found


def ranks_by_energy(net: nn.Module, task: Task, energy: float) -> dict[str, int]:
    """Return the least rank of each layer that keeps a share of its squared singular values, for
    layers that become smaller by it.
    """
    found = {}
    for name, conv in _plain_layers(net, task).items():
        squares = torch.linalg.svdvals(_matrix(conv)).square()
        kept = squares.cumsum(0) / squares.sum().clamp(min=torch.finfo(squares.dtype).tiny)
        # Rounding leaves the last sum a little below one.
        rank = min(len(kept), int((kept < energy - 1e-12).sum()) + 1)
        if _size(conv).saves(rank):
            found[name] = rank
    return found


def divide(net: nn.Module, *, ranks: dict[str, int]) -> nn.Module:
    """Put two convolutions in the place of each named one, with weights that are drawn."""
    for name, rank in ranks.items():
        conv = net.get_submodule(name)
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(f"{name} is no convolution.")
        _put(net, conv, _divided(conv, rank))
    return net


@torch.no_grad()
def divide_by_svd(net: nn.Module, ranks: dict[str, int]) -> nn.Module:
    """Put two convolutions in the place of each named one, which are nearest to it for their rank.

    The net is changed.
    """
    found: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {}
    for name, rank in ranks.items():
        conv = net.get_submodule(name)
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(f"{name} is no convolution.")
        left, values, right = torch.linalg.svd(_matrix(conv), full_matrices=False)
        roots = values[:rank].sqrt()
        found[name] = (left[:, :rank] * roots, roots[:, None] * right[:rank], conv.bias)

    divide(net, ranks=ranks)
    for name, (back, front, bias) in found.items():
        first = net.get_parameter(f"{name}.0.weight")
        second = net.get_parameter(f"{name}.1.weight")
        first.copy_(front.reshape(first.shape))
        second.copy_(back.reshape(second.shape))
        if bias is not None:
            net.get_parameter(f"{name}.1.bias").copy_(bias)
    return net


def _divided(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    device, dtype = conv.weight.device, conv.weight.dtype
    first = nn.Conv2d(
        conv.in_channels,
        rank,
        (conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=_padding(conv),
        dilation=(conv.dilation[0], conv.dilation[1]),
        bias=False,
        device=device,
        dtype=dtype,
    )
    second = nn.Conv2d(
        rank, conv.out_channels, 1, bias=conv.bias is not None, device=device, dtype=dtype
    )
    return nn.Sequential(first, second).train(conv.training)


def _padding(conv: nn.Conv2d) -> str | tuple[int, int]:
    if isinstance(conv.padding, str):
        return conv.padding
    return (conv.padding[0], conv.padding[1])


def _put(net: nn.Module, before: nn.Module, after: nn.Module) -> None:
    """Put a module in the place of another one, wherever that is used."""
    for module in net.modules():
        for name, child in list(module._modules.items()):
            if child is before:
                setattr(module, name, after)


def _plain_layers(net: nn.Module, task: Task) -> dict[str, nn.Conv2d]:
    """Return the convolutions of a net that can be divided, by name, in forward order."""
    found = {}
    for layer in layers(net, task):
        module = net.get_submodule(layer.name)
        # A class of its own may compute something else with its weight.
        if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
            found[layer.name] = module
    return found


def _size(conv: nn.Conv2d) -> _Size:
    outputs, *others = conv.weight.shape
    return _Size(outputs, torch.Size(others).numel())


def _matrix(conv: nn.Conv2d) -> Tensor:
    return conv.weight.detach().flatten(1).double()
