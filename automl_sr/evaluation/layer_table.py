"""What compression has done to each layer: parameters before and after, zeros, bits.

It is read off the two models and the file that ships: no technique is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.compression.stored_weights import StoredWeight, stored_weights
from automl_sr.evaluation.cost import count_params
from automl_sr.evaluation.layers import MODULES, Layer, layers, located

if TYPE_CHECKING:
    from torch import nn

    from automl_sr.plugin.task import Task

FORMAT = 1
WEIGHT = ".weight"


@dataclass(frozen=True)
class LayerRow:
    """One layer of the model as it was and as it ships."""

    name: str
    kind: str
    parameters_before: int
    """Weights and biases; 0 for a layer that is new."""
    parameters: int
    """0 for a layer that is gone."""
    weights: int
    """How many of them are weights, which can be pruned to zero and quantized."""
    zeros: int
    """How many of the weights are zero."""
    bits: float | None
    """In which a weight that is kept is stored; None where the file does not tell."""
    bytes: int | None
    """Of all that is stored for the weights."""

    @property
    def sparsity(self) -> float:
        """The share of zeros among the weights."""
        if not self.weights:
            return 0.0
        return self.zeros / self.weights


def layer_table(before: nn.Module, after: nn.Module, task: Task, exported: Path) -> dict[str, Any]:
    """Return the layers of a model before and after compression, as JSON.

    before: the model as it would ship uncompressed. after, exported: the model as it ships, and
    its file. Rows stand in the order of the former model; a layer that was cut into several is one
    row. `other` counts parameters outside of layers, such as those of activations.
    """
    old = layers(before, task)
    stored = {}
    for weight in stored_weights(exported):
        stored[weight.tensors.node] = weight
    nodes = [weight.tensors for weight in stored.values()]
    new = located(layers(after, task), nodes)

    names = [_key(layer) for layer in old]
    parts: dict[str, list[LayerRow]] = {name: [] for name in names}
    for layer in new:
        row = _row(layer, new, after, stored)
        parts.setdefault(_belongs(row.name, names), []).append(row)

    former = {}
    for layer in old:
        former[_key(layer)] = layer
    rows = []
    for name, found in parts.items():
        count = 0
        kind = ""
        if name in former:
            count = _parameters(former[name], old, before)
            kind = former[name].kind
        rows.append(_merged(name, kind, count, found))
    return _as_json(rows, count_params(before), count_params(after))


def _key(layer: Layer) -> str:
    """Name a layer by its weight, since one module may own the weights of several."""
    return layer.weight.removesuffix(WEIGHT)


def _belongs(name: str, names: Sequence[str]) -> str:
    """Return the former layer of a layer: the same, or the one in whose place several stand."""
    around = [other for other in names if name == other or name.startswith(f"{other}.")]
    return max(around, key=len, default=name)


def _row(
    layer: Layer, every: Sequence[Layer], model: nn.Module, stored: dict[str, StoredWeight]
) -> LayerRow:
    weight = model.get_parameter(layer.weight)
    bits: float | None = None
    size: int | None = None
    # A layer that is called twice has a node for each call, and one weight.
    for tensors in layer.stored[:1]:
        bits = stored[tensors.node].bits
        size = stored[tensors.node].bytes
    return LayerRow(
        name=_key(layer),
        kind=layer.kind,
        parameters_before=0,
        parameters=_parameters(layer, every, model),
        weights=weight.numel(),
        zeros=weight.numel() - int(weight.count_nonzero()),
        bits=bits,
        bytes=size,
    )


def _parameters(layer: Layer, every: Sequence[Layer], model: nn.Module) -> int:
    """Count a layer's parameters: all of its module where that is a layer, else its weight."""
    owner, _, _ = layer.weight.rpartition(".")
    part = model.get_submodule(owner)
    known = tuple(kind for kinds in MODULES.values() for kind in kinds)
    if isinstance(part, known):
        return sum(value.numel() for value in part.parameters(recurse=False))
    return model.get_parameter(layer.weight).numel()


def _merged(name: str, kind: str, before: int, parts: Sequence[LayerRow]) -> LayerRow:
    """Return one row for all that stands in the place of a layer."""
    if len(parts) == 1:
        return replace(parts[0], name=name, parameters_before=before)
    weights = sum(part.weights for part in parts)
    bits: float | None = None
    size: int | None = None
    told = [part for part in parts if part.bits is not None and part.bytes is not None]
    if parts and len(told) == len(parts):
        bits = sum((part.bits or 0.0) * part.weights for part in told) / weights
        size = sum(part.bytes or 0 for part in told)
    if parts:
        kind = parts[0].kind
    return LayerRow(
        name=name,
        kind=kind,
        parameters_before=before,
        parameters=sum(part.parameters for part in parts),
        weights=weights,
        zeros=sum(part.zeros for part in parts),
        bits=bits,
        bytes=size,
    )


def _as_json(rows: Sequence[LayerRow], before: int, after: int) -> dict[str, Any]:
    listed = []
    for row in rows:
        listed.append({**asdict(row), "sparsity": round(row.sparsity, 6)})
    inside_before = sum(row.parameters_before for row in rows)
    inside = sum(row.parameters for row in rows)
    return {
        "format": FORMAT,
        "layers": listed,
        "other": {"parameters_before": before - inside_before, "parameters": after - inside},
    }
