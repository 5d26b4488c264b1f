"""Who goes on at a rung."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_sr.plugin.metric import Metric
from automl_sr.search.decide.scheduler import (
    MedianStopping,
    NoScheduler,
    ParetoASHA,
    make_scheduler,
    scheduler_of,
)

PSNR = Metric("psnr", "maximize", "quality", "x:y")
COST = Metric("cost", "minimize", "blueprint", "x:y", log=True)

numbers = st.integers(0, 30).map(float)


def at(*values: float) -> list[dict[str, float]]:
    return [{"psnr": value} for value in values]


def both(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"psnr": psnr, "cost": cost} for psnr, cost in values]


def test_the_first_at_a_rung_goes_on() -> None:
    assert ParetoASHA([PSNR, COST], 3).decide(0, {"psnr": 1.0, "cost": 1.0}, []).go_on


@given(st.lists(numbers, max_size=20), numbers, st.integers(2, 4))
def test_with_one_objective_it_is_successive_halving(
    others: list[float], own: float, reduction: int
) -> None:
    """Among the best floor(n / reduction) of all values, or the best of them."""
    allowed = max(1, (len(others) + 1) // reduction)
    as_good = sum(other >= own for other in others)
    expected = as_good < allowed or all(own >= other for other in others)
    assert ParetoASHA([PSNR], reduction).decide(0, {"psnr": own}, at(*others)).go_on == expected


@given(
    st.lists(st.tuples(numbers, numbers), max_size=12), st.tuples(numbers, numbers), st.randoms()
)
def test_the_order_of_rows_does_not_matter(
    others: list[tuple[float, float]], own: tuple[float, float], random: object
) -> None:
    shuffled = list(others)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    judge, [mine] = ParetoASHA([PSNR, COST], 3), both(own)
    assert judge.decide(0, mine, both(*others)) == judge.decide(0, mine, both(*shuffled))


@given(
    st.lists(st.tuples(numbers, st.integers(1, 30).map(float)), max_size=12),
    st.tuples(numbers, st.integers(1, 30).map(float)),
    st.sampled_from([0.5, 2.0, 1024.0]),
)
def test_the_units_of_objectives_do_not_matter(
    others: list[tuple[float, float]], own: tuple[float, float], unit: float
) -> None:
    def changed(pair: tuple[float, float]) -> tuple[float, float]:
        return 4 * pair[0] - 7, pair[1]

    judge = ParetoASHA([PSNR, COST], 3)
    plain = judge.decide(0, both(own)[0], both(*others))
    assert judge.decide(0, both(changed(own))[0], both(*map(changed, others))) == plain
    # Costs are compared by ratio. Powers of two, and whole rows, so that rounding does not make or
    # break ties.
    linear = ParetoASHA([PSNR, Metric("cost", "minimize", "blueprint", "x:y")], 3)
    scaled = [(psnr, unit * cost) for psnr, cost in [*others, own]]
    assert linear.decide(0, both(scaled[-1])[0], both(*scaled[:-1])) == linear.decide(
        0, both(own)[0], both(*others)
    )


def test_of_equally_good_trials_the_cheap_one_goes_on_from_the_first_rung() -> None:
    """Costs that are known before training are among the values at every rung."""
    others = both((30.0, 100.0), (29.0, 90.0), (28.0, 80.0), (27.0, 200.0), (26.0, 300.0))
    judge = ParetoASHA([PSNR, COST], 3)
    assert judge.decide(0, {"psnr": 25.0, "cost": 10.0}, others).go_on
    assert not judge.decide(0, {"psnr": 25.0, "cost": 100.0}, others).go_on


def halving(final: np.ndarray, slope: np.ndarray) -> tuple[set[int], int]:
    """Run 81 trials one after the other on curves a - b / sqrt(t); gives who reached the top, and
    the steps in all.
    """
    judge, rungs = ParetoASHA([PSNR], 3), (1, 3, 9)
    reached: dict[int, list[dict[str, float]]] = {rung: [] for rung in rungs}
    top, steps = set(), 0
    for trial, (end, fall) in enumerate(zip(final, slope, strict=True)):
        for index, rung in enumerate(rungs):
            values = {"psnr": end - fall / np.sqrt(rung)}
            go_on = judge.decide(index, values, reached[rung]).go_on
            reached[rung].append(values)
            if not go_on:
                steps += rung
                break
        else:
            top.add(trial)
            steps += 27
    return top, steps


@pytest.mark.ci
def test_curves_that_do_not_cross_lose_no_winner_and_cost_a_seventh() -> None:
    """0.15 of training all, since trials go on from a rung; it would be 0.21 if every rung
    began anew.
    """
    costs = []
    for seed in range(50):
        final = np.random.default_rng(seed).normal(30, 1, 81)
        top, steps = halving(final, np.full(81, 2.0))
        assert int(final.argmax()) in top
        costs.append(steps / (81 * 27))
    assert np.mean(costs) == pytest.approx(0.15, abs=0.01)


@pytest.mark.ci
def test_curves_that_cross_cost_something() -> None:
    """What learns slowly may be stopped: the loss against knowing everything is there, and
    small.
    """
    regrets = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        final = rng.normal(30, 1, 81)
        top, _ = halving(final, rng.uniform(0, 4, 81))
        regrets.append(final.max() - final[list(top)].max())
    assert 0 < np.mean(regrets) < 1, "a standard deviation of the final values"


def test_the_best_in_the_first_objective_goes_on_however_costly() -> None:
    small = both(*[(20.0 + n, 100.0 + 10 * n) for n in range(8)])
    assert ParetoASHA([PSNR, COST], 4).decide(0, {"psnr": 40.0, "cost": 1e9}, small).go_on


def test_what_is_dominated_is_stopped() -> None:
    others = both((30.0, 10.0), (31.0, 20.0), (32.0, 30.0), (29.0, 9.0), (28.0, 8.0))
    assert not ParetoASHA([PSNR, COST], 3).decide(0, {"psnr": 27.0, "cost": 50.0}, others).go_on


def test_a_measurement_that_is_no_number_is_stopped_and_does_not_disturb_others() -> None:
    judge = ParetoASHA([PSNR], 3)
    assert not judge.decide(0, {"psnr": float("nan")}, at(1.0)).go_on
    assert judge.decide(0, {"psnr": 1.0}, at(float("nan"))).go_on


def test_the_median_stops_the_worse_half_once_there_are_enough() -> None:
    judge = MedianStopping(PSNR)
    assert judge.decide(0, {"psnr": 1.0}, at(5.0, 6.0)).go_on
    assert not judge.decide(0, {"psnr": 5.0}, at(5.0, 6.0, 7.0)).go_on
    assert judge.decide(0, {"psnr": 6.0}, at(5.0, 6.0, 7.0)).go_on
    assert judge.decide(0, {"psnr": 9.0}, at(5.0, 6.0, 7.0)).go_on


@pytest.mark.parametrize(
    ("kind", "cls"),
    [("none", NoScheduler), ("median", MedianStopping), ("pareto-asha", ParetoASHA)],
)
def test_a_study_names_its_scheduler(kind: str, cls: type) -> None:
    asked = SimpleNamespace(
        search=SimpleNamespace(scheduler=SimpleNamespace(kind=kind, reduction=3))
    )
    assert isinstance(make_scheduler(asked, [PSNR]), cls)  # type: ignore[arg-type]


def test_the_median_looks_at_the_first_of_several_objectives() -> None:
    judge = scheduler_of("median", 3, [PSNR, COST])
    others = both((5.0, 1.0), (6.0, 1.0), (7.0, 1.0))
    assert judge.decide(0, {"psnr": 9.0, "cost": 99.0}, others).go_on
    assert not judge.decide(0, {"psnr": 4.0, "cost": 0.1}, others).go_on


def test_without_a_scheduler_all_go_on() -> None:
    assert NoScheduler().decide(0, {"psnr": 0.0}, at(9.0, 9.0, 9.0)).go_on


def test_a_verdict_says_why() -> None:
    judge = ParetoASHA([PSNR], 3)
    reasons = {
        "the first trial at this rung": judge.decide(0, {"psnr": 1.0}, []),
        "the best of 3 in psnr": judge.decide(0, {"psnr": 9.0}, at(5.0, 6.0)),
        "place 3 of 4; the best one is promoted": judge.decide(0, {"psnr": 6.0}, at(5.0, 7.0, 8.0)),
        "place 2 of 6; the best 2 are promoted": judge.decide(
            0, {"psnr": 8.0}, at(1.0, 2.0, 3.0, 4.0, 9.0)
        ),
        "an objective is no finite number": judge.decide(0, {"psnr": float("nan")}, at(1.0)),
        "every trial is promoted": NoScheduler().decide(0, {"psnr": 1.0}, at(2.0)),
        "psnr is 5, the median of 3 trials 6": MedianStopping(PSNR).decide(
            0, {"psnr": 5.0}, at(5.0, 6.0, 7.0)
        ),
    }
    assert [verdict.reason for verdict in reasons.values()] == list(reasons)
    assert [verdict.go_on for verdict in reasons.values()] == [
        True,
        True,
        False,
        True,
        False,
        True,
        False,
    ]
