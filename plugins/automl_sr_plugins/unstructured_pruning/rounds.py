"""Rounds of training, pruning and rewinding, and the choice of the best one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from automl_sr.api import ModelUpdate
from automl_sr_plugins.unstructured_pruning.body import body
from automl_sr_plugins.unstructured_pruning.masks import (
    BANDS,
    FAMILY,
    MASK,
    apply_masks,
    count_left,
    keep_masks,
    largest,
    largest_of_all,
    masks_of,
)

if TYPE_CHECKING:
    from automl_sr.api import Run

FIRST = f"{FAMILY}.first"
PRUNINGS = f"{FAMILY}.prunings"
SCORES = f"{FAMILY}.scores"
BEST = f"{FAMILY}.best"
KEPT = f"{FAMILY}.kept."
"""The weights and masks of the best round, until the last one has ended."""
KEPT_MASK = f"{FAMILY}.kept_mask."


def begin(run: Run, eps: float) -> None:
    """Leave all weights of the body, and say how small ones are held still.

    eps: as a share of the standard deviation that a layer's weights have now; 0: none is.
    """
    masks: dict[str, Tensor] = {}
    bands: dict[str, float] = {}
    for layer in body(run.model, run.task):
        weight = run.model.get_parameter(layer.weight).detach()
        masks[layer.weight] = torch.ones_like(weight, dtype=torch.bool)
        bands[layer.weight] = eps * float(weight.std(correction=0))
    # Kept as numbers: another processor might add them up to other last bits.
    run.state[BANDS] = bands
    run.state[PRUNINGS] = 0
    keep_masks(run, masks)


def remember(run: Run) -> None:
    """Keep the weights to which every later round is rewound."""
    run.keep_constant(FIRST, run.model.state_dict())


def prune(run: Run, rate: float, scope: Literal["layer", "global"]) -> None:
    """Drop a share of the weights that are left, those with the smallest absolute values.

    After t prunings a layer has (1 - rate)^t of its weights, or all layers together have.
    """
    run.state[PRUNINGS] += 1
    share = (1 - rate) ** run.state[PRUNINGS]
    left = masks_of(run.state)
    sizes = {}
    for name in left:
        weight = run.model.get_parameter(name)
        sizes[name] = weight.detach().abs()
    if scope == "global":
        total = sum(mask.numel() for mask in left.values())
        count = round(share * total)
        keep_masks(run, largest_of_all(sizes, left, count))
        return

    masks = {}
    for name, mask in left.items():
        # Of all weights, not of those left: rounding in each round would add up.
        count = count_left(share, mask)
        masks[name] = largest(sizes[name], mask, count)
    keep_masks(run, masks)


@torch.no_grad()
def rewind(run: Run) -> ModelUpdate:
    """Go back to the weights that were kept; what is pruned stays zero."""
    _load(run, run.constants[FIRST])
    apply_masks(run)
    return ModelUpdate(optimizer="reset", ema="reset")


def compare(run: Run, rounds: int) -> None:
    """Score a round that has ended, and keep it where none before it was better."""
    score = run.score()
    scores = [*run.state.get(SCORES, []), score]
    run.state[SCORES] = scores
    # Of equal ones the later: it has fewer weights.
    if score < max(scores):
        return
    run.state[BEST] = len(scores)
    if len(scores) == rounds:
        return  # it is what the run is now
    for name, value in run.evaluation_state().items():
        run.state[f"{KEPT}{name}"] = value
    for name, mask in masks_of(run.state).items():
        run.state[f"{KEPT_MASK}{name}"] = mask


def choose(run: Run, rounds: int) -> ModelUpdate | None:
    """Go back to the best round, with the weights with which it was scored."""
    weights = _taken(run.state, KEPT)
    masks = _taken(run.state, KEPT_MASK)
    if run.state[BEST] == rounds:
        return None
    with torch.no_grad():
        _load(run, weights)
    for name, mask in masks.items():
        run.state[f"{MASK}{name}"] = mask
    return ModelUpdate(optimizer="reset", ema="reset")


def words_on(state: Mapping[str, Any], rounds: int) -> str:
    """Say which round was chosen, where one was."""
    if BEST not in state or len(state[SCORES]) < rounds:
        return ""
    return f", as in round {state[BEST]} of {rounds}, the best one"


def _load(run: Run, weights: Mapping[str, Tensor]) -> None:
    for name, value in run.model.state_dict().items():
        value.copy_(weights[name])


def _taken(state: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    """Take tensors out of the state, so that later checkpoints are without them."""
    taken: dict[str, Tensor] = {}
    for key in list(state):
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            taken[name] = state.pop(key)
    return taken
