"""History and curves: pauses do not count, branches are not the trunk, and a front never
shrinks.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from report_worlds import collected
from search_world import find, load

from automl_sr.presentation.progress import MOST_POINTS, learning_curve, working_seconds
from automl_sr.store.records import PointRecord


def trial(finished: float, seconds: float) -> Any:
    return SimpleNamespace(finished=finished, seconds=seconds)


def point(step: int, phase: str = "train", speed: float | None = 100.0) -> PointRecord:
    return PointRecord(phase, step, 1 / step, 1e-3, speed)


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([trial(10, 10), trial(15, 5)], [10, 15]),
        ([trial(10, 10), trial(115, 5)], [10, 15]),  # a pause of 100 s
        ([trial(10, 10), trial(12, 8)], [10, 12]),  # two workers
        ([trial(4, 2), trial(10, 10)], [4, 10]),  # a short one inside a long one
        ([trial(10, 10), trial(110, 5), trial(112, 4)], [10, 15, 17]),
    ],
)
def test_time_counts_while_any_trial_runs(trials: list[Any], expected: list[float]) -> None:
    assert working_seconds(trials) == pytest.approx(expected)


def test_a_curve_follows_the_trunk_and_the_last_branch() -> None:
    told = [point(100), point(110, "cooldown"), point(105), point(300), point(330, "cooldown")]
    by_phase = sorted(told, key=lambda item: item.phase, reverse=True)  # as the store gives them
    for given in (told, by_phase):
        assert [(row["step"], row["phase"]) for row in learning_curve(given, 10)] == [
            (100, "train"), (105, "train"), (300, "train"), (330, "cooldown"),
        ]  # fmt: skip


def test_seconds_of_a_curve_come_from_its_speed() -> None:
    told = [point(100, speed=100.0), point(200, speed=50.0)]
    assert [row["seconds"] for row in learning_curve(told, 10)] == [10.0, 30.0]
    assert [row["seconds"] for row in learning_curve(told, None)] == [None, None]
    assert [row["seconds"] for row in learning_curve([point(1, speed=None), point(2)], 10)] == [
        None,
        None,
    ]


def test_long_curves_are_thinned_but_keep_their_end() -> None:
    curve = learning_curve([point(step) for step in range(1, 1002)], 10)
    assert len(curve) <= MOST_POINTS + 1
    assert curve[0]["step"] == 1
    assert curve[-1]["step"] == 1001
    assert curve[-1]["seconds"] == pytest.approx(100.1)


def test_no_curve_is_no_curve() -> None:
    assert learning_curve([], 10) == []


def test_the_hypervolume_grows_exactly_with_the_front(report: dict[str, Any]) -> None:
    history = report["history"]
    values = [row["value"] for row in history["points"] if row["value"] is not None]
    assert history["kind"] == "hypervolume"
    assert values == sorted(values)
    assert 0 < values[0] < values[-1] <= 1
    grown = {
        after["number"]
        for before, after in itertools.pairwise(history["points"])
        if after["value"] != before["value"]
    }
    assert {row["number"] for row in report["front"]} - {history["points"][0]["number"]} <= grown


def test_one_objective_is_followed_by_its_best_value(tmp_path: Path) -> None:
    find(load(trials=6, objectives="score"), tmp_path)
    found = collected(tmp_path)
    scores = {row["number"]: row["values"]["score"] for row in found["trials"]}
    assert found["history"]["kind"] == "best"
    best: list[float] = []
    for row in found["history"]["points"]:
        best.append(scores[row["number"]])
        assert row["value"] == max(best)


def test_trials_that_are_all_alike_fill_the_box(tmp_path: Path) -> None:
    find(load(trials=1), tmp_path)
    assert [row["value"] for row in collected(tmp_path)["history"]["points"]] == [1.0]
