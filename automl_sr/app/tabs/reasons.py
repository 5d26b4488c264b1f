"""Figures that say how a study came to its best trials: history, importance, rungs, timeline."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
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

Track = list[tuple[int, float]]
"""Steps and values of a trial."""
Span = tuple["TrialRecord", float, float]
"""A trial, when it began and when it ended, in seconds since 1970."""
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


def thinned(
    shown: Snapshot,
    trials: Sequence[TrialRecord],
    most: int,
) -> list[TrialRecord]:
    """Return the front, and of the other trials as many, evenly spread, as there is room for."""
    if len(trials) <= most:
        return list(trials)
    front = []
    others = []
    for trial in trials:
        if trial.number in shown.front_numbers:
            front.append(trial)
        else:
            others.append(trial)
    front = _spread(front, most)
    others = _spread(others, most - len(front))
    kept = {trial.number for trial in (*front, *others)}
    # In the order in which they came: figures draw the later ones over the earlier ones.
    return [trial for trial in trials if trial.number in kept]


def _spread(trials: list[TrialRecord], most: int) -> list[TrialRecord]:
    if len(trials) <= most:
        return trials
    return [trials[place * len(trials) // most] for place in range(most)]


def history_figure(shown: Snapshot) -> Figure:
    """Draw the best value, or the front's volume, over trials and below it over time."""
    found = shown.history
    if "reason" in found:
        return {"note": found["reason"]}
    # Trials before the first model have no value.
    points = [point for point in found["points"] if point["value"] is not None]
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
        "hovermode": "closest",
        "uirevision": f"{shown.study.id} history",
    }
    for suffix, key, by, title in panels:
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        # A single trial has no volume that could stand beside the front's.
        if found["kind"] == "best":
            data.append({**_each_trial(shown, points, key, by, what), **axes})
        data.append({**_steps(points, key, by, what), **axes})
        layout[f"xaxis{suffix}"] = {"title": {"text": title}, "rangemode": "tozero"}
        layout[f"yaxis{suffix}"] = {"title": {"text": what}}
    return {"data": data, "layout": layout}


def _steps(
    points: Sequence[Mapping[str, Any]],
    key: str,
    by: float,
    what: str,
) -> dict[str, Any]:
    """Draw stairs; only trials that made a step have a point."""
    places = []
    values = []
    numbers = []
    sizes = []
    last = len(points) - 1
    for index, point in enumerate(points):
        step = index == 0 or point["value"] != points[index - 1]["value"]
        # The last one too, without a point: the stairs go on until the newest trial.
        if not step and index != last:
            continue
        places.append(point[key] / by)
        values.append(point["value"])
        numbers.append(point["number"])
        if step:
            sizes.append(8)
        else:
            sizes.append(0)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": places,
        "y": values,
        "customdata": numbers,
        "line": {"shape": "hv", "color": BLUE, "width": 2},
        "marker": {"color": BLUE, "size": sizes},
        "hovertemplate": f"<b>trial %{{customdata}}</b><br>{what} %{{y:.5g}}<extra></extra>",
    }


def _each_trial(
    shown: Snapshot,
    points: Sequence[Mapping[str, Any]],
    key: str,
    by: float,
    metric: str,
) -> dict[str, Any]:
    """Draw what each trial reached itself, behind the best so far."""
    places = {point["number"]: point[key] / by for point in points}
    measured = []
    for trial in shown.trials:
        if trial.number in places and metric in trial.values:
            measured.append(trial)
    across = []
    values = []
    numbers = []
    for trial in thinned(shown, measured, MOST_POINTS):
        across.append(places[trial.number])
        values.append(trial.values[metric])
        numbers.append(trial.number)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": across,
        "y": values,
        "customdata": numbers,
        "marker": {"color": GREY, "size": 5},
        "hovertemplate": f"<b>trial %{{customdata}}</b><br>{metric} %{{y:.5g}}<extra></extra>",
    }


def importance_figure(found: Mapping[str, Any]) -> Figure:
    """Draw the most important parameters of each objective as bars, one panel below the other."""
    if "reason" in found:
        return {"note": f"Importance is not shown: {found['reason']}"}
    panels = found["objectives"]
    layout: dict[str, Any] = {
        "showlegend": False,
        "bargap": 0.35,
        "grid": {"rows": len(panels), "columns": 1, "pattern": "independent", "ygap": 0.35},
    }
    data = []
    for index, (metric, shares) in enumerate(panels.items()):
        suffix = ""
        if index:  # plotly's first axes are x and y, the second ones x2 and y2
            suffix = str(index + 1)
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        data.append({**_importance_bars(metric, shares), **axes})
        layout[f"xaxis{suffix}"] = {
            "title": {"text": f"share in {metric}, %"},
            "rangemode": "tozero",
        }
        # Names that are numbers are names all the same.
        layout[f"yaxis{suffix}"] = {"type": "category", "tickfont": {"size": 11}}
    return {"data": data, "layout": layout}


