"""The front as plotly's JSON: what is drawn how, over which metrics, and nothing of a store is
markup in it.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import search_world

from automl_sr.app.figures.figures import KINDS, front_figure, hover, kind_of, measured
from automl_sr.app.store_cache import Snapshot, StoreCache
from automl_sr.app.tabs.front import NO_AXIS, figure_of, searched_techniques
from automl_sr.plugin.metric import Metric

LIMIT = 700
STUDY = search_world.study_text(
    trials=8,
    objectives="score, params",
    more=f"constraints: {{params: {{max: {LIMIT}}}, macs: {{max: 100000}}}}\n",
)
HOSTILE = {
    "architecture": "<img src=x onerror=alert(1)>",
    "architecture.<script>": "</script>",
    "recipe.lr": '<a href="javascript:alert(1)">here</a>',
}
FRONT_CONTROLS: tuple[Any, ...] = ("params", "score", NO_AXIS, [], ["pruned"], False)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """A study with a trial of every kind, of which the last pruned one has markup for a plan."""
    folder = tmp_path_factory.mktemp("figures")
    search_world.find(search_world.load(STUDY), folder)
    url = f"sqlite:///{folder}/store.db"
    with contextlib.closing(sqlite3.connect(folder / "store.db")) as database, database:
        rows = database.execute(
            'SELECT number, "values" FROM automl_sr_trials WHERE state = "complete"'
        ).fetchall()
        by_score = sorted(rows, key=lambda row: json.loads(row[1])["score"])
        worse = {**json.loads(by_score[0][1]), "score": 1.0, "params": 650.0}
        for place, (number, _) in enumerate(by_score[:4]):
            state = "pruned" if place < 2 else "complete"
            values = {
                **worse,
                "score": 1.0 + place,
                "params": 9999.0 if place == 3 else 650.0 + place,
            }
            found = (state, json.dumps(values), number)
            database.execute(
                'UPDATE automl_sr_trials SET state = ?, "values" = ? WHERE number = ?', found
            )
        plan = json.dumps({"params": HOSTILE})
        database.execute(
            "UPDATE automl_sr_trials SET plan = ? WHERE number = ?", (plan, by_score[0][0])
        )
    cache = StoreCache(url, search_world.registry())
    yield cache.snapshot("world")
    cache.close()


def axes(shown: Snapshot, *names: str) -> list[Metric]:
    by_name = {metric.name: metric for metric in shown.metrics}
    return [by_name[name] for name in names]


def drawn(figure: Any) -> dict[str, list[int]]:
    """Give the numbers of trials by kind."""
    return {trace["name"]: trace["customdata"] for trace in figure["data"] if "customdata" in trace}


def test_each_trial_is_drawn_as_what_became_of_it(shown: Snapshot) -> None:
    found = drawn(front_figure(shown, axes(shown, "params", "score")))
    assert set(found) == {"front", "complete", "pruned", "breaks a limit"}
    assert sorted(found["front"]) == sorted(shown.front_numbers)
    assert len(found["pruned"]) == 2
    [breaking] = found["breaks a limit"]
    assert shown.trial(breaking).values["params"] > LIMIT
    assert sum(map(len, found.values())) == len([trial for trial in shown.trials if trial.values])


def test_infeasible_trials_are_drawn_over_costs_alone(shown: Snapshot) -> None:
    """They were never trained: nothing but their costs is known."""
    infeasible = {trial.number for trial in shown.trials if trial.state == "infeasible"}
    assert infeasible
    found = drawn(front_figure(shown, axes(shown, "params", "macs")))
    assert set(found["infeasible"]) == infeasible
    assert "infeasible" not in drawn(front_figure(shown, axes(shown, "params", "score")))


def test_points_are_where_their_trials_are(shown: Snapshot) -> None:
    for trace in front_figure(shown, axes(shown, "params", "score"))["data"]:
        for number, x, y in zip(trace.get("customdata", []), trace["x"], trace["y"], strict=False):
            assert (x, y) == measured(shown.trial(number), ["params", "score"])


def test_the_front_is_joined_in_two_dimensions(shown: Snapshot) -> None:
    edge = front_figure(shown, axes(shown, "params", "score"))["data"][0]
    assert edge["mode"] == "lines"
    assert edge["x"] == sorted(trial.values["params"] for trial in shown.front)
    assert edge["hoverinfo"] == "skip"


def test_three_metrics_make_a_figure_in_space(shown: Snapshot) -> None:
    figure = front_figure(shown, axes(shown, "params", "score", "macs"))
    assert {trace["type"] for trace in figure["data"]} == {"scatter3d"}
    assert set(figure["layout"]["scene"]) == {"xaxis", "yaxis", "zaxis"}
    assert figure["layout"]["scene"]["zaxis"]["title"]["text"].startswith("macs")
    for trace in figure["data"]:
        assert len(trace["x"]) == len(trace["y"]) == len(trace["z"]) == len(trace["customdata"])


def test_costs_that_spread_widely_are_drawn_by_ratio(shown: Snapshot) -> None:
    first = shown.front[0]
    wide = [
        replace(first, number=100 + place, values={"score": 30.0, "params": 10.0**place})
        for place in range(4)
    ]
    spread = Snapshot(shown.study, tuple(wide), shown._reader, shown._registry)
    assert front_figure(spread, axes(spread, "params", "score"))["layout"]["xaxis"]["type"] == "log"
    assert "type" not in front_figure(shown, axes(shown, "params", "score"))["layout"]["xaxis"]


def test_nothing_of_a_store_is_markup_in_a_figure(shown: Snapshot) -> None:
    text = json.dumps(front_figure(shown, axes(shown, "params", "score")))
    assert set(re.findall(r"<[^>]*>", text)) == {"<b>", "</b>", "<br>"}
    assert "onerror=alert(1)" in text, "it is there, as text"
    hostile = replace(shown.trials[0], values={"<i>x": 1.0})
    assert "<i>" not in hover(shown, hostile)


def test_a_figure_is_json_that_a_browser_reads(shown: Snapshot) -> None:
    json.dumps(front_figure(shown, axes(shown, "params", "score", "macs")), allow_nan=False)


def test_every_kind_has_a_look(shown: Snapshot) -> None:
    names = {kind.name for kind in KINDS}
    assert {kind_of(shown, trial) for trial in shown.trials} <= names


def test_nothing_measured_is_a_sentence(shown: Snapshot) -> None:
    empty = Snapshot(shown.study, (), shown._reader, shown._registry)
    assert (
        "No trial has been measured yet"
        in front_figure(empty, axes(shown, "params", "score"))["note"]
    )


# The filters of the tab


def controls(**changed: Any) -> tuple[Any, ...]:
    names = ("across", "up", "deep", "techniques", "states", "keeping")
    return tuple(
        {**dict(zip(names, FRONT_CONTROLS, strict=True)), **changed}[name] for name in names
    )


def test_pruned_and_infeasible_trials_can_be_hidden(shown: Snapshot) -> None:
    assert "pruned" in drawn(figure_of(shown, *controls()))
    assert "pruned" not in drawn(figure_of(shown, *controls(states=[])))
    costs = {"across": "params", "up": "macs"}
    assert "infeasible" not in drawn(figure_of(shown, *controls(**costs)))
    assert "infeasible" in drawn(figure_of(shown, *controls(**costs, states=["infeasible"])))


def test_models_that_break_a_limit_can_be_hidden(shown: Snapshot) -> None:
    assert "breaks a limit" in drawn(figure_of(shown, *controls()))
    assert "breaks a limit" not in drawn(figure_of(shown, *controls(keeping=True)))


def test_techniques_filter_by_slot(shown: Snapshot) -> None:
    with_line = drawn(figure_of(shown, *controls(techniques=["architecture=line"])))
    hostile = [trial.number for trial in shown.trials if trial.params["architecture"] != "line"]
    assert hostile[0] not in with_line["pruned"]
    either = controls(techniques=["architecture=line", f"architecture={HOSTILE['architecture']}"])
    assert drawn(figure_of(shown, *either)) == drawn(figure_of(shown, *controls()))
    both = controls(techniques=["architecture=line", "quantization=int8_ptq"])
    assert "note" in figure_of(shown, *both)


def test_a_third_axis_can_be_chosen(shown: Snapshot) -> None:
    assert {trace["type"] for trace in figure_of(shown, *controls(deep="macs"))["data"]} == {
        "scatter3d"
    }


@pytest.mark.parametrize("wrong", [None, "", "no metric", "'; DROP TABLE x"])
def test_metrics_that_are_not_there_give_way_to_the_objectives(wrong: Any, shown: Snapshot) -> None:
    """A study was chosen a moment ago, and the axes are still those of the former one."""
    layout = figure_of(shown, *controls(across=wrong, up=wrong))["layout"]
    assert [layout[axis]["title"]["text"].split()[0] for axis in ("xaxis", "yaxis")] == [
        "params",
        "score",
    ]
    assert figure_of(shown, *controls(across=wrong))["layout"] == layout


def test_only_techniques_between_which_a_study_chooses_are_offered(shown: Snapshot) -> None:
    assert searched_techniques(shown.study) == []
