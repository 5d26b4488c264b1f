"""Non-dominated sorting and the epsilon-net, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from automl_sr.metric import Metric
from automl_sr.search.front import as_losses, dominates, epsilon_net, front_numbers, pareto_front, ranks

GOOD = Metric("good", "maximize", "quality", "x:y")
COST = Metric("cost", "minimize", "blueprint", "x:y", log=True)


def clouds(least: int = 1, distinct: bool = False) -> st.SearchStrategy[np.ndarray]:
    values = st.integers(0, 6).map(float)
    made = st.tuples(st.integers(least, 14), st.integers(1, 3)).flatmap(
        lambda s: arrays(np.float64, s, elements=values)
    )
    return made.map(lambda points: np.unique(points, axis=0)) if distinct else made


def beats(a: np.ndarray, b: np.ndarray) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(clouds())
def test_dominance_is_its_definition(points: np.ndarray) -> None:
    found = dominates(points)
    assert [[bool(x) for x in row] for row in found] == [[beats(a, b) for b in points] for a in points]


@given(clouds())
def test_a_row_is_dominated_from_the_front_before_its_own_and_by_none_of_its_own(points: np.ndarray) -> None:
    numbers = front_numbers(points)
    assert set(numbers) == set(range(int(numbers.max()) + 1))
    for row, number in zip(points, numbers, strict=True):
        assert not any(beats(other, row) for other in points[numbers == number])
        if number:
            assert any(beats(other, row) for other in points[numbers == number - 1])


@given(clouds())
def test_ranks_are_places_and_better_fronts_come_first(points: np.ndarray) -> None:
    found = ranks(points)
    assert sorted(found) == list(range(len(points)))
    by_place = front_numbers(points)[np.argsort(found)]
    assert (np.diff(by_place) >= 0).all()


@given(clouds(distinct=True), st.randoms())
def test_ranks_do_not_depend_on_the_order_of_rows(points: np.ndarray, random: object) -> None:
    order = list(range(len(points)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert list(ranks(points[order])) == list(ranks(points)[order])


@given(clouds(distinct=True), st.sampled_from([0.5, 2.0, 64.0]), st.integers(-8, 8))
def test_ranks_do_not_depend_on_the_scale_of_an_objective(points: np.ndarray, factor: float, shift: int) -> None:
    changed = points.copy()
    changed[:, 0] = changed[:, 0] * factor + shift
    assert list(ranks(changed)) == list(ranks(points))


@given(clouds(distinct=True))
def test_a_dominated_row_does_not_change_the_fronts_of_the_others(points: np.ndarray) -> None:
    worse = np.vstack([points, points.max(axis=0) + 1])
    assert list(front_numbers(worse)[:-1]) == list(front_numbers(points))


def test_four_points_in_a_line_rank_as_they_dominate() -> None:
    points = np.array([[3, 3], [1, 1], [2, 2], [4, 4]], dtype=float)
    assert list(ranks(points)) == [2, 0, 1, 3]


def test_the_net_takes_the_best_of_the_first_objective_then_the_other_end_then_the_middle() -> None:
    front = np.array([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert list(epsilon_net(front)) == [3, 1, 0, 2]


def test_with_one_objective_the_order_is_that_of_the_values() -> None:
    values = np.array([[3.0], [1.0], [2.0]])
    assert list(ranks(values)) == [2, 0, 1]


def test_the_front_follows_directions_and_keeps_equal_models() -> None:
    rows = [
        {"good": 3.0, "cost": 10.0},
        {"good": 2.0, "cost": 10.0},
        {"good": 1.0, "cost": 5.0},
        {"good": 3.0, "cost": 10.0},
    ]
    assert pareto_front(rows, [GOOD, COST]) == [0, 2, 3]
    assert pareto_front([], [GOOD, COST]) == []


def test_costs_are_compared_by_ratio_where_they_spread_over_magnitudes() -> None:
    losses = as_losses([{"good": 1.0, "cost": 100.0}, {"good": 2.0, "cost": 10_000.0}], [GOOD, COST], logarithmic=True)
    assert losses == pytest.approx(np.array([[-1, np.log(100)], [-2, np.log(10_000)]]))
