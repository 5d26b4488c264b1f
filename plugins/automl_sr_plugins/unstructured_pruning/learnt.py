"""N of M learnt layer by layer (SLS): scores say how many units of every group are on."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from automl_sr.api import ModelUpdate, Output, ParamGroup, TrialError
from automl_sr_plugins.unstructured_pruning.groups import (
    as_weight,
    grouped,
    mask_of,
    order_of,
)
from automl_sr_plugins.unstructured_pruning.masks import FAMILY, keep_masks

if TYPE_CHECKING:
    from automl_sr.api import Batch, Layer, Run, TrainStep

SCORES = f"{FAMILY}_scores"
"""Name of the auxiliary module and of its group of parameters."""
ORDER = f"{FAMILY}.order."
PROGRESS = f"{FAMILY}.progress"
MOST = 1.03
"""A score is between 0 and this, as published."""
EPOCHS = 20
"""So often in the phase weights are ranked anew, and the pressure is looked at."""
PRESSURE, GROWTH, SLOW = 0.1, 1.2, 0.05
"""The cost counts for this share of the task's loss at first, and for so many times more whenever
two epochs have moved it by less than this.
"""
LARGEST_RATE = 0.02
"""Scores learn fast enough to turn all units off within the phase, and no faster than this."""


class Scores(nn.Module):
    """For each layer M - 1 scores: unit i + 1 is on while the product of the first i is above 1/2.

    A unit holds the weights of one rank in all groups of a layer; unit 1 is always on. As the
    product only falls, units are turned off from the last on.
    """

    def __init__(self, layers: int, m: int) -> None:
        super().__init__()
        self.scores = nn.ParameterList(nn.Parameter(torch.ones(m - 1)) for _ in range(layers))

    def units(self, layer: int) -> Tensor:
        """Return which of the M units are on: 1 or 0, with the gradient of the products."""
        products = self.scores[layer].clamp(0, MOST).cumprod(0)
        on = (products > 0.5).to(products.dtype)
        # The difference is exactly 0, and passes the gradient on.
        passed = on + (products - products.detach())
        return torch.cat([passed.new_ones(1), passed])

    def chance(self, layer: int, count: int) -> float:
        """Return the product that says whether the last of so many units is on."""
        products = self.scores[layer].detach().clamp(0, MOST).cumprod(0)
        return float(products[count - 2])

    def left(self) -> list[int]:
        """Return N of each layer."""
        counts: list[int] = []
        for layer in range(len(self.scores)):
            counts.append(int(self.units(layer).detach().sum()))
        return counts


def macs_of(layer: Layer, weight: Tensor) -> int:
    """Return the multiply-adds of a convolution with all its weights, for the cost example."""
    places = 1
    for side in layer.output_shape[1:]:
        places *= side
    return weight.numel() * places * layer.calls


def share_left(counts: list[int], macs: list[int], m: int) -> float:
    """Return the share of the layers' multiply-adds that N of M of each leave."""
    left = sum(n * cost for n, cost in zip(counts, macs, strict=True))
    return left / (m * sum(macs))


def begin(run: Run, m: int) -> None:
    """Rank the weights, with all units on."""
    _rank(run, [layer.weight for layer in grouped(run.model, run.task, m)], m)
    run.state[PROGRESS] = {"pressure": PRESSURE, "shares": [1.0], "frozen": False}


