"""Figures of how a study came to its best trials, looked at as the plain data that they are."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from app_records import SCRIPT, Known, snapshot, study, trial

from automl_sr.app.tabs.reasons import (
    MOST_BARS,
    MOST_LINES,
    history_figure,
    importance_figure,
    lanes_of,
    rung_paths,
    rungs_figure,
    rungs_table,
    thinned,
    timeline_figure,
)
from automl_sr.store.records import RungRecord

METRIC = Known.metrics["psnr_y"]


def of(*objectives: str, scheduler: str = "pareto-asha") -> Any:
    spec = {
        "objectives": list(objectives or ("psnr_y", "params")),
        "constraints": {},
        "budget": {"steps": 600},
        "search": {"scheduler": {"kind": scheduler}},
    }
    return study(spec=spec)


def rung(number: int, index: int, step: int, value: float, go_on: bool = True) -> RungRecord:
    return RungRecord(number, index, step, {"psnr_y": value, "params": 1000.0}, go_on)


def plain(figure: Any) -> Any:
    """Make sure that a figure is JSON, and give it."""
    return json.loads(json.dumps(figure, allow_nan=False))


def test_history_has_a_point_for_each_trial_that_made_a_step() -> None:
    worse = trial(3, values={"psnr_y": 30.0, "params": 5000.0})
    shown = snapshot([trial(1), trial(2), worse, trial(4)], of=of())
    figure = plain(history_figure(shown))
    over_trials, over_time = figure["data"]
    assert over_trials["customdata"][:2] == [1, 2]
    assert 3 not in over_trials["customdata"], "it did not make the front grow"
    assert (over_trials["xaxis"], over_time["xaxis"]) == ("x", "x2")
    assert figure["layout"]["yaxis"]["title"]["text"] == "hypervolume"


def test_history_of_one_objective_shows_every_trial_behind_the_best() -> None:
    worse = trial(3, values={"psnr_y": 29.0})
    shown = snapshot([trial(1), trial(2), worse], of=of("psnr_y"))
    figure = plain(history_figure(shown))
    each, best = figure["data"][:2]
    assert each["customdata"] == [1, 2, 3]
    assert each["y"] == [31.0, 32.0, 29.0]
    assert best["y"] == [31.0, 32.0, 32.0]


def test_without_a_model_history_says_so() -> None:
    assert (
        history_figure(snapshot([trial(1, "failed")], of=of()))["note"]
        == "No trial has left a model."
    )


def test_importance_has_a_panel_for_each_objective_with_the_largest_on_top() -> None:
    shares = {f"p{place}": 0.5 / (place + 1) for place in range(20)}
    found = {
        "trials": 30,
        "quantile": 0.2,
        "objectives": {"psnr_y": shares, "params": {SCRIPT: 1.0}},
    }
    figure = plain(importance_figure(found))
    first, second = figure["data"]
    assert len(first["y"]) == MOST_BARS
    assert first["y"][-1] == "p0", "plotly draws the last category on top"
    assert first["x"][-1] == pytest.approx(50)
    assert (second["xaxis"], second["yaxis"]) == ("x2", "y2")
    assert "<script>" not in json.dumps(figure)


def test_importance_gives_the_reason_where_there_is_none() -> None:
    assert importance_figure({"reason": "too few."}) == {
        "note": "Importance is not shown: too few."
    }


RUNGS = [rung(1, 0, 60, 30.0), rung(1, 1, 200, 30.5), rung(2, 0, 60, 29.0, go_on=False)]


def test_rungs_join_the_values_of_a_trial_and_mark_where_it_was_stopped() -> None:
    stopped = trial(2, "pruned", values={"psnr_y": 29.0, "params": 1000.0})
    shown = snapshot([trial(1), stopped], RUNGS, of=of())
    assert rung_paths(shown, "psnr_y") == {
        1: [(60, 30.0), (200, 30.5), (600, 31.0)],
        2: [(60, 29.0)],
    }
    figure = plain(rungs_figure(shown, METRIC))
    lines = {trace["name"]: trace for trace in figure["data"]}
    assert lines["stopped here"]["customdata"] == [2]
    joined = [*lines["front"]["customdata"], *lines["other trials"]["customdata"]]
    assert [number for number in joined if number is not None].count(1) == 3
    assert None in joined, "lines of different trials are not joined"


def test_rungs_are_counted() -> None:
    stopped = trial(2, "pruned", values={"psnr_y": 29.0, "params": 1000.0})
    table = rungs_table(snapshot([trial(1), stopped], RUNGS, of=of()))
    cells = [part.split("</td>")[0] for part in table.split('<td class="right">')[1:]]
    assert cells[:5] == ["1", "60", "2", "1", "29.5"]
    assert cells[6:10] == ["2", "200", "1", "0"]


@pytest.mark.parametrize(
    ("scheduler", "said"), [("none", "its scheduler is none"), ("pareto-asha", "reached a rung")]
)
def test_without_rungs_the_reason_is_said(scheduler: str, said: str) -> None:
    shown = snapshot([trial(1)], of=of(scheduler=scheduler))
    assert said in rungs_figure(shown, METRIC)["note"]
    assert rungs_table(shown) == ""


def test_the_timeline_has_a_bar_for_each_trial_by_state() -> None:
    running = trial(3, "running", values={}, started=1.7e9 + 5, finished=None)
    never = trial(4, "waiting", values={}, started=None, finished=None)
    imported = trial(5, origin={"study": "other", "number": 1})
    shown = snapshot([trial(1), trial(2, "failed"), running, never, imported], of=of())
    figure = plain(timeline_figure(shown, 1.7e9 + 60))
    bars = {trace["name"]: trace for trace in figure["data"]}
    assert {name: trace["customdata"] for name, trace in bars.items()} == {
        "complete": [1],
        "failed": [2],
        "running": [3],
    }
    assert bars["running"]["x"] == [55_000.0]
    assert bars["complete"]["base"] == ["2023-11-14 22:13:20.000000"]


def test_before_any_trial_the_timeline_says_what_will_be_there() -> None:
    assert "No trial has begun yet" in timeline_figure(snapshot([], of=of()), 0.0)["note"]


def test_trials_at_the_same_time_lie_side_by_side() -> None:
    assert lanes_of([(0, 10), (1, 5), (2, 3), (5, 8), (10, 12), (10, 11)]) == [1, 2, 3, 2, 2, 1]
    assert lanes_of([]) == []


def test_of_too_many_trials_the_front_and_some_others_are_drawn() -> None:
    many = [
        trial(number, values={"psnr_y": 20.0, "params": 2000.0 + number}) for number in range(900)
    ]
    best = trial(950, values={"psnr_y": 40.0, "params": 1.0})
    shown = snapshot([*many, best], of=of())
    kept = [item.number for item in thinned(shown, shown.trials, MOST_LINES)]
    assert len(kept) == MOST_LINES
    assert kept[-1] == 950
    assert kept == sorted(kept)
    assert max(after - before for before, after in itertools.pairwise(kept[:-1])) <= 4
    assert thinned(shown, shown.trials, 2000) == list(shown.trials)
