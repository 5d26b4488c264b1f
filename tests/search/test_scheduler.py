"""Who goes on at a rung."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_sr.metric import Metric
from automl_sr.search.scheduler import MedianStopping, NoScheduler, ParetoASHA, make_scheduler

PSNR = Metric("psnr", "maximize", "quality", "x:y")
COST = Metric("cost", "minimize", "blueprint", "x:y", log=True)

numbers = st.integers(0, 30).map(float)


def at(*values: float) -> list[dict[str, float]]:
    return [{"psnr": value} for value in values]


def both(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"psnr": psnr, "cost": cost} for psnr, cost in values]


def test_the_first_at_a_rung_goes_on() -> None:
    assert ParetoASHA([PSNR, COST], 3).decide(0, {"psnr": 1.0, "cost": 1.0}, [])


@given(st.lists(numbers, max_size=20), numbers, st.integers(2, 4))
def test_with_one_objective_it_is_successive_halving(others: list[float], own: float, reduction: int) -> None:
    """Among the best floor(n / reduction) of all values, or the best of them."""
    allowed = max(1, (len(others) + 1) // reduction)
    as_good = sum(other >= own for other in others)
    expected = as_good < allowed or all(own >= other for other in others)
    assert ParetoASHA([PSNR], reduction).decide(0, {"psnr": own}, at(*others)) == expected


@given(st.lists(st.tuples(numbers, numbers), max_size=12), st.tuples(numbers, numbers), st.randoms())
def test_the_order_of_rows_does_not_matter(
    others: list[tuple[float, float]], own: tuple[float, float], random: object
) -> None:
    shuffled = list(others)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    judge, [mine] = ParetoASHA([PSNR, COST], 3), both(own)
    assert judge.decide(0, mine, both(*others)) == judge.decide(0, mine, both(*shuffled))


def test_the_best_in_the_first_objective_goes_on_however_costly() -> None:
    small = both(*[(20.0 + n, 100.0 + 10 * n) for n in range(8)])
    assert ParetoASHA([PSNR, COST], 4).decide(0, {"psnr": 40.0, "cost": 1e9}, small)


def test_what_is_dominated_is_stopped() -> None:
    others = both((30.0, 10.0), (31.0, 20.0), (32.0, 30.0), (29.0, 9.0), (28.0, 8.0))
    assert not ParetoASHA([PSNR, COST], 3).decide(0, {"psnr": 27.0, "cost": 50.0}, others)


def test_a_measurement_that_is_no_number_is_stopped_and_does_not_disturb_others() -> None:
    judge = ParetoASHA([PSNR], 3)
    assert not judge.decide(0, {"psnr": float("nan")}, at(1.0))
    assert judge.decide(0, {"psnr": 1.0}, at(float("nan")))


def test_the_median_stops_the_worse_half_once_there_are_enough() -> None:
    judge = MedianStopping(PSNR)
    assert judge.decide(0, {"psnr": 1.0}, at(5.0, 6.0))
    assert not judge.decide(0, {"psnr": 5.0}, at(5.0, 6.0, 7.0))
    assert judge.decide(0, {"psnr": 6.0}, at(5.0, 6.0, 7.0))
    assert judge.decide(0, {"psnr": 9.0}, at(5.0, 6.0, 7.0))


@pytest.mark.parametrize(
    ("kind", "cls"), [("none", NoScheduler), ("median", MedianStopping), ("pareto-asha", ParetoASHA)]
)
def test_a_study_names_its_scheduler(kind: str, cls: type) -> None:
    asked = SimpleNamespace(search=SimpleNamespace(scheduler=SimpleNamespace(kind=kind, reduction=3)))
    assert isinstance(make_scheduler(asked, [PSNR]), cls)  # type: ignore[arg-type]


def test_without_a_scheduler_all_go_on() -> None:
    assert NoScheduler().decide(0, {"psnr": 0.0}, at(9.0, 9.0, 9.0))
