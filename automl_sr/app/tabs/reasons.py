"""Figures that say how a study came to its best trials: history, importance, rungs and the order of
events.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.app.figures.figures import KINDS, axis, kind_of, label
from automl_sr.app.figures.tables import table
from automl_sr.presentation.numbers import duration, number, unit_of_time
from automl_sr.presentation.rungs import rung_summary
from automl_sr.store.records import STATES

if TYPE_CHECKING:
    from automl_sr.app.figures.chart import Figure
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.records import TrialRecord

MOST_LINES = 300
"""Trials whose lines are drawn: more would be one dark band."""
MOST_POINTS = 1000
MOST_BARS = 10
BLUE, GREY = "#0969da", "#8c959f"
STATE_COLOURS = {
    "complete": GREY,
    "pruned": "#9a6700",
    "infeasible": "#b35900",
    "duplicate": "#8250df",
    "failed": "#cf222e",
    "running": "#1a7f37",
    "waiting": "#6e7781",
}
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}


def thinned(shown: Snapshot, trials: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Keep the front, and of the other trials as many, evenly spread, as there is room for."""
    if len(trials) <= most:
        return list(trials)
    front = _spread([trial for trial in trials if trial.number in shown.front_numbers], most)
    others = []
    for trial in trials:
        if trial.number not in shown.front_numbers:
            others.append(trial)
    kept = set()
    for trial in (*front, *_spread(others, most - len(front))):
        kept.add(trial.number)
    found: list[TrialRecord] = []
    for trial in trials:
        if trial.number in kept:
            found.append(trial)
    return found


def _spread(trials: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    if len(trials) <= most:
        return list(trials)
    found: list[TrialRecord] = []
    for place in range(most):
        found.append(trials[place * len(trials) // most])
    return found


def history_figure(shown: Snapshot) -> Figure:
    """Draw the best value, or the front's volume, over trials and below it over time."""
    found = shown.history
    if "reason" in found:
        return {"note": found["reason"]}
    points = []
    for point in found["points"]:
        if point["value"] is not None:
            points.append(point)
    what = found["metric"] or "hypervolume"
    scale, unit = unit_of_time(points[-1]["seconds"])
    panels = (
        ("", "count", 1.0, "finished trials"),
        ("2", "seconds", scale, f"{unit} of searching"),
    )
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "grid": {"rows": 2, "columns": 1, "pattern": "independent"},
        "showlegend": False,
    }
    for suffix, key, by, title in panels:
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        if found["kind"] == "best":
            data.append({**_each_trial(shown, points, key, by, what), **axes})
        data.append({**_steps(points, key, by, what), **axes})
        layout[f"xaxis{suffix}"] = {"title": {"text": title}, "rangemode": "tozero"}
        layout[f"yaxis{suffix}"] = {"title": {"text": what}}
    return {
        "data": data,
        "layout": {**layout, "hovermode": "closest", "uirevision": f"{shown.study.id} history"},
    }


def _steps(points: Sequence[Mapping[str, Any]], key: str, by: float, what: str) -> dict[str, Any]:
    """Draw stairs; only trials that made a step have a point."""
    made = [
        points[0],
        *(
            after
            for before, after in itertools.pairwise(points)
            if after["value"] != before["value"]
        ),
    ]
    if made[-1] is points[-1]:
        steps = made
    else:
        steps = [*made, points[-1]]
    sizes = [8] * len(made) + [0] * (len(steps) - len(made))
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [point[key] / by for point in steps],
        "y": [point["value"] for point in steps],
        "customdata": [point["number"] for point in steps],
        "line": {"shape": "hv", "color": BLUE, "width": 2},
        "marker": {"color": BLUE, "size": sizes},
        "hovertemplate": f"<b>trial %{{customdata}}</b><br>{what} %{{y:.5g}}<extra></extra>",
    }


def _each_trial(
    shown: Snapshot, points: Sequence[Mapping[str, Any]], key: str, by: float, metric: str
) -> dict[str, Any]:
    """Draw what each trial reached itself, behind the best so far."""
    places = {}
    for point in points:
        places[point["number"]] = point[key] / by
    measured = []
    for trial in shown.trials:
        if trial.number in places and metric in trial.values:
            measured.append(trial)
    trials = thinned(shown, measured, MOST_POINTS)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [places[trial.number] for trial in trials],
        "y": [trial.values[metric] for trial in trials],
        "customdata": [trial.number for trial in trials],
        "marker": {"color": GREY, "size": 5},
        "hovertemplate": f"<b>trial %{{customdata}}</b><br>{metric} %{{y:.5g}}<extra></extra>",
    }


