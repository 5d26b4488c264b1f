"""Order by several objectives at once: non-dominated fronts, and spread inside a front.

All values are minimised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric

Points = NDArray[np.float64]
"""[n, d]: one row for each model, smaller is better everywhere."""
Order = NDArray[np.int64]


def as_losses(
    values: Sequence[Mapping[str, float]], metrics: Sequence[Metric], *, logarithmic: bool = False
) -> Points:
    """Make points of values by metric name: [n, d]; what is maximised changes its sign.

    With `logarithmic`, metrics that spread over magnitudes (their `log`) are compared by ratio.
    """
    points = np.array(
        [[row[metric.name] for metric in metrics] for row in values], dtype=np.float64
    )
    points = points.reshape(len(values), len(metrics))
    for column, metric in enumerate(metrics):
        if logarithmic and metric.log:
            points[:, column] = np.log(np.maximum(points[:, column], np.finfo(np.float64).tiny))
        points[:, column] *= metric.sign
    return points


def dominates(points: Points) -> NDArray[np.bool_]:
    """Say for each pair whether row i dominates row j: nowhere larger, somewhere smaller. [n,
    n].
    """
    no_worse = np.ones((len(points), len(points)), dtype=bool)
    better = np.zeros((len(points), len(points)), dtype=bool)
    for column in points.T:
        no_worse &= column[:, None] <= column[None]
        better |= column[:, None] < column[None]
    return no_worse & better


def front_numbers(points: Points) -> Order:
    """Return for each row the number of its front [n]: 0 where nothing dominates it, 1 once these
    are gone, ...
    """
    dominance = dominates(points)
    numbers = np.full(len(points), -1, dtype=np.int64)
    above = dominance.sum(axis=0)  # how many that are left dominate the row
    number = 0
    while len(members := np.flatnonzero((above == 0) & (numbers < 0))):
        numbers[members] = number
        above -= dominance[members].sum(axis=0)
        number += 1
    return numbers


def pareto_front(values: Sequence[Mapping[str, float]], metrics: Sequence[Metric]) -> list[int]:
    """Return the positions of the values that no others dominate, in the given order; equal ones
    are all kept.
    """
    if not values:
        return []
    found: list[int] = []
    for index in np.flatnonzero(front_numbers(as_losses(values, metrics)) == 0):
        found.append(int(index))
    return found


def epsilon_net(points: Points) -> Order:
    """Order the rows of one front so that every beginning of the order is spread over it. [n].

    First the best in the first objective, then always the row that is farthest from those before
    (Salinas et al., "A multi-objective perspective on jointly tuning hardware and hyperparameters",
    ICLR workshop on neural architecture search 2021). Ties go to the smaller row, objective by
    objective, so that the order of rows does not matter.
    """
    canonical = np.lexsort(points.T[::-1])
    rows = points[canonical]
    order = [0]
    distance = ((rows - rows[0]) ** 2).sum(axis=1)
    taken = np.zeros(len(rows), dtype=bool)
    taken[0] = True
    while len(order) < len(rows):
        chosen = int(np.argmax(np.where(taken, -1.0, distance)))
        order.append(chosen)
        taken[chosen] = True
        distance = np.minimum(distance, ((rows - rows[chosen]) ** 2).sum(axis=1))
    found: Order = canonical[np.array(order, dtype=np.int64)]
    return found


def ranks(points: Points) -> Order:
    """Return for each row its place, the best being 0: by front, and inside a front by the
    epsilon-net. [n].

    Equal rows share a place's neighbourhood; which of them comes first does not matter.
    """
    numbers = front_numbers(points)
    places = np.empty(len(points), dtype=np.int64)
    begin = 0
    for number in range(int(numbers.max(initial=-1)) + 1):
        ordered = _ordered(points, numbers, number)
        places[ordered] = np.arange(begin, begin + len(ordered))
        begin += len(ordered)
    return places


def place(points: Points, row: int) -> int:
    """Return the place of a row by `ranks`, the best being 1; of equal rows the worst place counts.

    Only the row's own front is put in order.
    """
    numbers = front_numbers(points)
    number = int(numbers[row])
    before = int((numbers < number).sum())
    ordered = points[_ordered(points, numbers, number)]
    equals = np.flatnonzero((ordered == points[row]).all(axis=1))
    return before + int(equals.max()) + 1


def _ordered(points: Points, numbers: Order, number: int) -> Order:
    """Order the rows of one front by the epsilon-net.

    Each objective is scaled to 0..1 over this front and the better ones: with the range of all
    rows, a single bad one would change who goes on among the best.
    """
    range_of = points[numbers <= number]
    low, high = range_of.min(axis=0), range_of.max(axis=0)
    members = np.flatnonzero(numbers == number)
    scaled = (points[members] - low) / np.where(high > low, high - low, 1.0)
    ordered: Order = members[epsilon_net(scaled)]
    return ordered


def hypervolume(points: Points, reference: NDArray[np.float64]) -> float:
    """Return the volume that points dominate up to a reference point.

    A point that is not better than it everywhere adds nothing.

    Exact: by strips for two objectives, by slices along the first objective for more.
    """
    inside = np.unique(points[(points < reference).all(axis=1)], axis=0)
    if len(inside):
        return _volume(inside[front_numbers(inside) == 0], reference)
    return 0.0


def _volume(front: Points, reference: NDArray[np.float64]) -> float:
    """Measure a front without equal rows, sorted by the first objective."""
    if len(reference) == 1:
        return float(reference[0] - front[0, 0])
    if len(reference) == 2:
        tops = np.concatenate([reference[1:], front[:-1, 1]])
        return float(((reference[0] - front[:, 0]) * (tops - front[:, 1])).sum())
    depths = np.diff(np.append(front[:, 0], reference[0]))
    slices = enumerate(depths, start=1)
    return float(
        sum(
            depth * hypervolume(front[:count, 1:], reference[1:])
            for count, depth in slices
            if depth > 0
        )
    )


@dataclass(frozen=True)
class Box:
    """The part of the space of losses in which fronts are compared, from the best of each objective
    to a reference.

    Both corners are values by metric, as measured; metrics that spread over magnitudes are taken by
    ratio.
    """

    metrics: tuple[Metric, ...]
    ideal: Mapping[str, float]
    reference: Mapping[str, float]

    def scaled(self, values: Sequence[Mapping[str, float]]) -> Points:
        """Return losses of which 0 is the best corner and 1 the reference. [n, d]."""
        corners = as_losses([self.ideal, self.reference], self.metrics, logarithmic=True)
        span = corners[1] - corners[0]
        found: Points = (as_losses(values, self.metrics, logarithmic=True) - corners[0]) / span
        return found

    def share(self, points: Points) -> float:
        """Return the hypervolume of scaled points: the share of the box that they dominate."""
        return hypervolume(points, np.ones(len(self.metrics)))
