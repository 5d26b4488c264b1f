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
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
Points = Sequence[Mapping[str, Any]]
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
    curves: Sequence[Curve],
    over: Literal["step", "seconds"],
    keep: str = "",
) -> Figure:
    """Draw the loss of each trial over its steps or its seconds, with its rungs as markers.

    While `keep` is the same, a chart that somebody has zoomed into stays so.
    """
    data = []
    for index, curve in enumerate(curves):
        places = []
        for point in curve.points:
            # The axis is one of ratios: a loss that is missing or not above 0 has no place on it.
            if point[over] is not None and (point["loss"] or 0) > 0:
                places.append(point)
        if not places:
            continue
        drawn = []
        for point, mean in zip(places, smooth(places), strict=True):
            drawn.append({**point, "loss": mean})
        data += _lines(curve, places, drawn, over, index)
        data += _marks(curve, drawn, over, index)
    if not data:
        return {"note": _why_none(curves)}
    layout = {
        "xaxis": {"title": {"text": AXES[over]}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "training loss, mean of neighbours"}, "type": "log"},
        "legend": LEGEND,
        "showlegend": True,
        "hovermode": "closest",
        "uirevision": f"{over} {keep}",
    }
    return {"data": data, "layout": layout}


def _why_none(curves: Sequence[Curve]) -> str:
    for curve in curves:
        if any(point["loss"] for point in curve.points):
            return NO_SECONDS
    return NOT_TRAINED


def smooth(places: Points) -> list[float]:
    """Return the mean loss around each point, by ratio as the axis is."""
    # Batches differ more than a trend does: the single losses are a band in which none is seen.
    logs = [math.log(point["loss"]) for point in places]
    reach = len(logs) // SMOOTHING
    means = []
    for index in range(len(logs)):
        window = logs[max(0, index - reach) : index + reach + 1]
        means.append(math.exp(math.fsum(window) / len(window)))
    return means


def _lines(
    curve: Curve,
    places: Points,
    drawn: Points,
    over: str,
    index: int,
) -> list[dict[str, Any]]:
    """Draw the mean as the line, and behind it in pale what it is the mean of."""
    colour = COLOURS[index % len(COLOURS)]
    mode = "lines"
    if len(places) == 1:  # a line needs two
        mode = "markers"
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
        "mode": mode,
        "name": f"trial {curve.number}",
        "y": [point["loss"] for point in drawn],
        # Dashes besides colours, for those who do not see all of these.
        "line": {"color": colour, "width": 2.5, "dash": DASHES[index % len(DASHES)]},
        "marker": {"color": colour, "size": 5},
        "customdata": [curve.number] * len(places),
        "hovertemplate": (
            f"trial {curve.number}<br>{AXES[over]} %{{x:.4~g}}<br>loss %{{y:.4~g}}<extra></extra>"
        ),
    }
    # The means of shorter curves are the losses themselves.
    if len(places) < SMOOTHING:
        return [line]
    return [pale, line]


def _marks(
    curve: Curve,
    places: Points,
    over: str,
    index: int,
) -> list[dict[str, Any]]:
    """Mark the rungs on the line: where the trial was when it was judged."""
    across = []
    heights = []
    texts = []
    for rung in curve.rungs:
        place = _at(places, rung.step)
        if place is not None:
            across.append(place[over])
            heights.append(place["loss"])
            texts.append(rung_words(rung))
    if not across:
        return []
    marker = {
        "symbol": SYMBOLS[index % len(SYMBOLS)],
        "size": 9,
        "color": COLOURS[index % len(COLOURS)],
    }
    trace = {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": str(curve.number),
        "showlegend": False,
        "marker": marker,
        "x": across,
        "y": heights,
        "customdata": [curve.number] * len(across),
        "text": texts,
        "hoverinfo": "text",
    }
    return [trace]


def _at(places: Points, step: int) -> Mapping[str, Any] | None:
    """Return the last point of a curve at or before a step."""
    # Curves are thinned out: the step itself may be missing.
    found = None
    for place in places:
        if place["step"] <= step:
            found = place
    return found


def rung_words(rung: RungRecord) -> str:
    """Return a rung as it is described where a pointer rests on it."""
    lines = []
    for name, value in rung.values.items():
        lines.append(escaped(f"{name}: {number(value)}"))
    then = "stopped here"
    if rung.go_on:
        then = "promoted"
    values = "<br>".join(lines)
    return f"trial {rung.number}, rung {rung.rung + 1} at step {rung.step:,}: {then}<br>{values}"


def cost_figure(trials: Sequence[TrialRecord], metrics: Mapping[str, Metric]) -> Figure:
    """Draw what the models cost as bars, each as a share of the dearest of these."""
    # As shares, because costs have many units.
    table = costs_of(trials, metrics)
    if not table:
        return {"note": "Nothing is known yet of what these models cost."}
    data = []
    for index, trial in enumerate(trials):
        colour = COLOURS[index % len(COLOURS)]
        data.append(_cost_bars(trial, table, colour))
    layout = {
        "barmode": "group",
        "xaxis": {"title": {"text": "percent of the dearest of these"}, "range": [0, 105]},
        # From the top down, in the order of the table.
        "yaxis": {"autorange": "reversed"},
        "legend": LEGEND,
        "showlegend": True,
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}


def _cost_bars(
    trial: TrialRecord,
    table: Mapping[str, Mapping[int, float]],
    colour: str,
) -> dict[str, Any]:
    names = []
    shares = []
    texts = []
    for name, row in table.items():
        value = row.get(trial.number)
        names.append(escaped(name))
        shares.append(_share(value, row))
        if value is None:
            texts.append("")
        else:
            texts.append(number(value))
    return {
        "type": "bar",
        "orientation": "h",
        "name": f"trial {trial.number}",
        "x": shares,
        "y": names,
        "marker": {"color": colour},
        "text": texts,
        "textposition": "auto",
        "textangle": 0,
        "customdata": [trial.number] * len(names),
        "hovertemplate": f"trial {trial.number}<br>%{{y}}: %{{text}}<extra></extra>",
    }


def costs_of(
    trials: Sequence[TrialRecord],
    metrics: Mapping[str, Metric],
) -> dict[str, dict[int, float]]:
    """Return all costs that some of these trials has, by name and trial."""
    found: dict[str, dict[int, float]] = {}
    for trial in trials:
        # What was measured takes the place of what was known before.
        for name, value in {**trial.costs, **trial.values}.items():
            metric = metrics.get(name)
            cost = name in trial.costs
            if metric is not None:  # of metrics, those of which less is better
                cost = metric.direction == "minimize"
            if cost and value >= 0:
                found.setdefault(name, {})[trial.number] = value
    return found


def _share(value: float | None, row: Mapping[int, float]) -> float | None:
    if value is None:
        return None
    most = max(row.values())
    if most > 0:
        return 100 * value / most
    return 0.0
