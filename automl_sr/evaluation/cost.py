"""What a model costs, known before it is trained: everything runs on torch's meta device, without
data or weights.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Iterator, Sequence
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
    """Count multiply-adds of one forward pass: convolutions, matrix products, recurrent layers and
    attention.

    Inputs may lie on any device, only their shapes and types count. The module is left as it is.
    """
    flops = forward_flops(on_meta(module), [_meta_tensor(tensor) for tensor in inputs])
    return flops // 2  # torch counts a multiply-add as two operations


def activation_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Estimate the bytes that autograd keeps for the backward pass of these inputs, each storage
    counted once.
    """
    return sum(_kept_for_backward(module, inputs))


def _kept_for_backward(module: nn.Module, inputs: Sequence[Tensor]) -> list[int]:
    """Return the bytes of each storage that autograd keeps."""
    net = on_meta(module)
    held: dict[int, int] = {}
    parameters = {tensor.untyped_storage()._cdata for tensor in (*net.parameters(), *net.buffers())}
    kept: list[Tensor] = []  # keeps storages alive, so that no address is given out twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters and storage._cdata not in held:
            held[storage._cdata] = storage.nbytes()
            kept.append(tensor)
        return tensor

    keep = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.device("meta"), torch.enable_grad(), keep:
        output = net(*[_meta_tensor(tensor) for tensor in inputs])
    del output
    return list(held.values())


def training_bytes(module: nn.Module, *inputs: Tensor, copies: int = 5, half: bool = False) -> int:
    """Estimate the memory of training on a batch of these shapes; `half`: the forward pass is in
    bf16 or fp16.

    `copies` of the parameters: weight, gradient, two moments of Adam and the moving average. The
    backward pass adds the gradients on both sides of one layer, which weigh most where the maps are
    largest.
    """
    kept = _kept_for_backward(module, inputs)
    maps = sum(kept) + 2 * max(kept, default=0)
    return count_params(module) * BYTES * copies + round(maps * (HALF if half else 1.0))


def helper_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Estimate the memory of a model that runs beside the trained one: its weights, and the maps
    around one layer.
    """
    largest = max(_kept_for_backward(module, inputs), default=0)
    return count_params(module) * BYTES + 2 * largest


def on_meta(module: nn.Module) -> nn.Module:
    """Copy a module onto the meta device without copying its weights; one that is there already is
    given back.
    """
    tensors = [*module.parameters(), *module.buffers()]
    if all(tensor.is_meta for tensor in tensors):
        return module
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


def forward_flops(net: nn.Module, inputs: Sequence[Tensor], **forward: Any) -> int:
    """Return the operations of one forward pass of a net on the meta device, as torch counts them.

    Recurrent layers are counted by a formula: the meta device would unroll them step by step, for
    up to a minute.
    """
    # A mode other than training keeps dropout and batch statistics out; it is put back because the
    # net may be shared.
    modes = [(part, part.training) for part in net.modules()]
    net.eval()
    counted: list[int] = []
    try:
        with (
            torch.device("meta"),
            torch.no_grad(),
            FlopCounterMode(display=False) as counter,
            recurrent_by_formula(net, counted),
        ):
            net(*inputs, **forward)
    finally:
        for part, training in modes:
            part.training = training
    return int(counter.get_total_flops()) + sum(counted)


@contextlib.contextmanager
def recurrent_by_formula(net: nn.Module, counted: list[int]) -> Iterator[None]:
    """Replace the forward passes of recurrent layers by their output's shape and a count of
    operations.
    """
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


def _recurrent(
    layer: nn.RNNBase, counted: list[int], sequence: Tensor, state: Any = None
) -> tuple[Tensor, Any]:
    """Stand in for a recurrent layer on [length, batch, in], [batch, length, in] or [length,
    in].
    """
    gates = {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)
    directions = 2 if layer.bidirectional else 1
    width = layer.proj_size or layer.hidden_size
    positions = math.prod(sequence.shape[:-1])
    for depth in range(layer.num_layers):
        before = layer.input_size if depth == 0 else width * directions
        macs = gates * layer.hidden_size * (before + width) + layer.proj_size * layer.hidden_size
        counted.append(2 * directions * positions * macs)
    output = sequence.new_empty((*sequence.shape[:-1], width * directions))
    batch_axis = 0 if layer.batch_first else 1
    batch = (sequence.shape[batch_axis],) if sequence.dim() == 3 else ()
    hidden = sequence.new_empty((layer.num_layers * directions, *batch, width))
    if layer.mode != "LSTM":
        return output, hidden
    return output, (
        hidden,
        sequence.new_empty((layer.num_layers * directions, *batch, layer.hidden_size)),
    )