def _importance_bars(metric: str, shares: Mapping[str, float]) -> dict[str, Any]:
    percent = []
    names = []
    for name, share in list(shares.items())[:MOST_BARS]:
        percent.append(100 * share)
        names.append(label(name))
    # From the bottom up, as plotly draws categories.
    percent.reverse()
    names.reverse()
    return {
        "type": "bar",
        "orientation": "h",
        "x": percent,
        "y": names,
        "marker": {"color": BLUE},
        "hovertemplate": f"{metric}: %{{y}} %{{x:.1f}} %<extra></extra>",
    }


def rungs_figure(shown: Snapshot, metric: Metric) -> Figure:
    """Draw the values of trials at each rung and at the end, and where they were stopped."""
    paths = rung_paths(shown, metric.name)
    if not paths:
        return {"note": _no_rungs(shown)}
    judged = [trial for trial in shown.trials if trial.number in paths]
    stopped = {row.number for row in shown.rungs if not row.go_on}
    front: dict[int, Track] = {}
    others: dict[int, Track] = {}
    ends = []
    values = []
    for trial in thinned(shown, judged, MOST_LINES):
        path = paths[trial.number]
        for _, value in path:
            values.append(value)
        if trial.number in shown.front_numbers:
            front[trial.number] = path
        else:
            others[trial.number] = path
        if trial.number in stopped:
            ends.append((trial.number, path[-1]))
    # The front over the others, and what was stopped over both.
    data = [
        _lines("other trials", others, GREY, 1.0, 0.5),
        _lines("front", front, BLUE, 2.0, 1.0),
        _marks("stopped here", ends),
    ]
    layout = {
        "hovermode": "closest",
        "legend": LEGEND,
        "uirevision": f"{shown.study.id} rungs {metric.name}",
        "xaxis": {"title": {"text": "training steps"}, "type": "log"},
        "yaxis": axis(metric, values),
    }
    return {"data": data, "layout": layout}


def rung_paths(shown: Snapshot, metric: str) -> dict[int, Track]:
    """Return each trial's steps and values at the rungs, and at the end where it came so far."""
    paths: dict[int, Track] = {}
    for row in shown.rungs:
        if metric in row.values:
            path = paths.setdefault(row.number, [])
            path.append((row.step, row.values[metric]))
    steps = int(shown.study.spec["budget"]["steps"])
    for key, path in paths.items():
        trial = shown.by_number.get(key)
        if trial is not None and trial.state == "complete" and metric in trial.values:
            path.append((steps, trial.values[metric]))
    return paths


def rungs_table(shown: Snapshot) -> str:
    """Return who reached each rung and who was stopped there, as a table."""
    found = rung_summary(shown.rungs)
    if not found:
        return ""
    columns = ["rung", "steps", "reached", "stopped"]
    for metric in shown.objectives:
        columns.append(f"{metric.name} (median)")
    rows = []
    for rung in found:
        steps = " or ".join(map(number, rung["steps"]))
        # People count rungs from one.
        cells = [rung["rung"] + 1, steps, rung["reached"], len(rung["stopped"])]
        for metric in shown.objectives:
            values = rung["values"].get(metric.name, {})
            cells.append(values.get("median"))
        rows.append(cells)
    title = "Rungs: how many trials came so far, and how many were stopped"
    return table(title, columns, rows, right=range(len(columns)))


def timeline_figure(shown: Snapshot, now: float) -> Figure:
    """Draw when each trial ran, side by side where several ran at once."""
    spans = _spans(shown, now)
    if not spans:
        return {
            "note": (
                "No trial has begun yet: a bar appears here for each as soon as a worker takes it."
            )
        }
    lanes = lanes_of((begin, end) for _, begin, end in spans)
    by_state: dict[str, list[tuple[Span, int]]] = {}
    for span, lane in zip(spans, lanes, strict=True):
        trial = span[0]
        by_state.setdefault(trial.state, []).append((span, lane))
    data = []
    for state in STATES:
        if state in by_state:
            data.append(_bars(state, by_state[state]))
    layout = {
        "barmode": "overlay",
        "bargap": 0.2,
        "legend": LEGEND,
        "uirevision": f"{shown.study.id} timeline",
        "xaxis": {"type": "date", "title": {"text": "time (UTC)"}},
        "yaxis": {
            "title": {"text": "trials at once"},
            "dtick": 1,
            # From the top down: the first lane, which is always there, stands above.
            "range": [max(lanes) + 1.6, 0.4],
        },
    }
    return {"data": data, "layout": layout}


