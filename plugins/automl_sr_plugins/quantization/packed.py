"""Layers get values of few bits before the export, and the exported file holds them packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from automl_sr.api import (
    Codebook,
    ExportError,
    Float16,
    TrialError,
    Uniform,
    layers,
    pack_weights,
)
from automl_sr_plugins.quantization import codebook
from automl_sr_plugins.quantization.grids import Grid, bits_by_layer

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.api import Context, Layer, TrainedModel

PACKINGS = "quantization.packings"
"""Under which key of a trained model's state its packings lie between `compress` and `export`."""
KINDS = ("convolution", "transposed", "linear")
LARGEST_HALF = 65504.0

Packing = Uniform | Codebook | Float16
Rounded = tuple["Tensor", Packing]
"""The values of a weight, and how a file can hold them."""
GridOf = Callable[["Tensor", int, int], Grid]
"""Makes the grid of a weight with so many bits, given the axis of its output channels."""


@dataclass(frozen=True)
class Bits:
    """How many bits layers have, by their place in the net."""

    first: int
    body: Sequence[int]
    last: int


def on_grids(
    finished: TrainedModel,
    ctx: Context,
    bits: Bits,
    grid_of: GridOf,
) -> TrainedModel:
    """Round each layer to a grid of its own."""
    found = _layers_to_round(finished, ctx)
    by_layer = bits_by_layer(found, bits.first, bits.body, bits.last)

    def rounded(layer: Layer, weight: Tensor) -> Rounded:
        grid = grid_of(weight, by_layer[layer.weight], _output_axis(layer))
        scale = grid.scale.reshape(-1).cpu().numpy()
        return grid.round(weight), Uniform(grid.bits, scale)

    return _rounded(finished, found, rounded)


def in_half_precision(finished: TrainedModel, ctx: Context) -> TrainedModel:
    """Round each layer to what half precision holds; what is too large becomes its largest."""

    def rounded(layer: Layer, weight: Tensor) -> Rounded:
        within = weight.clamp(-LARGEST_HALF, LARGEST_HALF)
        return within.half().float(), Float16()

    return _rounded(finished, _layers_to_round(finished, ctx), rounded)


def from_codebooks(
    finished: TrainedModel,
    ctx: Context,
    *,
    entries: int,
    block: int,
    keep_float: frozenset[str],
) -> TrainedModel:
    """Give each layer a codebook of its own, where that saves bytes.

    Layers with one of the roles of `keep_float` stay as they are.
    """
    chosen: list[Layer] = []
    too_small: list[str] = []
    for layer in _layers_to_round(finished, ctx):
        if layer.roles & keep_float:
            continue
        weights = finished.module.get_parameter(layer.weight).numel()
        length = _block_of(layer, weights, block)
        if codebook.bytes_of(weights, entries, length) < 4 * weights:
            chosen.append(layer)
        else:
            too_small.append(layer.name)
    if too_small:
        names = ", ".join(too_small)
        finished = _noted(finished, f"stay in float, as codebooks would be larger: {names}")

    def rounded(layer: Layer, weight: Tensor) -> Rounded:
        length = _block_of(layer, weight.numel(), block)
        numbers = ctx.generator("codebook", layer.weight)
        centres = codebook.codebook(weight, entries, length, numbers)
        table = Codebook(centres.cpu().numpy())
        return codebook.decoded(weight, centres), table

    return _rounded(finished, chosen, rounded)


def packed(finished: TrainedModel) -> TrainedModel:
    """Pack the rounded weights inside the exported file. Raises ExportError for one not in it."""
    if finished.onnx is None:
        raise ExportError("Nothing was exported in which weights could be packed.")
    packings: Mapping[str, Packing] = finished.state[PACKINGS]
    stored: dict[str, Packing] = {}
    for layer in layers(finished.module, finished.task, finished.onnx):
        if layer.weight not in packings:
            continue
        if not layer.stored:
            raise ExportError(
                f"The weight of {layer.name!r} is rounded, and not found in the exported file.",
                "Use another quantization for this architecture.",
            )
        for node in layer.stored:
            stored[node.weight] = packings[layer.weight]
    if not stored:
        return finished

    target = finished.onnx.with_name(f"{finished.onnx.stem}-packed.onnx")
    pack_weights(finished.onnx, target, stored)
    return replace(finished, onnx=target)


@torch.no_grad()
def _rounded(
    finished: TrainedModel,
    chosen: Sequence[Layer],
    round_one: Callable[[Layer, Tensor], Rounded],
) -> TrainedModel:
    packings: dict[str, Packing] = {}
    for layer in chosen:
        weight = finished.module.get_parameter(layer.weight)
        values, packing = round_one(layer, weight.detach())
        weight.copy_(values)
        packings[layer.weight] = packing
    state = {**finished.state, PACKINGS: packings}
    return replace(finished, state=state)


def _layers_to_round(finished: TrainedModel, ctx: Context) -> list[Layer]:
    """Return the layers with one weight each. Raises TrialError where there are none."""
    found: list[Layer] = []
    for layer in layers(finished.module, ctx.task):
        if layer.kind in KINDS:
            found.append(layer)
    if not found:
        raise TrialError(
            "The net has no layer whose weights could be rounded: it has neither convolutions nor"
            " linear layers.",
            "Choose `none` for the slot quantization.",
        )
    return found


def _output_axis(layer: Layer) -> int:
    if layer.kind == "transposed":
        return 1
    return 0


def _block_of(layer: Layer, weights: int, asked: int) -> int:
    # Exporters transpose the weights of linear layers: what follows each other in the file does
    # not in the module.
    if layer.kind == "linear":
        return 1
    return codebook.block_of(weights, asked)


def _noted(finished: TrainedModel, note: str) -> TrainedModel:
    return replace(finished, notes=(*finished.notes, note))
