"""What parameters do to objectives: figures of Optuna's made plain, with our numbers behind every
point.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import search_world
from app_records import SCRIPT, study, trial
from search_world import load

from automl_sr.app.store_cache import Snapshot
from automl_sr.app.tabs import parameters
from automl_sr.app.tabs.parameters import (
    MOST_LINES,
    MOST_SLICED,
    parallel_figure,
    parameter_names,
    partner,
    ranks_figure,
    readable,
    remembered,
    slices_figure,
)
from automl_sr.app.tabs.why import PARALLEL, RANKS, SLICES, VIEWS, chosen, drawn
from automl_sr.plugin.registry import discover
from automl_sr.space.search_space import SearchSpace
from automl_sr.store.records import RungRecord, TrialRecord

REGISTRY = search_world.registry()
LOADED = load()
SPACE = SearchSpace(LOADED.space_request, REGISTRY).to_json()
WIDTH, GAIN, LR = "architecture.line.width", "architecture.line.gain", "recipe.lr"


def row(number: int, state: str = "complete", **params: Any) -> TrialRecord:
    """A trial of the small world; wide nets are good."""
    asked = {
        WIDTH: 1 + number % 64,
        GAIN: (number % 7) / 10,
        LR: 0.001 + number % 5 / 1000,
        **params,
    }
    values = {"score": 30.0 + asked[WIDTH] / 10, "params": 20.0 * asked[WIDTH]}
    found: Any = state
    left = values if state in ("complete", "pruned") else {}
    return trial(number, found, plan=asked, values=left, asked={"params": asked, "notes": {}})


def shown(
    trials: list[TrialRecord], rungs: list[RungRecord] | None = None, **fields: Any
) -> Snapshot:
    spec = {**LOADED.spec.to_json(), **fields}
    reader: Any = SimpleNamespace(rungs=lambda study: rungs or [])
    return Snapshot(study(spec=spec, space=SPACE), tuple(trials), reader, REGISTRY)


def plain(figure: Any) -> Any:
    return json.loads(json.dumps(figure, allow_nan=False))


MANY = shown([row(number) for number in range(40)])


def test_trials_are_remembered_with_our_numbers_and_corrected_values() -> None:
    failed, stopped = row(8, "failed"), row(9, "pruned")
    rungs = [
        RungRecord(7, 0, 100, {"score": 25.0, "params": 160.0}, True),
        RungRecord(9, 0, 100, {"score": 20.0, "params": 200.0}, False),
    ]
    found = remembered(shown([row(7), failed, stopped], rungs), REGISTRY).remembered
    assert [item.number for item in found] == [7, 9]
    gained = row(7).values["score"] - 25.0
    assert found[1].values == [20.0 + gained, 200.0]


def test_the_same_content_is_remembered_once_and_old_ones_are_forgotten() -> None:
    first = shown([row(1)])
    assert remembered(first, REGISTRY) is remembered(first, REGISTRY)
    for _ in range(6):
        remembered(shown([row(1)]), REGISTRY)
    assert len(parameters._remembered) <= parameters.MOST_REMEMBERED


def test_parameters_that_differ_are_named_the_most_important_first() -> None:
    names = parameter_names(MANY, REGISTRY)
    assert names[0] == WIDTH
    assert set(names) == {WIDTH, GAIN, LR}
    assert parameter_names(shown([row(1)]), REGISTRY) == []


def test_slices_have_a_panel_for_each_parameter_and_the_front_has_a_rim() -> None:
    figure = plain(slices_figure(MANY, REGISTRY, "score", [WIDTH, GAIN, LR]))
    assert [trace["xaxis"] for trace in figure["data"]] == ["x", "x2", "x3"]
    first = figure["data"][0]
    assert sorted(first["customdata"]) == list(range(40))
    assert all(type(number) is int for number in first["customdata"])
    by_number = dict(
        zip(first["customdata"], zip(first["x"], first["y"], strict=True), strict=True)
    )
    assert by_number[4] == (5, pytest.approx(30.5))
    rims = dict(zip(first["customdata"], first["marker"]["line"]["color"], strict=True))
    assert {number for number, rim in rims.items() if rim == parameters.BLUE} == set(
        MANY.front_numbers
    )
    assert figure["layout"]["grid"] == {
        "rows": 2,
        "columns": 2,
        "pattern": "independent",
        "ygap": 0.32,
    }
    assert "template" not in figure["layout"]
    assert figure["layout"]["xaxis3"]["type"] == "log", "as the space has it"


def test_ranks_belong_to_trials_that_use_both_parameters() -> None:
    figure = plain(ranks_figure(MANY, REGISTRY, "score", WIDTH, GAIN))
    points = figure["data"][0]
    by_number = dict(
        zip(
            points["customdata"],
            zip(points["x"], points["y"], points["text"], strict=True),
            strict=True,
        )
    )
    assert by_number[3] == (4, 0.3, "30.4")
    assert "hovertext" not in points
    assert "No trial uses both" in ranks_figure(MANY, REGISTRY, "score", WIDTH, "other")["note"]


def test_a_partner_is_used_together_with_the_first() -> None:
    assert partner(MANY, REGISTRY, ["other", LR, GAIN], LR) == GAIN
    assert partner(MANY, REGISTRY, ["other"], LR) == LR


def test_parallel_lines_go_through_every_axis_and_below_what_a_plan_does_not_use() -> None:
    unlike = row(50)
    unlike = trial(
        50, plan={LR: 0.002}, values=unlike.values, asked={"params": {LR: 0.002}, "notes": {}}
    )
    figure = plain(parallel_figure(shown([row(1), row(2), unlike]), REGISTRY, [WIDTH, LR], 50))
    layout = figure["layout"]
    assert layout["xaxis"]["ticktext"] == ["line.width", "recipe.lr", "score", "params"]
    chosen_line = figure["data"][-1]
    assert chosen_line["name"] == "trial 50"
    assert chosen_line["customdata"] == [50, 50, 50, 50, None]
    assert chosen_line["y"][0] == parameters.BELOW
    assert "not used" in chosen_line["text"][0]
    assert "not used" in {text["text"] for text in layout["annotations"]}


def test_of_many_trials_some_are_drawn_and_the_page_says_so() -> None:
    many = shown([row(number) for number in range(2500)])
    figure = slices_figure(many, REGISTRY, "params", [WIDTH])
    assert len(figure["data"][0]["customdata"]) == MOST_SLICED
    lines = parallel_figure(many, REGISTRY, [WIDTH], None)
    drawn_lines = {number for trace in lines["data"] for number in trace["customdata"]} - {None}
    assert len(drawn_lines) == MOST_LINES
    said = drawn(many, REGISTRY, chosen(many, REGISTRY, None, SLICES, None, None, None, None)).words
    assert f"{MOST_SLICED} of 2500 trials in all, are drawn" in said


@pytest.mark.parametrize("view", [view for _, view in VIEWS])
def test_every_view_of_a_study_without_trials_says_what_is_missing(view: str) -> None:
    empty = shown([])
    made = drawn(empty, REGISTRY, chosen(empty, REGISTRY, None, view, None, None, None, None))
    assert made.figure["note"]


@pytest.mark.parametrize("view", [view for _, view in VIEWS])
def test_without_the_plugins_of_the_study_a_view_says_so_or_does_without(view: str) -> None:
    bare: Any = SimpleNamespace(rungs=lambda study: [])
    nothing = discover(entry_points=())
    lost = Snapshot(study(spec=LOADED.spec.to_json(), space=SPACE), (row(1),), bare, nothing)
    made = drawn(lost, nothing, chosen(lost, nothing, None, view, None, None, None, None))
    assert "note" in made.figure or view == "timeline"


@pytest.mark.parametrize(
    "asked",
    [
        (None, None, None, None, None),
        ("nothing", 3, {"a": 1}, 7, []),
        (SLICES, "score'; --", [SCRIPT, 5], SCRIPT, SCRIPT),
        (RANKS, "params", "text", {}, None),
        (PARALLEL, "params", [GAIN, GAIN, "other"], GAIN, GAIN),
    ],
)
def test_what_a_browser_makes_up_is_replaced_by_what_is_there(asked: tuple[Any, ...]) -> None:
    choice = chosen(MANY, REGISTRY, 4, *asked)
    assert choice.view in dict(VIEWS).values()
    assert choice.metric in ("score", "params")
    assert set(choice.names) <= {WIDTH, GAIN, LR}
    assert SCRIPT not in (choice.across, choice.up)
    if asked[0] == PARALLEL:
        assert (choice.names, choice.selected) == ((GAIN,), 4)
    plain(drawn(MANY, REGISTRY, choice).figure)


def test_a_figure_of_plotlys_becomes_plain_lists_without_markup_and_look() -> None:
    figure = go.Figure(go.Scatter(x=np.arange(3), y=np.array([0.5, 1.5, 2.5]), name=SCRIPT))
    figure.update_layout(title="Title", width=900, xaxis={"title": SCRIPT})
    found = plain(readable(figure))
    assert found["data"][0]["x"] == [0, 1, 2]
    assert found["data"][0]["y"] == [0.5, 1.5, 2.5]
    assert set(found["layout"]) == {"xaxis"}
    assert "<" not in json.dumps(found)


def test_an_array_of_several_dimensions_keeps_its_form() -> None:
    figure = go.Figure(go.Heatmap(z=np.arange(6).reshape(2, 3)))
    assert readable(figure)["data"][0]["z"] == [[0, 1, 2], [3, 4, 5]]
