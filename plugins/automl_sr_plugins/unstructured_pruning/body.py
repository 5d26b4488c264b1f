"""Which weights may be pruned: those of the convolutions between the first layer and the
enlargement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from automl_sr.api import TrialError, layers

if TYPE_CHECKING:
    from automl_sr.api import Layer, Task

ENDS = frozenset({"first", "last", "shuffled"})
"""Roles of head, tail and up-sampling, which stay dense."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
OTHERS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def body(model: nn.Module, task: Task) -> list[Layer]:
    """Return the convolutions of the body, in forward order. Raises TrialError where `problem` is.

    What reads larger maps than the first layer belongs to the up-sampling.
    """
    reason = problem(model, task)
    if reason is not None:
        raise TrialError(f"The weights cannot be pruned: this {reason}.")
    return _body(layers(model, task))


def problem(model: nn.Module, task: Task) -> str | None:
    """Say why the weights of a model cannot be pruned, if so: words that follow "the model"."""
    found = layers(model, task)
    hidden = _hidden(model, found)
    if hidden:
        return (
            f"net has weights that make up another layer's ({hidden[0]!r}), so that zeros in them"
            " would not ship"
        )
    if not _body(found):
        return "net has no convolution between its first layer and its enlargement"
    return None


def _body(found: list[Layer]) -> list[Layer]:
    kept: list[Layer] = []
    for layer in found:
        inside = layer.kind == "convolution" and not layer.roles & ENDS
        if inside and _area(layer) <= _area(found[0]):
            kept.append(layer)
    return kept


def _area(layer: Layer) -> int:
    """Return the number of places of the map that a layer reads."""
    area = 1
    for side in layer.input_shape[1:]:
        area *= side
    return area


def _hidden(model: nn.Module, found: list[Layer]) -> list[str]:
    """Name the convolutions that no forward pass calls: their weights make another layer's."""
    called = {layer.name for layer in found}
    names: list[str] = []
    for name, part in model.named_modules():
        if isinstance(part, CONVOLUTIONS + OTHERS) and name not in called:
            names.append(name)
    return names
