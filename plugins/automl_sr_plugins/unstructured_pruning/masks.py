"""Masks: which weights are left, holding the others still, and shipping what is left.

A mask lies in the run's state, so that checkpoints, branches and refinements have it; the model
keeps its modules, names and shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from automl_sr.api import ExportError, Sparse, layers, pack_weights

if TYPE_CHECKING:
    from automl_sr.api import Context, Run, TrainedModel

FAMILY = "unstructured_pruning"
MASK = f"{FAMILY}.mask."
BANDS = f"{FAMILY}.bands"
"""How small a weight of each layer is held still: by name, where there are such bands."""


def masks_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the masks by the name of the weight: bool, True where a weight is left."""
    masks: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(MASK):
            masks[key.removeprefix(MASK)] = value
    return masks


def keep_masks(run: Run, masks: Mapping[str, Tensor]) -> None:
    """Remember masks, and set to zero what they leave out."""
    for name, mask in masks.items():
        run.state[f"{MASK}{name}"] = mask
    apply_masks(run)


@torch.no_grad()
def apply_masks(run: Run) -> None:
    """Set to zero all weights that the masks leave out."""
    for name, mask in masks_of(run.state).items():
        weight = run.model.get_parameter(name)
        weight.masked_fill_(~mask, 0)


@contextmanager
def holding(run: Run) -> Iterator[None]:
    """Surround the optimizer's step: weights that are pruned, or within the band, stay as they are.

    Their gradients go before they are clipped, so that they do not count for the norm. Adam moves a
    weight that has no gradient by what it remembers of former ones: the update itself is undone,
    and the memory cleared.
    """
    still: dict[str, Tensor] = {}
    before: dict[str, Tensor] = {}
    bands = run.state.get(BANDS, {})
    with torch.no_grad():
        for name, mask in masks_of(run.state).items():
            weight = run.model.get_parameter(name)
            held = ~mask
            if bands.get(name, 0.0) > 0:
                held = held | (weight.abs() < bands[name])
            if weight.grad is not None:
                weight.grad.masked_fill_(held, 0)
            still[name] = held
            before[name] = weight.clone()
    yield
    with torch.no_grad():
        for name, held in still.items():
            weight = run.model.get_parameter(name)
            weight.copy_(torch.where(held, before[name], weight))
            average = run.moments(name).get("exp_avg")
            if average is not None:
                average.masked_fill_(held, 0)


def largest(sizes: Tensor, left: Tensor, count: int) -> Tensor:
    """Return the mask of the `count` largest of what is left.

    sizes: absolute values, of any shape. Of equal ones the first are kept.
    """
    places = left.reshape(-1).nonzero().squeeze(1)
    candidates = sizes.reshape(-1)[places]
    # Sorted, not compared with a threshold: the count is exact where sizes are equal.
    order = candidates.argsort(descending=True, stable=True)
    kept = places[order[:count]]
    mask = torch.zeros(left.numel(), dtype=torch.bool, device=left.device)
    mask[kept] = True
    return mask.reshape(left.shape)


def count_left(share: float, mask: Tensor) -> int:
    """Return how many weights of a layer make a share of them: one at least."""
    return max(1, round(share * mask.numel()))


def largest_of_all(
    sizes: Mapping[str, Tensor], left: Mapping[str, Tensor], count: int
) -> dict[str, Tensor]:
    """Return the masks of the `count` largest of what is left in all layers together."""
    all_sizes = []
    all_left = []
    for name, value in sizes.items():
        all_sizes.append(value.reshape(-1))
        all_left.append(left[name].reshape(-1))
    joint = largest(torch.cat(all_sizes), torch.cat(all_left), count)

    masks: dict[str, Tensor] = {}
    start = 0
    for name, value in sizes.items():
        stop = start + value.numel()
        masks[name] = joint[start:stop].reshape(value.shape)
        start = stop
    return masks


def zeros_of(state: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many weights are pruned, and how many the layers with masks have."""
    pruned = 0
    total = 0
    for mask in masks_of(state).values():
        left = int(mask.sum())
        pruned += mask.numel() - left
        total += mask.numel()
    return pruned, total


def noted(finished: TrainedModel, words: str = "") -> TrainedModel:
    """Say with the trial how much was pruned."""
    pruned, total = zeros_of(finished.state)
    if total == 0:
        return finished
    share = pruned / total
    note = f"{pruned:,} of {total:,} weights of the pruned layers are zero ({share:.1%}){words}."
    return replace(finished, notes=(*finished.notes, note))


def packed(finished: TrainedModel, ctx: Context) -> TrainedModel:
    """Leave the zeros out of the exported file, where that makes it smaller. Raises ExportError."""
    masks = masks_of(finished.state)
    if not masks:
        return finished
    if finished.onnx is None:
        raise ExportError("Nothing was exported whose zeros could be left out.")
    packings = {}
    for layer in layers(finished.module, ctx.task, finished.onnx):
        if layer.weight not in masks:
            continue
        if not layer.stored:
            ctx.log.warning("%s was not found in the file: its zeros ship.", layer.weight)
        for node in layer.stored:
            packings[node.weight] = Sparse()
    pack_weights(finished.onnx, finished.onnx, packings)
    return finished