def importance_figure(found: Mapping[str, Any]) -> Figure:
    """Draw the most important parameters of each objective as bars, one panel below the other."""
    if "reason" in found:
        return {"note": f"Importance is not shown: {found['reason']}"}
    panels = found["objectives"].items()
    layout: dict[str, Any] = {"showlegend": False, "bargap": 0.35}
    layout["grid"] = {"rows": len(panels), "columns": 1, "pattern": "independent", "ygap": 0.35}
    data = []
    for place, (metric, shares) in enumerate(panels, start=1):
        suffix = ""
        if place != 1:
            suffix = str(place)
        rows = list(shares.items())[:MOST_BARS][::-1]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "x": [100 * share for _, share in rows],
                "y": [label(name) for name, _ in rows],
                "marker": {"color": BLUE},
                "hovertemplate": f"{metric}: %{{y}} %{{x:.1f}} %<extra></extra>",
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
            }
        )
        layout[f"xaxis{suffix}"] = {
            "title": {"text": f"share in {metric}, %"},
            "rangemode": "tozero",
        }
        layout[f"yaxis{suffix}"] = {"type": "category", "tickfont": {"size": 11}}
    return {"data": data, "layout": layout}


def rungs_figure(shown: Snapshot, metric: Metric) -> Figure:
    """Draw the values of trials at each rung and at the end, and where they were stopped."""
    paths = rung_paths(shown, metric.name)
    if not paths:
        return {"note": _no_rungs(shown)}
    judged = []
    for trial in shown.trials:
        if trial.number in paths:
            judged.append(trial)
    drawn = {}
    for trial in thinned(shown, judged, MOST_LINES):
        drawn[trial.number] = paths[trial.number]
    stopped = set()
    for row in shown.rungs:
        if not row.go_on:
            stopped.add(row.number)
    front = shown.front_numbers
    others = {}
    for key, path in drawn.items():
        if key not in front:
            others[key] = path
    data = [
        _lines("other trials", others, GREY, 1.0, 0.5),
        _lines("front", {key: path for key, path in drawn.items() if key in front}, BLUE, 2.0, 1.0),
        _marks("stopped here", [(key, path[-1]) for key, path in drawn.items() if key in stopped]),
    ]
    values = []
    for path in drawn.values():
        for _, value in path:
            values.append(value)
    return {
        "data": data,
        "layout": {
            "hovermode": "closest",
            "legend": LEGEND,
            "uirevision": f"{shown.study.id} rungs {metric.name}",
            "xaxis": {"title": {"text": "training steps"}, "type": "log"},
            "yaxis": axis(metric, values),
        },
    }


def rung_paths(shown: Snapshot, metric: str) -> dict[int, list[tuple[int, float]]]:
    """Return each trial's steps and values at the rungs, and at the end where it came so far."""
    paths: dict[int, list[tuple[int, float]]] = {}
    for row in shown.rungs:
        if metric in row.values:
            paths.setdefault(row.number, []).append((row.step, row.values[metric]))
    steps = int(shown.study.spec["budget"]["steps"])
    for key, path in paths.items():
        trial = shown.by_number.get(key)
        if trial is not None and trial.state == "complete" and metric in trial.values:
            path.append((steps, trial.values[metric]))
    return paths


def rungs_table(shown: Snapshot) -> str:
    """Count who reached each rung and who was stopped there."""
    found = rung_summary(shown.rungs)
    if not found:
        return ""
    names = []
    for metric in shown.objectives:
        names.append(metric.name)
    columns = ("rung", "steps", "reached", "stopped", *(f"{name} (median)" for name in names))
    rows = []
    for rung in found:
        rows.append(
            [
                rung["rung"] + 1,
                " or ".join(number(step) for step in rung["steps"]),
                rung["reached"],
                len(rung["stopped"]),
                *(rung["values"].get(name, {}).get("median") for name in names),
            ]
        )
    title = "Rungs: how many trials came so far, and how many were stopped"
    return table(title, columns, rows, right=range(len(columns)))


