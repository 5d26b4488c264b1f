"""Non-dominated sorting and the epsilon-net, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from automl_sr.plugin.metric import Metric
from automl_sr.search.front import (
    Box,
    as_losses,
    dominates,
    epsilon_net,
    front_numbers,
    hypervolume,
    pareto_front,
    place,
    ranks,
)

GOOD = Metric("good", "maximize", "quality", "x:y")
COST = Metric("cost", "minimize", "blueprint", "x:y", log=True)


def clouds(least: int = 1, distinct: bool = False) -> st.SearchStrategy[np.ndarray]:
    values = st.integers(0, 6).map(float)
    made = st.tuples(st.integers(least, 14), st.integers(1, 3)).flatmap(
        lambda s: arrays(np.float64, s, elements=values)
    )
    return made.map(lambda points: np.unique(points, axis=0)) if distinct else made


def beats(a: np.ndarray, b: np.ndarray) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


@given(clouds())
def test_dominance_is_its_definition(points: np.ndarray) -> None:
    found = dominates(points)
    assert [[bool(x) for x in row] for row in found] == [
        [beats(a, b) for b in points] for a in points
    ]


@given(clouds())
def test_a_row_is_dominated_from_the_front_before_its_own_and_by_none_of_its_own(
    points: np.ndarray,
) -> None:
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
def test_ranks_do_not_depend_on_the_scale_of_an_objective(
    points: np.ndarray, factor: float, shift: int
) -> None:
    changed = points.copy()
    changed[:, 0] = changed[:, 0] * factor + shift
    assert list(ranks(changed)) == list(ranks(points))


@given(clouds(distinct=True), st.data())
def test_a_dominated_row_does_not_change_the_places_in_better_fronts(
    points: np.ndarray, data: st.DataObject
) -> None:
    """However bad it is: the range of the bad ones does not scale the distances between the good
    ones.
    """
    beaten = points[data.draw(st.integers(0, len(points) - 1))]
    steps = data.draw(
        st.lists(st.sampled_from([0.0, 1.0, 1000.0]), min_size=len(beaten), max_size=len(beaten))
    )
    worse = np.vstack([points, beaten + steps + (sum(steps) == 0)])
    numbers, fronts = front_numbers(worse), front_numbers(points)
    better = fronts < numbers[-1]
    assert list(numbers[:-1][better]) == list(fronts[better])
    assert list(ranks(worse)[:-1][better]) == list(ranks(points)[better])


@given(clouds(), st.integers(0, 13))
def test_the_place_of_a_row_is_that_of_the_worst_of_its_equals(
    points: np.ndarray, row: int
) -> None:
    row %= len(points)
    worst = ranks(points)[(points == points[row]).all(axis=1)].max()
    assert place(points, row) == worst + 1


def test_four_points_in_a_line_rank_as_they_dominate() -> None:
    points = np.array([[3, 3], [1, 1], [2, 2], [4, 4]], dtype=float)
    assert list(ranks(points)) == [2, 0, 1, 3]


def test_the_net_takes_the_best_of_the_first_objective_then_the_other_end_then_the_middle() -> None:
    front = np.array([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert list(epsilon_net(front)) == [3, 1, 0, 2]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=20))
def test_the_net_begins_with_both_ends_of_a_front(pairs: list[tuple[int, int]]) -> None:
    points = np.unique(np.array(pairs, dtype=float), axis=0)
    numbers = front_numbers(points)
    first = np.argsort(ranks(points))[: (numbers == 0).sum()]
    front = points[numbers == 0]
    assert list(points[first[0]]) == list(front[front[:, 0].argmin()])
    if len(first) > 1:
        assert list(points[first[1]]) == list(front[front[:, 0].argmax()])


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
    losses = as_losses(
        [{"good": 1.0, "cost": 100.0}, {"good": 2.0, "cost": 10_000.0}],
        [GOOD, COST],
        logarithmic=True,
    )
    assert losses == pytest.approx(np.array([[-1, np.log(100)], [-2, np.log(10_000)]]))


# ---- hypervolume ----


def boxes(dimensions: int) -> st.SearchStrategy[np.ndarray]:
    values = st.integers(0, 10).map(lambda number: number / 8)
    return st.integers(0, 9).flatmap(
        lambda count: arrays(np.float64, (count, dimensions), elements=values)
    )


def unit(points: np.ndarray) -> float:
    return hypervolume(points, np.ones(points.shape[1]))


def by_cells(points: np.ndarray) -> float:
    """Count the cells of a grid that some point dominates; exact for points on the grid."""
    middles = (np.arange(8) + 0.5) / 8
    cells = np.stack(np.meshgrid(*[middles] * points.shape[1], indexing="ij"), axis=-1).reshape(
        -1, points.shape[1]
    )
    inside = points[(points < 1).all(axis=1)]
    return float((inside[None] <= cells[:, None]).all(axis=2).any(axis=1).mean())


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@given(st.data())
def test_the_hypervolume_is_what_the_points_dominate(dimensions: int, data: st.DataObject) -> None:
    points = data.draw(boxes(dimensions))
    assert unit(points) == pytest.approx(by_cells(points))


def test_one_point_spans_a_box() -> None:
    assert unit(np.array([[0.25, 0.5]])) == pytest.approx(0.75 * 0.5)
    assert unit(np.array([[0.25, 0.5, 0.9]])) == pytest.approx(0.75 * 0.5 * 0.1)
    assert unit(np.empty((0, 2))) == 0


@given(boxes(2), arrays(np.float64, (1, 2), elements=st.floats(0, 1.5)))
def test_another_point_never_takes_hypervolume_away_and_a_dominated_one_adds_none(
    points: np.ndarray, other: np.ndarray
) -> None:
    both = np.vstack([points, other])
    assert unit(both) >= unit(points) - 1e-12
    if len(points) and dominates(both)[:-1, -1].any():
        assert unit(both) == unit(points)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_hypervolume_agrees_with_random_points_thrown_into_the_box(dimensions: int) -> None:
    rng = np.random.default_rng(0)
    points, thrown = rng.random((20, dimensions)), rng.random((40_000, dimensions))
    hit = (points[None] <= thrown[:, None]).all(axis=2).any(axis=1).mean()
    assert unit(points) == pytest.approx(hit, rel=0.01)


def test_a_box_compares_costs_by_ratio_and_is_a_share() -> None:
    box = Box(
        (GOOD, COST),
        ideal={"good": 34.0, "cost": 100.0},
        reference={"good": 30.0, "cost": 10_000.0},
    )
    scaled = box.scaled(
        [{"good": 34.0, "cost": 100.0}, {"good": 32.0, "cost": 1000.0}, {"good": 30.0, "cost": 1e4}]
    )
    assert scaled == pytest.approx(np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]))
    assert box.share(scaled[:1]) == 1.0
    assert box.share(scaled[1:]) == pytest.approx(0.25)
