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

_SMALLEST = np.finfo(np.float64).tiny
"""Stands for zero and less where a logarithm is taken."""


def as_losses(
    values: Sequence[Mapping[str, float]], metrics: Sequence[Metric], *, logarithmic: bool = False
) -> Points:
    """Make points of values by metric name: [n, d]; what is maximised changes its sign.

    With `logarithmic`, metrics that spread over magnitudes (their `log`) are compared by ratio.
    """
    points = np.empty((len(values), len(metrics)), dtype=np.float64)
    for column, metric in enumerate(metrics):
        measured = np.array([row[metric.name] for row in values], dtype=np.float64)
        if logarithmic and metric.log:
            measured = np.log(np.maximum(measured, _SMALLEST))
        points[:, column] = metric.sign * measured
    return points


def dominates(points: Points) -> NDArray[np.bool_]:
    """Say for each pair whether row i dominates row j: nowhere larger, somewhere smaller.

    [n, n]."""
    count = len(points)
    no_worse = np.ones((count, count), dtype=bool)
    better = np.zeros((count, count), dtype=bool)
    # Objective by objective: all at once would need [n, n, d] of memory.
    for column in points.T:
        own = column[:, None]
        other = column[None]
        no_worse &= own <= other
        better |= own < other
    return no_worse & better


def front_numbers(points: Points) -> Order:
    """Return for each row the number of its front [n]: 0 where nothing dominates it, 1 once these
    are gone, ...
    """
    dominance = dominates(points)
    numbers = np.full(len(points), -1, dtype=np.int64)
    # How many rows that have no number yet dominate each row.
    above = dominance.sum(axis=0)
    number = 0
    while True:
        free = (above == 0) & (numbers < 0)
        members = np.flatnonzero(free)
        if not len(members):
            return numbers
        numbers[members] = number
        above -= dominance[members].sum(axis=0)
        number += 1


def pareto_front(values: Sequence[Mapping[str, float]], metrics: Sequence[Metric]) -> list[int]:
    """Return the positions of the values that no others dominate, in the given order.

    Equal ones are all kept.
    """
    if not values:
        return []
    numbers = front_numbers(as_losses(values, metrics))
    found: list[int] = []
    for index in np.flatnonzero(numbers == 0):
        found.append(int(index))
    return found


def epsilon_net(points: Points) -> Order:
    """Order the rows of one front so that every beginning of the order is spread over it. [n].

    First the best in the first objective, then always the row that is farthest from those before
    (Salinas et al., "A multi-objective perspective on jointly tuning hardware and hyperparameters",
    ICLR workshop on neural architecture search 2021).
    """
    # Ties go to the smaller row, objective by objective, so that the order of rows does not
    # matter. `lexsort` takes its last key first.
    canonical = np.lexsort(points.T[::-1])
    rows = points[canonical]

    order = [0]
    distance = _squared_distance(rows, 0)
    taken = np.zeros(len(rows), dtype=bool)
    taken[0] = True
    while len(order) < len(rows):
        candidates = np.where(taken, -1.0, distance)
        chosen = int(np.argmax(candidates))
        order.append(chosen)
        taken[chosen] = True
        distance = np.minimum(distance, _squared_distance(rows, chosen))
    found: Order = canonical[np.array(order, dtype=np.int64)]
    return found


def _squared_distance(rows: Points, chosen: int) -> NDArray[np.float64]:
    """Return how far each row is from one of them. [n]."""
    apart = rows - rows[chosen]
    squared: NDArray[np.float64] = (apart**2).sum(axis=1)
    return squared


def ranks(points: Points) -> Order:
    """Return for each row its place, the best being 0: by front, and inside a front by the
    epsilon-net. [n].

    Equal rows share a place's neighbourhood; which of them comes first does not matter.
    """
    numbers = front_numbers(points)
    places = np.empty(len(points), dtype=np.int64)
    last = int(numbers.max(initial=-1))
    begin = 0
    for number in range(last + 1):
        ordered = _ordered(points, numbers, number)
        end = begin + len(ordered)
        places[ordered] = np.arange(begin, end)
        begin = end
    return places


def place(points: Points, row: int) -> int:
    """Return the place of a row by `ranks`, the best being 1; of equal rows the worst place counts.

    Only the row's own front is put in order.
    """
    numbers = front_numbers(points)
    number = int(numbers[row])
    before = int((numbers < number).sum())
    ordered = _ordered(points, numbers, number)
    same = (points[ordered] == points[row]).all(axis=1)
    worst = int(np.flatnonzero(same).max())
    return before + worst + 1


def _ordered(points: Points, numbers: Order, number: int) -> Order:
    """Order the rows of one front by the epsilon-net, each objective scaled to 0..1."""
    # Scaled over this front and the better ones: with the range of all rows, a single bad one
    # would change who goes on among the best.
    compared = points[numbers <= number]
    low = compared.min(axis=0)
    high = compared.max(axis=0)
    # An objective in which all are equal keeps its zeros.
    span = np.where(high > low, high - low, 1.0)

    members = np.flatnonzero(numbers == number)
    scaled = (points[members] - low) / span
    ordered: Order = members[epsilon_net(scaled)]
    return ordered


def hypervolume(points: Points, reference: NDArray[np.float64]) -> float:
    """Return the volume that points dominate up to a reference point.

    A point that is not better than it everywhere adds nothing.

    Exact: by strips for two objectives, by slices along the first objective for more.
    """
    better = (points < reference).all(axis=1)
    # Sorted by the first objective, which strips and slices rely on, and without equal rows.
    inside = np.unique(points[better], axis=0)
    if not len(inside):
        return 0.0
    front = inside[front_numbers(inside) == 0]
    return _volume(front, reference)


def _volume(front: Points, reference: NDArray[np.float64]) -> float:
    """Measure a front without equal rows, sorted by the first objective."""
    first = front[:, 0]
    if len(reference) == 1:
        return float(reference[0] - first[0])
    if len(reference) == 2:
        widths = reference[0] - first
        tops = np.concatenate([reference[1:], front[:-1, 1]])
        strips = widths * (tops - front[:, 1])
        return float(strips.sum())

    # Each slice reaches from one point to the next; in it, all points so far dominate.
    depths = np.diff(np.append(first, reference[0]))
    volume = 0.0
    for count, depth in enumerate(depths, start=1):
        if depth > 0:
            volume += depth * hypervolume(front[:count, 1:], reference[1:])
    return float(volume)


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
        best, worst = corners
        losses = as_losses(values, self.metrics, logarithmic=True)
        found: Points = (losses - best) / (worst - best)
        return found

    def share(self, points: Points) -> float:
        """Return the hypervolume of scaled points: the share of the box that they dominate."""
        return hypervolume(points, np.ones(len(self.metrics)))