def _spans(shown: Snapshot, now: float) -> list[Span]:
    """Return when the latest trials ran; one that runs has come until now."""
    spans = []
    for trial in shown.trials:
        # Imported ones ran elsewhere.
        if trial.started is None or trial.origin is not None:
            continue
        if trial.finished:
            spans.append((trial, trial.started, trial.finished))
        elif trial.state == "running":
            spans.append((trial, trial.started, now))
    return spans[-MOST_POINTS:]


def lanes_of(spans: Iterable[tuple[float, float]]) -> list[int]:
    """Return for each stretch of time the first lane that is free then, from 1."""
    free: list[float] = []
    found: dict[int, int] = {}
    for place, (begin, end) in sorted(enumerate(spans), key=lambda item: item[1]):
        lane = _first_free(free, begin)
        if lane == len(free):
            free.append(end)
        free[lane] = end
        found[place] = lane + 1
    return [found[place] for place in range(len(found))]


def _first_free(free: Sequence[float], begin: float) -> int:
    for lane, until in enumerate(free):
        if until <= begin:
            return lane
    return len(free)


def _bars(state: str, rows: Sequence[tuple[Span, int]]) -> dict[str, Any]:
    begins = []
    lengths = []
    lanes = []
    numbers = []
    texts = []
    for (trial, begin, end), lane in rows:
        begins.append(_moment(begin))
        # Milliseconds, on an axis of dates. Clocks of two machines may differ.
        lengths.append(1000 * max(0.0, end - begin))
        lanes.append(lane)
        numbers.append(trial.number)
        texts.append(f"{state}, {duration(end - begin)}")
    return {
        "type": "bar",
        "orientation": "h",
        "name": state,
        "base": begins,
        "x": lengths,
        "y": lanes,
        "customdata": numbers,
        "text": texts,
        "textposition": "none",
        "marker": {
            "color": STATE_COLOURS[state],
            "line": {"width": 1, "color": "rgba(128, 128, 128, 0.6)"},
        },
        "hovertemplate": "<b>trial %{customdata}</b><br>%{text}<extra></extra>",
    }


def _lines(
    name: str,
    paths: Mapping[int, Track],
    colour: str,
    width: float,
    opacity: float,
) -> dict[str, Any]:
    """Draw many trials as one trace, with gaps between them."""
    numbers: list[int | None] = []
    steps: list[int | None] = []
    values: list[float | None] = []
    for key, path in paths.items():
        for step, value in path:
            numbers.append(key)
            steps.append(step)
            values.append(value)
        for column in (numbers, steps, values):
            column.append(None)  # plotly lifts its pen at what is missing
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": steps,
        "y": values,
        "customdata": numbers,
        "opacity": opacity,
        "line": {"color": colour, "width": width},
        "marker": {"color": colour, "size": 4},
        "hovertemplate": "<b>trial %{customdata}</b><br>step %{x}: %{y:.5g}<extra></extra>",
    }


def _marks(name: str, places: Sequence[tuple[int, tuple[int, float]]]) -> dict[str, Any]:
    steps = []
    values = []
    numbers = []
    for key, (step, value) in places:
        steps.append(step)
        values.append(value)
        numbers.append(key)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": steps,
        "y": values,
        "customdata": numbers,
        "marker": {**_marker_of("pruned"), "size": 9},
        "hovertemplate": (
            "<b>trial %{customdata}</b>, stopped<br>step %{x}: %{y:.5g}<extra></extra>"
        ),
    }


def _marker_of(name: str) -> dict[str, Any]:
    return next(kind.marker for kind in KINDS if kind.name == name)


def _no_rungs(shown: Snapshot) -> str:
    if shown.study.spec["search"]["scheduler"]["kind"] == "none":
        return "This study stops no trial early: its scheduler is none, so there are no rungs."
    return "No trial has reached a rung yet."


def colour_of(shown: Snapshot, trial: TrialRecord) -> str:
    """Return the colour in which a trial is drawn wherever it is."""
    marker = _marker_of(kind_of(shown, trial))
    # A cross has no inside: its line has the colour.
    colour: str = marker.get("color") or marker["line"]["color"]
    return colour


def _moment(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
