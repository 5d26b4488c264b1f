"""Soft shrinkage: the smallest weights become smaller in every step, and may still grow back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from automl_sr.api import ModelUpdate
from automl_sr_plugins.unstructured_pruning.body import body
from automl_sr_plugins.unstructured_pruning.masks import count_left, keep_masks, largest

if TYPE_CHECKING:
    from automl_sr.api import Run, TrainStep


def left_by_size(weight: Tensor, sparsity: float) -> Tensor:
    """Return the mask that leaves the largest weights of a layer."""
    sizes = weight.detach().abs()
    everything = torch.ones_like(sizes, dtype=torch.bool)
    return largest(sizes, everything, count_left(1 - sparsity, sizes))


def smallest(weight: Tensor, share: float) -> Tensor:
    """Return where the smallest weights of a layer are: a share of them, and what is as small."""
    sizes = weight.detach().abs()
    count = round(share * sizes.numel())
    if count == 0:
        return torch.zeros_like(sizes, dtype=torch.bool)
    # Every step asks: one value is found in less time than all are sorted in.
    largest_of_them = sizes.reshape(-1).kthvalue(count).values
    return sizes <= largest_of_them


def shrinking(step: TrainStep, run: Run, sparsity: float, factor: float) -> TrainStep:
    """Surround the optimizer's step."""
    names = [layer.weight for layer in body(run.model, run.task)]

    @contextmanager
    def smaller(run: Run) -> Iterator[None]:
        yield
        with torch.no_grad():
            for name in names:
                weight = run.model.get_parameter(name)
                small = smallest(weight, sparsity)
                weight.copy_(torch.where(small, factor * weight, weight))

    return step.with_step_context(smaller)


def fix(run: Run, sparsity: float) -> ModelUpdate:
    """Drop the smallest weights from now on."""
    masks = {}
    for layer in body(run.model, run.task):
        weight = run.model.get_parameter(layer.weight)
        masks[layer.weight] = left_by_size(weight, sparsity)
    keep_masks(run, masks)
    # The average remembers weights that are zero now.
    return ModelUpdate(ema="reset")
