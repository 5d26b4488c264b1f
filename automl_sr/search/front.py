"""Order by several objectives at once: non-dominated fronts, and spread inside a front. All values are minimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from automl_sr.metric import Metric

Points = NDArray[np.float64]
"""[n, d]: one row for each model, smaller is better everywhere."""
Order = NDArray[np.int64]


def as_losses(values: Sequence[Mapping[str, float]], metrics: Sequence[Metric], *, logarithmic: bool = False) -> Points:
    """Make points of values by metric name: [n, d]; what is maximised changes its sign.

    With `logarithmic`, metrics that spread over magnitudes (their `log`) are compared by ratio.
    """
    points = np.array([[row[metric.name] for metric in metrics] for row in values], dtype=np.float64)
    points = points.reshape(len(values), len(metrics))
    for column, metric in enumerate(metrics):
        if logarithmic and metric.log:
            points[:, column] = np.log(np.maximum(points[:, column], np.finfo(np.float64).tiny))
        if metric.direction == "maximize":
            points[:, column] *= -1
    return points


def dominates(points: Points) -> NDArray[np.bool_]:
    """Say for each pair whether row i dominates row j: nowhere larger, somewhere smaller. [n, n]."""
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    return np.asarray(no_worse & better)


def front_numbers(points: Points) -> Order:
    """Give each row the number of its front: 0 where nothing dominates it, 1 once these are taken away, ... [n]."""
    dominance = dominates(points)
    numbers = np.full(len(points), -1, dtype=np.int64)
    number = 0
    while (left := numbers < 0).any():
        dominated = dominance[left][:, left].any(axis=0)
        numbers[np.flatnonzero(left)[~dominated]] = number
        number += 1
    return numbers


def pareto_front(values: Sequence[Mapping[str, float]], metrics: Sequence[Metric]) -> list[int]:
    """Give the positions of the values that no others dominate, in the given order; equal ones are all kept."""
    if not values:
        return []
    return [int(index) for index in np.flatnonzero(front_numbers(as_losses(values, metrics)) == 0)]


def epsilon_net(points: Points) -> Order:
    """Order the rows of one front so that every beginning of the order is spread over it. [n].

    First the best in the first objective, then always the row that is farthest from those before (Salinas et al., "A
    multi-objective perspective on jointly tuning hardware and hyperparameters", ICLR workshop on neural architecture
    search 2021). Ties go to the smaller row, objective by objective, so that the order of rows does not matter.
    """
    canonical = np.lexsort(points.T[::-1])
    rows = points[canonical]
    order = [0]
    distance = np.linalg.norm(rows - rows[0], axis=1)
    taken = np.zeros(len(rows), dtype=bool)
    taken[0] = True
    while len(order) < len(rows):
        chosen = int(np.argmax(np.where(taken, -1.0, distance)))
        order.append(chosen)
        taken[chosen] = True
        distance = np.minimum(distance, np.linalg.norm(rows - rows[chosen], axis=1))
    found: Order = canonical[np.array(order, dtype=np.int64)]
    return found


def ranks(points: Points) -> Order:
    """Give each row its place, the best being 0: by front, and inside a front by the epsilon-net. [n].

    Objectives are scaled to 0..1 over all rows before distances are taken. Equal rows share a place's neighbourhood;
    which of them comes first does not matter.
    """
    numbers = front_numbers(points)
    scaled = _scaled(points)
    places = np.empty(len(points), dtype=np.int64)
    begin = 0
    for number in range(int(numbers.max(initial=-1)) + 1):
        members = np.flatnonzero(numbers == number)
        ordered = members[epsilon_net(scaled[members])]
        places[ordered] = np.arange(begin, begin + len(members))
        begin += len(members)
    return places


def _scaled(points: Points) -> Points:
    if len(points) == 0:
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    scaled: Any = (points - low) / span
    return np.asarray(scaled, dtype=np.float64)
