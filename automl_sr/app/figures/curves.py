"""Figures of a few trials side by side: how their training went, and what their models cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from automl_sr.app.html_text import escaped
from automl_sr.presentation.numbers import number

if TYPE_CHECKING:
    from automl_sr.app.figures.chart import Figure
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.records import RungRecord, TrialRecord

COLOURS = ("#1894d8", "#d9700d", "#22945a", "#e03a8c", "#6f5be0", "#8a8a8a")
"""Of lines: each stands out from white and from black paper, and from the others."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
SMOOTHING = 20
"""The mean at a point is that of as many points before and after it as this part of the curve
has.
"""
AXES = {"step": "training step", "seconds": "seconds of training"}
NOT_TRAINED = (
    "None of these trials has a learning curve: they were not trained, or took their values over"
    " from others."
)
NO_SECONDS = "How long the steps of these trials took is not known."


@dataclass(frozen=True)
class Curve:
    """How the training of a trial went."""

    number: int
    points: Sequence[Mapping[str, Any]]
    """Step, seconds, phase and loss, as `StoreCache.curve` gives them."""
    rungs: Sequence[RungRecord] = ()


def curve_figure(
    curves: Sequence[Curve], over: Literal["step", "seconds"], keep: str = ""
) -> Figure:
    """Draw the loss of each trial over its steps or its seconds, with its rungs as markers.

    While `keep` is the same, a chart that somebody has zoomed into stays so.
    """
    data = []
    for index, curve in enumerate(curves):
        places = []
        for point in curve.points:
            if point[over] is not None and (point["loss"] or 0) > 0:
                places.append(point)
        if places:
            drawn = []
            for point, mean in zip(places, smooth(places), strict=True):
                drawn.append({**point, "loss": mean})
            data += [*_lines(curve, places, drawn, over, index), *_marks(curve, drawn, over, index)]
    if not data:
        trained = any(point["loss"] for curve in curves for point in curve.points)
        return {"note": NO_SECONDS if trained else NOT_TRAINED}
    layout = {
        "xaxis": {"title": {"text": AXES[over]}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "training loss, mean of neighbours"}, "type": "log"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "hovermode": "closest",
        "uirevision": f"{over} {keep}",
    }
    return {"data": data, "layout": layout}


def smooth(places: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the mean loss around each point, by ratio as the axis is: batches differ more than a
    trend does.
    """
    logs = []
    for point in places:
        logs.append(math.log(point["loss"]))
    reach = len(logs) // SMOOTHING
    windows = []
    for index in range(len(logs)):
        windows.append(logs[max(0, index - reach) : index + reach + 1])
    found: list[float] = []
    for window in windows:
        found.append(math.exp(math.fsum(window) / len(window)))
    return found


def _lines(
    curve: Curve,
    places: Sequence[Mapping[str, Any]],
    drawn: Sequence[Mapping[str, Any]],
    over: str,
    index: int,
) -> list[dict[str, Any]]:
    """Draw the mean as the line, and behind it in pale what it is the mean of."""
    colour = COLOURS[index % len(COLOURS)]
    common = {
        "type": "scatter",
        "legendgroup": str(curve.number),
        "x": [point[over] for point in places],
    }
    pale = {
        **common,
        "mode": "lines",
        "y": [point["loss"] for point in places],
        "line": {"color": colour, "width": 1},
        "opacity": 0.3,
        "hoverinfo": "skip",
        "showlegend": False,
    }
    line = {
        **common,
        "mode": "lines" if len(places) > 1 else "markers",
        "name": f"trial {curve.number}",
        "y": [point["loss"] for point in drawn],
        "line": {"color": colour, "width": 2.5, "dash": DASHES[index % len(DASHES)]},
        "marker": {"color": colour, "size": 5},
        "customdata": [curve.number] * len(places),
        "hovertemplate": (
            f"trial {curve.number}<br>{AXES[over]} %{{x:.4~g}}<br>loss %{{y:.4~g}}<extra></extra>"
        ),
    }
    if len(places) >= SMOOTHING:
        return [pale, line]
    return [line]


def _marks(
    curve: Curve, places: Sequence[Mapping[str, Any]], over: str, index: int
) -> list[dict[str, Any]]:
    """Mark the rungs on the line: where the trial was when it was judged."""
    reached = []
    for rung in curve.rungs:
        reached.append((rung, _at(places, rung.step)))
    found = []
    for rung, place in reached:
        if place is not None:
            found.append((rung, place))
    if not found:
        return []
    colour = COLOURS[index % len(COLOURS)]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "legendgroup": str(curve.number),
            "showlegend": False,
            "marker": {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 9, "color": colour},
            "x": [place[over] for _, place in found],
            "y": [place["loss"] for _, place in found],
            "customdata": [curve.number] * len(found),
            "text": [rung_words(rung) for rung, _ in found],
            "hoverinfo": "text",
        }
    ]


def _at(places: Sequence[Mapping[str, Any]], step: int) -> Mapping[str, Any] | None:
    """Return the last point of a curve at or before a step: curves are thinned out."""
    before = []
    for place in places:
        if place["step"] <= step:
            before.append(place)
    if before:
        return before[-1]
    return None


def rung_words(rung: RungRecord) -> str:
    """Describe a rung where a pointer rests on it."""
    values = "<br>".join(escaped(f"{name}: {number(value)}") for name, value in rung.values.items())
    then = "stopped here"
    if rung.go_on:
        then = "promoted"
    return f"trial {rung.number}, rung {rung.rung + 1} at step {rung.step:,}: {then}<br>{values}"


def cost_figure(trials: Sequence[TrialRecord], metrics: Mapping[str, Metric]) -> Figure:
    """Draw what the models cost as bars, each as a share of the dearest of these: costs have many
    units.
    """
    table = costs_of(trials, metrics)
    if not table:
        return {"note": "Nothing is known yet of what these models cost."}
    names = list(table)
    data = []
    for index, trial in enumerate(trials):
        values = []
        for name in names:
            values.append(table[name].get(trial.number))
        shares = []
        for name, value in zip(names, values, strict=True):
            shares.append(_share(value, table[name]))
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": f"trial {trial.number}",
                "x": shares,
                "y": [escaped(name) for name in names],
                "marker": {"color": COLOURS[index % len(COLOURS)]},
                "text": [number(value) if value is not None else "" for value in values],
                "textposition": "auto",
                "textangle": 0,
                "customdata": [trial.number] * len(names),
                "hovertemplate": f"trial {trial.number}<br>%{{y}}: %{{text}}<extra></extra>",
            }
        )
    layout = {
        "barmode": "group",
        "xaxis": {"title": {"text": "percent of the dearest of these"}, "range": [0, 105]},
        "yaxis": {"autorange": "reversed"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}


def costs_of(
    trials: Sequence[TrialRecord], metrics: Mapping[str, Metric]
) -> dict[str, dict[int, float]]:
    """Return all costs that some of these trials has, by name and trial: of metrics, those of which
    less is better.
    """
    found: dict[str, dict[int, float]] = {}
    for trial in trials:
        for name, value in {**trial.costs, **trial.values}.items():
            metric = metrics.get(name)
            if metric is None:
                cost = name in trial.costs
            else:
                cost = metric.direction == "minimize"
            if cost and value >= 0:
                found.setdefault(name, {})[trial.number] = value
    return found


def _share(value: float | None, row: Mapping[int, float]) -> float | None:
    most = max(row.values())
    if value is None:
        return None
    if most > 0:
        return 100 * value / most
    return 0.0
