"""Groups of M weights that follow each other along the input channels, N of which are left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from automl_sr.api import ModelUpdate, TrialError
from automl_sr_plugins.unstructured_pruning.body import body
from automl_sr_plugins.unstructured_pruning.masks import keep_masks

if TYPE_CHECKING:
    from automl_sr.api import Layer, Run, Task


def grouped(model: nn.Module, task: Task, m: int) -> list[Layer]:
    """Return the convolutions of the body whose input channels are whole groups of M.

    Others stay dense. Raises TrialError where there are none.
    """
    reason = no_groups(model, task, m)
    if reason is not None:
        raise TrialError(f"Nothing can be pruned: the technique {reason}.")
    return _whole(body(model, task), model, m)


def no_groups(model: nn.Module, task: Task, m: int) -> str | None:
    """Say why no layer of the body can be divided into groups of M, if so."""
    found = body(model, task)
    if _whole(found, model, m):
        return None
    counts = {_inputs(model, layer) for layer in found}
    numbers = ", ".join(map(str, sorted(counts)))
    return f"finds no groups of {m} input channels: the convolutions have {numbers}"


def _whole(found: list[Layer], model: nn.Module, m: int) -> list[Layer]:
    whole: list[Layer] = []
    for layer in found:
        if _inputs(model, layer) % m == 0:
            whole.append(layer)
    return whole


def _inputs(model: nn.Module, layer: Layer) -> int:
    """Return the input channels that one output channel reads."""
    weight = model.get_parameter(layer.weight)
    return weight.shape[1]


def rows(weight: Tensor, m: int) -> Tensor:
    """Return the groups of a weight [out, in, ...] as rows [groups, M], of one place each."""
    inputs_last = weight.movedim(1, -1)
    return inputs_last.reshape(-1, m)


def as_weight(grouped_values: Tensor, weight: Tensor) -> Tensor:
    """Return rows in the shape of the weight of which they are."""
    moved = weight.movedim(1, -1).shape
    inputs_last = grouped_values.reshape(moved)
    return inputs_last.movedim(-1, 1)


def order_of(weight: Tensor, m: int) -> Tensor:
    """Return for each row [groups, M] the places of its weights, the largest first."""
    sizes = rows(weight.detach().abs(), m)
    # Stable: of equal ones the first, on any processor.
    return sizes.argsort(dim=1, descending=True, stable=True)


def mask_of(weight: Tensor, n: int, m: int) -> Tensor:
    """Return the mask that leaves the N largest of every M weights."""
    order = order_of(weight, m)
    left = torch.zeros_like(order, dtype=torch.bool)
    left.scatter_(1, order[:, :n], True)
    return as_weight(left, weight)


def cut(run: Run, n: int, m: int) -> ModelUpdate:
    """Keep N of every M weights of each layer from now on."""
    masks = {}
    found = grouped(run.model, run.task, m)
    for layer in found:
        weight = run.model.get_parameter(layer.weight)
        masks[layer.weight] = mask_of(weight, n, m)
    keep_masks(run, masks)
    _log(run, found, m)
    # The average remembers weights that are zero now.
    return ModelUpdate(ema="reset")


def _log(run: Run, found: list[Layer], m: int) -> None:
    everything = body(run.model, run.task)
    dense = len(everything) - len(found)
    run.context.log.info(
        "groups of %d in %d layers; %d whose channels are no whole groups stay dense",
        m,
        len(found),
        dense,
    )
