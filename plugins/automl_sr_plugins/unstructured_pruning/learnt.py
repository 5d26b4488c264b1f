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
CLOSE = 1e-9
"""Sums of shares may be so far above the budget: 3 * 0.1 is 0.30000000000000004."""
LARGEST_RATE = 0.02
"""Scores learn fast enough to turn all units off within the phase, and no faster than this."""


class Scores(nn.Module):
    """For each layer M - 1 scores: unit i + 1 is on while the product of the first i is above 1/2.

    A unit holds the weights of one rank in all groups of a layer; unit 1 is always on. As the
    product only falls, units are turned off from the last on.
    """

    def __init__(self, layers: int, m: int) -> None:
        super().__init__()
        self.scores = nn.ParameterList()
        for _ in range(layers):
            # All units are on, and the net is dense.
            self.scores.append(nn.Parameter(torch.ones(m - 1)))

    def products(self, layer: int) -> Tensor:
        """Return for each unit but the first the product of the scores up to its own."""
        bounded: Tensor = self.scores[layer].clamp(0, MOST)
        return bounded.cumprod(0)

    def units(self, layer: int) -> Tensor:
        """Return which of the M units are on: 1 or 0, with the gradient of the products."""
        products = self.products(layer)
        on = (products > 0.5).to(products.dtype)
        # The difference is exactly 0, and passes the gradient on.
        passed = on + (products - products.detach())
        return torch.cat([passed.new_ones(1), passed])

    def chance(self, layer: int, count: int) -> float:
        """Return the product that says whether the last of so many units is on."""
        products = self.products(layer).detach()
        return float(products[count - 2])

    def left(self) -> list[int]:
        """Return N of each layer."""
        counts: list[int] = []
        for layer in range(len(self.scores)):
            units = self.units(layer).detach()
            counts.append(int(units.sum()))
        return counts


def macs_of(layer: Layer, weight: Tensor) -> int:
    """Return the multiply-adds of a convolution with all its weights, for the cost example."""
    places = 1
    for side in layer.output_shape[1:]:
        places *= side
    return weight.numel() * places * layer.calls


def share_left(counts: list[int], macs: list[int], m: int) -> float:
    """Return the share of the layers' multiply-adds that N of M of each leave."""
    left = 0
    for n, cost in zip(counts, macs, strict=True):
        left += n * cost
    dense = m * sum(macs)
    return left / dense


def begin(run: Run, m: int) -> None:
    """Rank the weights, with all units on."""
    _rank(run, grouped(run.model, run.task, m), m)
    run.state[PROGRESS] = {"pressure": PRESSURE, "shares": [1.0], "frozen": False}


def learning(step: TrainStep, run: Run, m: int, budget: float) -> TrainStep:
    """Put masked convolutions in the place of the layers, and the cost into the loss."""
    if run.span is None:
        raise TrialError("N is learnt in a phase, and there is none.")
    search = _Search.of(run, m, budget)
    step = step.with_aux(SCORES, search.scores)
    step = step.with_loss(SCORES, search.cost)

    # A rate of their own: that of the weights would not get them there in a short phase.
    names = []
    for name, _ in search.scores.named_parameters():
        names.append(f"aux.{SCORES}.{name}")
    rate = min(LARGEST_RATE, 1 / run.span.steps)
    group = ParamGroup(tuple(names), lr=rate, scheduled=False)
    step = step.with_group(SCORES, group)

    for place, layer in enumerate(search.layers):
        swap = functools.partial(search.masked, place, run)
        step = step.with_layer(layer.name, swap)

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
            weight = run.model.get_parameter(layer.weight)
            macs.append(macs_of(layer, weight))
        return cls(Scores(len(found), m), found, macs, m, budget)

    def masked(self, place: int, run: Run, part: nn.Conv2d, features: Tensor) -> Tensor:
        """Convolve with the weights whose units are on."""
        name = self.layers[place].weight
        units = self.scores.units(place)
        mask = mask_by_units(units, run.state[f"{ORDER}{name}"], part.weight)
        # What `forward` calls: stride, padding and groups stay the layer's.
        output: Tensor = part._conv_forward(features, part.weight * mask, part.bias)
        return output

    def cost(self, output: Output, batch: Batch, run: Run) -> Tensor:
        """Return the share of the multiply-adds that is left, in terms of the task's own loss.

        The published weight of 1e-10 for each multiply-add suits nets of one size and one loss.
        """
        dense = self.m * sum(self.macs)
        shares = []
        for place, macs in enumerate(self.macs):
            on = self.scores.units(place).sum()
            shares.append(on * (macs / dense))
        share = torch.stack(shares).sum()

        own = run.task.loss(output.prediction, batch, run.recipe.loss)
        pressure: float = run.state[PROGRESS]["pressure"]
        return pressure * own.detach() * share

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
                value.clamp_(0, MOST)  # beyond the bounds a score would get no gradient back

        share = share_left(self.scores.left(), self.macs, self.m)
        if share <= self.budget:
            progress["frozen"] = True
            progress["pressure"] = 0.0

        done = run.step + 1 - start
        if done % epoch == 0:
            # Weights have moved: which of a group are the largest is asked again.
            _rank(run, self.layers, self.m)
            progress["shares"] = [*progress["shares"], share]
            if _is_slow(progress["shares"]):
                progress["pressure"] *= GROWTH
        run.state[PROGRESS] = progress


def _is_slow(shares: list[float]) -> bool:
    if len(shares) < 3:
        return False
    moved = shares[-3] - shares[-1]
    return moved < SLOW


def _rank(run: Run, ranked: list[Layer], m: int) -> None:
    for layer in ranked:
        weight = run.model.get_parameter(layer.weight)
        order = order_of(weight, m)
        # One byte for each weight in every checkpoint: M is below 256.
        run.state[f"{ORDER}{layer.weight}"] = order.to(torch.uint8)


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
        weight = run.model.get_parameter(layer.weight)
        masks[layer.weight] = mask_of(weight, n, m)
        del run.state[f"{ORDER}{layer.weight}"]
    reached = run.state.pop(PROGRESS)["frozen"]
    keep_masks(run, masks)
    run.context.log.info("N of %d by layer: %s (budget reached: %s)", m, counts, reached)
    # The average remembers weights that are zero now.
    return ModelUpdate(ema="reset")


def within(scores: Scores, macs: list[int], m: int, budget: float) -> list[int]:
    """Return N of each layer, lowered where scores are least until the budget is kept to."""
    counts = scores.left()
    while share_left(counts, macs, m) > budget + CLOSE:
        weakest = _weakest(scores, counts)
        if weakest is None:
            break  # one of each M is the least that can be left
        counts[weakest] -= 1
    return counts


def _weakest(scores: Scores, counts: list[int]) -> int | None:
    """Return the layer whose last unit is the least sure to be on; None: all have but one."""
    weakest: int | None = None
    least = float("inf")
    for place, n in enumerate(counts):
        if n == 1:
            continue
        chance = scores.chance(place, n)
        if chance < least:
            weakest = place
            least = chance
    return weakest
