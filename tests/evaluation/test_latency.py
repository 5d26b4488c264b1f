"""Latency is measured in turns, by one process at a time, against a net that is the same
everywhere.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from automl_sr.evaluation import latency as module
from automl_sr.evaluation.latency import Latency, latency_ms, latency_ratio, timed_in_turns
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.tasks.image_sr.reference_net import reference_net

Work = Callable[[list[float]], Callable[[], None]]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Gives a call that takes so many ms, one after the other, on a clock that stands still
    otherwise.
    """
    clock = {"now": 0.0}
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock["now"])

    def of(takes: list[float]) -> Callable[[], None]:
        left = iter(takes)

        def call() -> None:
            clock["now"] += next(left) / 1000

        return call

    return of


def test_models_take_turns_and_the_order_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()  # a steady machine: nothing is repeated
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks) / 1000)
    order: list[str] = []
    timed_in_turns(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, warmup=1, runs=3
    )
    assert "".join(order) == "abbaabba"


def test_times_are_those_of_the_clock_without_the_warm_up(work: Work) -> None:
    net = work([9000.0, 1.0, 5.0, 2.0, 4.0, 3.0])
    measured = timed_in_turns({"net": net}, warmup=1, runs=5)["net"]
    assert measured.median_ms == pytest.approx(3)
    assert measured.fastest_ms == pytest.approx(1)
    assert measured.p90_ms == pytest.approx(4.6)
    assert measured.runs == 5


@pytest.mark.parametrize(
    "takes",
    [
        [2.0, 2.0, 2.15, 2.15],  # within a tenth
        [2.0, 9.0, 2.0, 2.0, 9.0, 2.0],  # medians do not see a single hiccup
        [0.010, 0.010, 0.025, 0.025],  # of less than the clock tells
        [2.0],  # one run has no halves
    ],
)
def test_a_steady_round_is_taken_once(work: Work, takes: list[float]) -> None:
    measured = timed_in_turns({"net": work(takes)}, warmup=0, runs=len(takes))["net"]
    assert measured.runs == len(takes)
    assert measured.median_ms == pytest.approx(np.median(takes))


@pytest.mark.parametrize(
    ("rounds", "counts"),
    [
        ([[1.0, 1.0, 3.0, 3.0], [2.0, 2.0, 2.1, 2.1]], 1),
        ([[1.0, 1.0, 3.0, 3.0], [2.0, 2.0, 3.0, 3.0], [1.0, 1.0, 2.5, 2.5]], 1),
        ([[2.0, 2.0, 3.0, 3.0], [1.0, 1.0, 3.0, 3.0], [3.0, 3.0, 1.0, 1.0]], 0),
    ],
    ids=["until one is steady", "the steadiest of all", "the steadiest came first"],
)
def test_a_round_whose_halves_disagree_is_repeated_and_the_steadiest_counts(
    work: Work, rounds: list[list[float]], counts: int
) -> None:
    warmup = [9.0, 9.0]
    net = work(warmup + [taken for values in rounds for taken in values])
    measured = timed_in_turns({"net": net}, warmup=2, runs=4, rounds=3)["net"]
    assert measured.median_ms == pytest.approx(np.median(rounds[counts]))
    assert measured.fastest_ms == pytest.approx(min(rounds[counts]))
    assert measured.runs == 4
    with pytest.raises(StopIteration):
        net()  # so often as said, and warmed up once


def test_one_model_that_was_slowed_repeats_the_round_for_all(work: Work) -> None:
    own = work([1.0, 1.0, 2.0, 2.0, 1.5, 1.5, 1.5, 1.5])
    reference = work([4.0, 4.0, 4.0, 4.0, 5.0, 5.0, 5.0, 5.0])
    times = timed_in_turns({"own": own, "reference": reference}, warmup=0, runs=4)
    assert latency_ratio(times["own"], times["reference"]) == pytest.approx(0.3), (
        "both from the second round"
    )


def test_only_one_process_measures_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    other = FileLock(tmp_path / "automl-sr-measuring.lock")

    def blocked() -> None:
        with pytest.raises(Timeout):
            other.acquire(timeout=0)

    timed_in_turns({"net": blocked}, warmup=0, runs=1)
    with other.acquire(timeout=0):
        assert other.is_locked


def test_metrics_are_taken_from_the_medians() -> None:
    own, reference = Latency(30.0, 28.0, 33.0, 20), Latency(20.0, 19.0, 25.0, 20)
    assert latency_ms(own, reference) == 30
    assert latency_ratio(own, reference) == 1.5


def test_a_net_takes_as_long_as_itself(tmp_path: Path) -> None:
    path = reference_net(2, 1, tmp_path)
    batch = np.random.default_rng(0).random((1, 1, 48, 64), dtype=np.float32)
    calls = {name: functools.partial(OnnxModel(path), batch) for name in ("one", "two")}
    times = timed_in_turns(calls, warmup=3, runs=15)
    assert latency_ratio(times["one"], times["two"]) == pytest.approx(1, rel=0.5)
    assert times["one"].fastest_ms <= times["one"].median_ms <= times["one"].p90_ms