def timeline_figure(shown: Snapshot, now: float) -> Figure:
    """Draw when each trial ran, side by side where several ran at once; imported ones ran
    elsewhere.
    """
    spans = [
        (trial, trial.started, trial.finished or now)
        for trial in shown.trials
        if trial.started is not None
        and trial.origin is None
        and (trial.finished or trial.state == "running")
    ][-MOST_POINTS:]
    if not spans:
        return {
            "note": (
                "No trial has begun yet: a bar appears here for each as soon as a worker takes it."
            )
        }
    lanes = lanes_of([(begin, end) for _, begin, end in spans])
    data = []
    for state in STATES:
        rows = []
        for (trial, begin, end), lane in zip(spans, lanes, strict=True):
            if trial.state == state:
                rows.append((trial, begin, end, lane))
        if rows:
            data.append(_bars(state, rows))
    return {
        "data": data,
        "layout": {
            "barmode": "overlay",
            "bargap": 0.2,
            "legend": LEGEND,
            "uirevision": f"{shown.study.id} timeline",
            "xaxis": {"type": "date", "title": {"text": "time (UTC)"}},
            "yaxis": {
                "title": {"text": "trials at once"},
                "dtick": 1,
                "range": [max(lanes) + 1.6, 0.4],
            },
        },
    }


def lanes_of(spans: Iterable[tuple[float, float]]) -> list[int]:
    """Return for each stretch of time the first lane that is free then, from 1."""
    free: list[float] = []
    found: dict[int, int] = {}
    for place, (begin, end) in sorted(enumerate(spans), key=lambda item: item[1]):
        lane = next((index for index, until in enumerate(free) if until <= begin), len(free))
        if lane == len(free):
            free.append(end)
        free[lane] = end
        found[place] = lane + 1
    return [found[place] for place in range(len(found))]


def _bars(state: str, rows: Sequence[tuple[TrialRecord, float, float, int]]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": state,
        "base": [_moment(begin) for _, begin, _, _ in rows],
        "x": [1000 * max(0.0, end - begin) for _, begin, end, _ in rows],
        "y": [lane for _, _, _, lane in rows],
        "customdata": [trial.number for trial, _, _, _ in rows],
        "text": [f"{state}, {duration(end - begin)}" for _, begin, end, _ in rows],
        "textposition": "none",
        "marker": {
            "color": STATE_COLOURS[state],
            "line": {"width": 1, "color": "rgba(128, 128, 128, 0.6)"},
        },
        "hovertemplate": "<b>trial %{customdata}</b><br>%{text}<extra></extra>",
    }


def _lines(
    name: str,
    paths: Mapping[int, Sequence[tuple[int, float]]],
    colour: str,
    width: float,
    opacity: float,
) -> dict[str, Any]:
    """Draw many trials as one trace, with gaps between them."""
    points = list(_with_gaps(paths))
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [point[1] for point in points],
        "y": [point[2] for point in points],
        "customdata": [point[0] for point in points],
        "opacity": opacity,
        "line": {"color": colour, "width": width},
        "marker": {"color": colour, "size": 4},
        "hovertemplate": "<b>trial %{customdata}</b><br>step %{x}: %{y:.5g}<extra></extra>",
    }


def _with_gaps(
    paths: Mapping[int, Sequence[tuple[int, float]]],
) -> Iterator[tuple[int | None, Any, Any]]:
    for key, path in paths.items():
        yield from ((key, step, value) for step, value in path)
        yield None, None, None


def _marks(name: str, places: Sequence[tuple[int, tuple[int, float]]]) -> dict[str, Any]:
    marker = next(kind.marker for kind in KINDS if kind.name == "pruned")
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [step for _, (step, _) in places],
        "y": [value for _, (_, value) in places],
        "customdata": [key for key, _ in places],
        "marker": {**marker, "size": 9},
        "hovertemplate": (
            "<b>trial %{customdata}</b>, stopped<br>step %{x}: %{y:.5g}<extra></extra>"
        ),
    }


def _no_rungs(shown: Snapshot) -> str:
    if shown.study.spec["search"]["scheduler"]["kind"] == "none":
        return "This study stops no trial early: its scheduler is none, so there are no rungs."
    return "No trial has reached a rung yet."


def colour_of(shown: Snapshot, trial: TrialRecord) -> str:
    """Return the colour in which a trial is drawn wherever it is."""
    marker = next(kind.marker for kind in KINDS if kind.name == kind_of(shown, trial))
    colour: str = marker.get("color") or marker["line"]["color"]
    return colour


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