def learning(step: TrainStep, run: Run, m: int, budget: float) -> TrainStep:
    """Put masked convolutions in the place of the layers, and the cost into the loss."""
    if run.span is None:
        raise TrialError("N is learnt in a phase, and there is none.")
    search = _Search.of(run, m, budget)
    rate = min(LARGEST_RATE, 1 / run.span.steps)
    parameters = []
    for name, _ in search.scores.named_parameters():
        parameters.append(f"aux.{SCORES}.{name}")

    step = step.with_aux(SCORES, search.scores)
    step = step.with_group(SCORES, ParamGroup(tuple(parameters), lr=rate, scheduled=False))
    for place, layer in enumerate(search.layers):
        step = step.with_layer(layer.name, functools.partial(search.masked, place, run))
    step = step.with_loss(SCORES, search.cost)
    epoch = max(1, run.span.steps // EPOCHS)
    watch = functools.partial(search.watching, start=run.span.start, epoch=epoch)
    return step.with_step_context(watch)


@dataclass(frozen=True)
class _Search:
    """What one phase learns: scores, the layers that they are of, and what these cost."""

    scores: Scores
    layers: list[Layer]
    macs: list[int]
    m: int
    budget: float

    @classmethod
    def of(cls, run: Run, m: int, budget: float) -> _Search:
        found = grouped(run.model, run.task, m)
        macs = []
        for layer in found:
            macs.append(macs_of(layer, run.model.get_parameter(layer.weight)))
        return cls(Scores(len(found), m), found, macs, m, budget)

    def masked(self, place: int, run: Run, part: nn.Conv2d, features: Tensor) -> Tensor:
        """Convolve with the weights whose units are on."""
        order = run.state[f"{ORDER}{self.layers[place].weight}"]
        mask = mask_by_units(self.scores.units(place), order, part.weight)
        output: Tensor = part._conv_forward(features, part.weight * mask, part.bias)
        return output

    def cost(self, output: Output, batch: Batch, run: Run) -> Tensor:
        """Return the share of the multiply-adds that is left, in terms of the task's own loss.

        The published weight of 1e-10 for each multiply-add suits nets of one size and one loss.
        """
        total = sum(self.macs)
        shares = []
        for place, macs in enumerate(self.macs):
            shares.append(self.scores.units(place).sum() * (macs / (self.m * total)))
        own = run.task.loss(output.prediction, batch, run.recipe.loss).detach()
        pressure: float = run.state[PROGRESS]["pressure"]
        return pressure * own * torch.stack(shares).sum()

    @contextmanager
    def watching(self, run: Run, *, start: int, epoch: int) -> Iterator[None]:
        """Surround the optimizer's step: stop at the budget, and look around in every epoch."""
        before = [value.detach().clone() for value in self.scores.parameters()]
        yield
        progress = dict(run.state[PROGRESS])
        with torch.no_grad():
            for value, former in zip(self.scores.parameters(), before, strict=True):
                if progress["frozen"]:
                    value.copy_(former)
                value.clamp_(0, MOST)
        share = share_left(self.scores.left(), self.macs, self.m)
        if share <= self.budget:
            progress["frozen"] = True
            progress["pressure"] = 0.0
        if (run.step + 1 - start) % epoch == 0:
            _rank(run, [layer.weight for layer in self.layers], self.m)
            progress["shares"] = [*progress["shares"], share]
            if _is_slow(progress["shares"]):
                progress["pressure"] *= GROWTH
        run.state[PROGRESS] = progress


def _is_slow(shares: list[float]) -> bool:
    return len(shares) > 2 and shares[-3] - shares[-1] < SLOW


def _rank(run: Run, names: list[str], m: int) -> None:
    for name in names:
        order = order_of(run.model.get_parameter(name), m)
        # One byte for each weight in every checkpoint: M is below 256.
        run.state[f"{ORDER}{name}"] = order.to(torch.uint8)


def mask_by_units(units: Tensor, order: Tensor, weight: Tensor) -> Tensor:
    """Return the mask [out, in, ...] of the weights whose units are on.

    units: [M], 1 or 0, from the largest weights on. order: [groups, M], as `order_of` gives it.
    """
    spread = units.expand(order.shape)
    values = torch.zeros_like(spread).scatter(1, order.long(), spread)
    return as_weight(values, weight)


def settle(run: Run, m: int, budget: float) -> ModelUpdate:
    """Keep N of each layer, as it was learnt; where that is too much, turn off what is least sure.

    Training ends after so many steps, whether the budget was reached or not.
    """
    scores = run.train_step.aux[SCORES]
    if not isinstance(scores, Scores):
        raise TrialError("What was learnt about N is gone.")
    search = _Search.of(run, m, budget)
    counts = within(scores, search.macs, m, budget)
    masks = {}
    for layer, n in zip(search.layers, counts, strict=True):
        masks[layer.weight] = mask_of(run.model.get_parameter(layer.weight), n, m)
        del run.state[f"{ORDER}{layer.weight}"]
    reached = run.state.pop(PROGRESS)["frozen"]
    keep_masks(run, masks)
    run.context.log.info("N of %d by layer: %s (budget reached: %s)", m, counts, reached)
    # The average remembers weights that are zero now.
    return ModelUpdate(ema="reset")


def within(scores: Scores, macs: list[int], m: int, budget: float) -> list[int]:
    """Return N of each layer, lowered where scores are least until the budget is kept to."""
    counts = scores.left()
    while share_left(counts, macs, m) > budget + 1e-9:
        weakest: int | None = None
        least = float("inf")
        for place, n in enumerate(counts):
            if n > 1 and scores.chance(place, n) < least:
                weakest = place
                least = scores.chance(place, n)
        if weakest is None:
            break  # one of each M is the least that can be left
        counts[weakest] -= 1
    return counts
