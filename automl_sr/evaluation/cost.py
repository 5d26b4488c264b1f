"""What a model costs, known before it is trained.

Everything runs on torch's meta device, without data or weights.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

BYTES = 4  # weights, gradients, optimizer state and average are kept in float32
HALF = 0.6
"""Share of the maps' memory that mixed precision needs: some of them stay in float32."""


def count_params(module: nn.Module) -> int:
    """Count the parameters of a module; a parameter used in two places counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Count multiply-adds of one forward pass.

    These are convolutions, matrix products, recurrent layers and attention. Inputs may lie on any
    device, only their shapes and types count. The module is left as it is.
    """
    flops = forward_flops(on_meta(module), _meta_tensors(inputs))
    return flops // 2  # torch counts a multiply-add as two operations


def activation_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Estimate the bytes that autograd keeps for the backward pass of these inputs."""
    return sum(_kept_for_backward(module, inputs))


def _kept_for_backward(module: nn.Module, inputs: Sequence[Tensor]) -> list[int]:
    """Return the bytes of each storage that autograd keeps, each counted once."""
    net = on_meta(module)
    parameters = set()
    for tensor in (*net.parameters(), *net.buffers()):
        parameters.add(_address(tensor))
    held: dict[int, int] = {}
    kept: list[Tensor] = []  # keeps storages alive, so that no address is given out twice

    def pack(tensor: Tensor) -> Tensor:
        address = _address(tensor)
        if address not in parameters and address not in held:
            held[address] = tensor.untyped_storage().nbytes()
            kept.append(tensor)
        return tensor

    keep = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.device("meta"), torch.enable_grad(), keep:
        output = net(*_meta_tensors(inputs))
    del output
    return list(held.values())


def _address(tensor: Tensor) -> int:
    """Return what tells storages apart; tensors of the meta device have no address in memory."""
    return int(tensor.untyped_storage()._cdata)


def training_bytes(
    module: nn.Module,
    *inputs: Tensor,
    copies: int = 5,
    half: bool = False,
) -> int:
    """Estimate the memory of training on a batch of these shapes.

    `copies` of the parameters: weight, gradient, two moments of Adam and the moving average.
    `half`: the forward pass is in bf16 or fp16.
    """
    kept = _kept_for_backward(module, inputs)
    # The backward pass adds the gradients on both sides of one layer, which weigh most where the
    # maps are largest.
    gradients = 2 * max(kept, default=0)
    maps = float(sum(kept) + gradients)
    if half:
        maps *= HALF
    weights = count_params(module) * BYTES
    return weights * copies + round(maps)


def helper_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Estimate the memory of a model that runs beside the trained one.

    It holds its weights, and the maps around one layer.
    """
    kept = _kept_for_backward(module, inputs)
    largest = max(kept, default=0)
    return count_params(module) * BYTES + 2 * largest


def on_meta(module: nn.Module) -> nn.Module:
    """Copy a module onto the meta device without copying its weights.

    One that is there already is given back.
    """
    tensors = [*module.parameters(), *module.buffers()]
    if all(tensor.is_meta for tensor in tensors):
        return module
    # What the copy is told to have copied already, it takes as it is.
    memo: dict[int, Any] = {}
    for tensor in tensors:
        memo[id(tensor)] = _meta_tensor(tensor)
    return copy.deepcopy(module, memo)


def params(module: nn.Module, example_inputs: Sequence[Tensor]) -> float:
    """Measure of the metric `params`."""
    return float(count_params(module))


def macs(module: nn.Module, example_inputs: Sequence[Tensor]) -> float:
    """Measure of the metric `macs`."""
    return float(count_macs(module, *example_inputs))


def size_bytes(path: Path | str) -> float:
    """Measure of the metric `size_bytes`."""
    return float(Path(path).stat().st_size)


def _meta_tensor(tensor: Tensor) -> Tensor:
    if tensor.is_meta:
        return tensor
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, tensor.requires_grad)
    return empty


def _meta_tensors(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [_meta_tensor(tensor) for tensor in tensors]


def forward_flops(net: nn.Module, inputs: Sequence[Tensor], **forward: Any) -> int:
    """Return the operations of one forward pass of a net on the meta device, as torch counts them.

    Recurrent layers are counted by a formula.
    """
    # Evaluation mode keeps dropout and batch statistics out; the mode is put back because the net
    # may be shared.
    modes = [(part, part.training) for part in net.modules()]
    net.eval()
    counter = FlopCounterMode(display=False)
    recurrent: list[int] = []
    try:
        with (
            torch.device("meta"),
            torch.no_grad(),
            counter,
            recurrent_by_formula(net, recurrent),
        ):
            net(*inputs, **forward)
    finally:
        for part, training in modes:
            part.training = training
    return int(counter.get_total_flops()) + sum(recurrent)


@contextlib.contextmanager
def recurrent_by_formula(net: nn.Module, counted: list[int]) -> Iterator[None]:
    """Replace the forward passes of recurrent layers by their output's shape.

    The operations of each pass are added to `counted`.
    """
    # The meta device would unroll these layers step by step, for up to a minute.
    layers = []
    for part in net.modules():
        if isinstance(part, nn.RNNBase):
            layers.append(part)
    for layer in layers:
        layer.forward = functools.partial(_recurrent, layer, counted)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


GATES = {"LSTM": 4, "GRU": 3}
"""Matrix products of a step; plain recurrent layers have one."""


def _recurrent(
    layer: nn.RNNBase,
    counted: list[int],
    sequence: Tensor,
    state: Any = None,
) -> tuple[Tensor, Any]:
    """Stand in for a recurrent layer.

    sequence: [length, batch, in], [batch, length, in] or [length, in].
    """
    directions = 1
    if layer.bidirectional:
        directions = 2
    width = layer.proj_size or layer.hidden_size
    _count_recurrent(layer, counted, math.prod(sequence.shape[:-1]), directions)

    output = sequence.new_empty((*sequence.shape[:-1], width * directions))
    depths = layer.num_layers * directions
    batch = _batch_shape(layer, sequence)
    hidden = sequence.new_empty((depths, *batch, width))
    if layer.mode != "LSTM":
        return output, hidden
    cell = sequence.new_empty((depths, *batch, layer.hidden_size))
    return output, (hidden, cell)


def _count_recurrent(
    layer: nn.RNNBase,
    counted: list[int],
    positions: int,
    directions: int,
) -> None:
    """Count the operations of a recurrent layer over so many positions."""
    gates = GATES.get(layer.mode, 1)
    width = layer.proj_size or layer.hidden_size
    projection = layer.proj_size * layer.hidden_size
    before = layer.input_size
    for _ in range(layer.num_layers):
        macs = gates * layer.hidden_size * (before + width) + projection
        counted.append(2 * directions * positions * macs)
        before = width * directions  # the next one reads both directions


def _batch_shape(layer: nn.RNNBase, sequence: Tensor) -> tuple[int, ...]:
    if sequence.dim() != 3:
        return ()
    if layer.batch_first:
        return (sequence.shape[0],)
    return (sequence.shape[1],)
