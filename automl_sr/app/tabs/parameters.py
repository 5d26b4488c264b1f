"""Figures of what parameters do to objectives: slices, ranks, and parallel coordinates."""

from __future__ import annotations

import base64
import json
import math
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automl_sr.app.figures.figures import KINDS, kind_of, label
from automl_sr.app.tabs.reasons import BLUE, LEGEND, MOST_LINES, colour_of, thinned
from automl_sr.presentation.axes import Upright
from automl_sr.presentation.numbers import number
from automl_sr.presentation.plan_words import short_name

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl_sr.app.figures.chart import Figure
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.plugin.registry import Registry
    from automl_sr.presentation.optuna_study import RememberedStudy
    from automl_sr.store.records import TrialRecord

MOST_SLICED = 600
"""Points of one slice."""
MOST_RANKED = 1000
MOST_CHOSEN = 6
MOST_REMEMBERED = 4
COLUMNS = 2
BELOW = -0.08
"""Where lines run that have no value on an axis."""
CHOSEN = "#8250df"
ORDER = [[0, "#d0d7de"], [1, "#57606a"]]
"""From the first trial to the last."""
NOTHING = "No trial has left a model yet, so there is nothing to compare parameters by."

_lock = threading.Lock()
_remembered: dict[str, RememberedStudy] = {}


def remembered(shown: Snapshot, registry: Registry) -> RememberedStudy:
    """Return the study as Optuna reads one, made once for each content.

    Raises PluginError without its plugins.
    """
    from automl_sr.presentation.optuna_study import remember

    # Handlers run in threads: several views of one study must not make it several times.
    with _lock:
        if shown.content not in _remembered:
            made = remember(shown.study, shown.trials, shown.rungs, registry)
            for oldest in list(_remembered)[: 1 - MOST_REMEMBERED]:
                del _remembered[oldest]
            _remembered[shown.content] = made
        return _remembered[shown.content]


def parameter_names(shown: Snapshot, registry: Registry) -> list[str]:
    """Return the parameters that differ between trials, the most important first.

    By their stored names, such as `quantization[none|int8_ptq]`.
    """
    used: dict[str, list[Any]] = {}
    for trial in remembered(shown, registry).remembered:
        for name, value in trial.params.items():
            used.setdefault(name, []).append(value)
    weights: dict[str, float] = {}
    for shares in shown.importance.get("objectives", {}).values():
        for name, share in shares.items():
            weights[name] = weights.get(name, 0.0) + share

    telling = []
    for name, values in used.items():
        # By how they are written: lists have no hash.
        if len(set(map(repr, values))) > 1:
            telling.append(name)

    def order(name: str) -> tuple[float, int, str]:
        weight = weights.get(name, 0.0)
        return -weight, -len(used[name]), name

    telling.sort(key=order)
    return telling


def partner(
    shown: Snapshot,
    registry: Registry,
    names: Sequence[str],
    first: str,
) -> str:
    """Return the most important other parameter that plans use together with the first."""
    together: set[str] = set()
    for trial in remembered(shown, registry).remembered:
        if first in trial.params:
            together.update(trial.params)
    for name in names:
        if name != first and name in together:
            return name
    return first


def slices_figure(
    shown: Snapshot,
    registry: Registry,
    metric: str,
    names: Sequence[str],
) -> Figure:
    """Draw each parameter against an objective, in panels."""
    study = _some(shown, registry, MOST_SLICED)
    if not study.remembered:
        return {"note": NOTHING}
    if not names:
        return {"note": "No parameter differs between the models yet."}
    rows = math.ceil(len(names) / COLUMNS)
    layout: dict[str, Any] = {
        "grid": {
            "rows": rows,
            "columns": min(COLUMNS, len(names)),
            "pattern": "independent",
            # A share of the height of a panel: the more rows, the lower they are.
            "ygap": 0.16 * rows,
        },
        "hovermode": "closest",
        "showlegend": False,
        "uirevision": f"{shown.study.id} slices {metric} {list(names)}",
    }
    data = []
    for index, name in enumerate(names):
        suffix = ""
        if index:  # plotly's first axes are x and y, the second ones x2 and y2
            suffix = str(index + 1)
        traces, axis = _slice(shown, study, metric, name)
        for trace in traces:
            data.append({**trace, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"})
        title = ""
        if index % COLUMNS == 0:  # all panels of a row have the same
            title = metric
        layout[f"xaxis{suffix}"] = axis
        layout[f"yaxis{suffix}"] = {"title": {"text": title}}
    return {"data": data, "layout": layout}


def _slice(
    shown: Snapshot,
    study: RememberedStudy,
    metric: str,
    name: str,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return Optuna's slice of one parameter in our look: its traces, and its axis."""
    from optuna.visualization import plot_slice

    place = shown.study.objectives.index(metric)
    figure = plot_slice(
        study,
        [name],
        target=lambda trial: trial.values[place],
        target_name=metric,
    )
    drawn = readable(figure)
    traces = drawn["data"]
    for trace in traces:
        # Optuna colours by the number of the trial, which nothing else of the trace holds.
        numbers = list(map(int, trace["marker"]["color"]))
        trace["customdata"] = numbers
        trace["marker"] = {
            **_marker(shown, numbers),
            "color": numbers,
            "colorscale": ORDER,
            "showscale": False,
        }
        trace["hovertemplate"] = _hover(name, metric)
        trace["x"] = list(map(_unquoted, trace["x"]))
    return traces, _unquoted_axis(drawn["layout"]["xaxis"])


def ranks_figure(
    shown: Snapshot,
    registry: Registry,
    metric: str,
    across: str,
    up: str,
) -> Figure:
    """Draw two parameters against each other, coloured by the rank in an objective."""
    from optuna.visualization import plot_rank

    place = shown.study.objectives.index(metric)
    study = _some(shown, registry, MOST_RANKED)
    # In the order of the study, which is that of the points that Optuna draws.
    both = []
    values = []
    for trial in study.remembered:
        if across in trial.params and up in trial.params:
            both.append(trial.number)
            values.append(number(float(trial.values[place])))
    if not both:
        return {"note": "No trial uses both of these parameters: choose others."}

    figure = plot_rank(
        study,
        [across, up],
        target=lambda trial: trial.values[place],
        target_name=metric,
    )
    drawn = readable(figure)
    points, colours = drawn["data"]
    points["customdata"] = both
    points["text"] = values
    points["marker"] |= _marker(shown, both)
    points["hovertemplate"] = _hover(across, up, f"<br>{metric} %{{text}}")
    points.pop("hovertext", None)
    layout = {
        "xaxis": drawn["layout"]["xaxis"],
        "yaxis": drawn["layout"]["yaxis"],
        "hovermode": "closest",
        "uirevision": f"{shown.study.id} ranks {metric} {across} {up}",
    }
    layout["yaxis"]["title"]["standoff"] = 12
    return {"data": [points, colours], "layout": layout}


def parallel_figure(
    shown: Snapshot,
    registry: Registry,
    names: Sequence[str],
    selected: int | None,
) -> Figure:
    """Draw a line for each trial across parameters and objectives.

    What a plan does not use runs below.
    """
    trials = _drawn_trials(shown, registry, selected)
    if not trials:
        return {"note": NOTHING}
    uprights = _uprights(shown, names, trials)
    paths: dict[int, list[tuple[float, Any]]] = {trial.number: [] for trial in trials}
    for upright in uprights:
        points = zip(_heights(upright), upright.values, strict=True)
        for trial, point in zip(trials, points, strict=True):
            paths[trial.number].append(point)

    data = []
    for kind in KINDS:
        members = [trial for trial in trials if kind_of(shown, trial) == kind.name]
        if members:
            data.append(_coordinates(shown, kind.name, members, paths, uprights))
    if selected in paths:
        # Once more, and last: over all the others.
        chosen = [shown.by_number[selected]]
        line = _coordinates(shown, f"trial {selected}", chosen, paths, uprights)
        line["line"] = {"color": CHOSEN, "width": 4}
        line["marker"] = {"color": CHOSEN, "size": 7}
        data.append(line)
    return {"data": data, "layout": _parallel_layout(shown, uprights)}


def _drawn_trials(
    shown: Snapshot,
    registry: Registry,
    selected: int | None,
) -> list[TrialRecord]:
    """Return the trials that have a line: of too many some, but the selected one always."""
    known = {trial.number for trial in remembered(shown, registry).remembered}
    measured = [trial for trial in shown.trials if trial.number in known]
    drawn = {trial.number for trial in thinned(shown, measured, MOST_LINES)}
    return [trial for trial in measured if trial.number in drawn or trial.number == selected]


def _uprights(
    shown: Snapshot,
    names: Sequence[str],
    trials: Sequence[TrialRecord],
) -> list[Upright]:
    """Return the axes: parameters that any of these trials uses, then the objectives."""
    uprights = []
    # Plans say `quantization` whatever choice it was stored as: slot[a|b] and slot[a|c] are one.
    plain: dict[str, None] = {}  # a set that keeps the order
    for name in names:
        slot, _, _ = name.partition("[")
        plain[slot] = None
    for name in plain:
        choices = [trial.params.get(name) for trial in trials]
        if any(choice is not None for choice in choices):
            uprights.append(Upright(name, choices))
    for name in shown.study.objectives:
        values = [trial.values[name] for trial in trials]
        uprights.append(Upright(name, values))
    return uprights


def _coordinates(
    shown: Snapshot,
    name: str,
    members: Sequence[TrialRecord],
    paths: Mapping[int, Sequence[tuple[float, Any]]],
    uprights: Sequence[Upright],
) -> dict[str, Any]:
    """Draw several trials as one trace, with gaps between them."""
    # One trace is one entry of the legend, however many trials it holds.
    places: list[int | None] = []
    heights: list[float | None] = []
    numbers: list[int | None] = []
    texts: list[str | None] = []
    for trial in members:
        for place, (height, value) in enumerate(paths[trial.number]):
            said = "not used"
            if value is not None:
                said = number(value)
            places.append(place)
            heights.append(height)
            numbers.append(trial.number)
            title = uprights[place].title
            texts.append(label(f"{title}: {said}"))
        for column in (places, heights, numbers, texts):
            column.append(None)  # plotly lifts its pen at what is missing
    colour = colour_of(shown, members[0])
    width = 1
    if name == "front":
        width = 2
    opacity = 0.45
    if name == "front" or len(members) == 1:
        opacity = 1.0
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": places,
        "y": heights,
        "customdata": numbers,
        "text": texts,
        "hovertemplate": "<b>trial %{customdata}</b><br>%{text}<extra></extra>",
        "opacity": opacity,
        "line": {"color": colour, "width": width},
        "marker": {"color": colour, "size": 4},
    }


def _heights(upright: Upright) -> list[float]:
    at, _ = upright.scale()
    found = []
    for value in upright.values:
        if value is None:
            found.append(BELOW)
        else:
            found.append(_between(at, upright, value))
    return found


def _between(at: Any, upright: Upright, value: Any) -> float:
    """Return where a value lies; on an axis of equal values, in its middle."""
    different = {repr(other) for other in upright.values if other is not None}
    if len(different) == 1:
        return 0.5
    return float(at(value))


def _parallel_layout(shown: Snapshot, uprights: Sequence[Upright]) -> dict[str, Any]:
    texts = []
    lines = []
    titles = []
    for place, upright in enumerate(uprights):
        titles.append(label(short_name(upright.title)))
        lines.append(_upright_line(place))
        at, ticks = upright.scale()
        for value, words in ticks:
            texts.append(_tick(place, _between(at, upright, value), words))
        if None in upright.values:
            texts.append(_tick(place, BELOW, "not used"))
    return {
        "annotations": texts,
        "shapes": lines,
        "hovermode": "closest",
        "legend": LEGEND,
        "uirevision": f"{shown.study.id} parallel {[upright.title for upright in uprights]}",
        "xaxis": {
            "tickvals": list(range(len(uprights))),
            "ticktext": titles,
            # Room for the ticks of the last axis, which stand on its right.
            "range": [-0.2, len(uprights) - 0.4],
            "showgrid": False,
            "zeroline": False,
        },
        "yaxis": {"visible": False, "range": [-0.14, 1.06], "fixedrange": True},
    }


def _upright_line(place: int) -> dict[str, Any]:
    return {
        "type": "line",
        "y0": 0,
        "y1": 1,
        "line": {"color": "#8c959f", "width": 1},
        "layer": "below",
        "x0": place,
        "x1": place,
    }


def _tick(place: int, height: float, words: str) -> dict[str, Any]:
    return {
        "x": place,
        "y": height,
        "text": label(words),
        "showarrow": False,
        "xanchor": "left",
        "xshift": 5,
        "font": {"size": 10},
    }


def readable(figure: Any) -> dict[str, Any]:
    """Return a figure of plotly's as plain data: numbers as lists, and no markup of others."""
    found: dict[str, Any] = _plain(json.loads(figure.to_json()))
    # What makes its look: pages have their own, in light and in dark.
    for key in ("template", "title", "plot_bgcolor", "paper_bgcolor", "width", "height"):
        found["layout"].pop(key, None)
    return found


def _plain(part: Any) -> Any:
    match part:
        case {"bdata": str(data), "dtype": str(kind)}:
            # plotly packs arrays as base64; a shape is there for those of several dimensions.
            values = np.frombuffer(base64.b64decode(data), dtype=kind)
            shape = str(part.get("shape", len(values))).split(",")
            return values.reshape(list(map(int, shape))).tolist()
        case dict():
            return {key: _plain(value) for key, value in part.items()}
        case list():
            return list(map(_plain, part))
        case str():
            return label(part)
    return part


def _some(shown: Snapshot, registry: Registry, most: int) -> RememberedStudy:
    """Return the study with as many trials as are drawn, the front last so that it lies on top."""
    study = remembered(shown, registry)
    known = {trial.number for trial in study.remembered}
    measured = [trial for trial in shown.trials if trial.number in known]
    kept = {trial.number for trial in thinned(shown, measured, most)}
    some = study.only(kept)

    def order(trial: FrozenTrial) -> tuple[bool, int]:
        return trial.number in shown.front_numbers, trial.number

    some.remembered.sort(key=order)
    return some


def _marker(shown: Snapshot, numbers: Sequence[int]) -> dict[str, Any]:
    """Return markers with a blue rim around the front."""
    colours = []
    widths = []
    sizes = []
    for key in numbers:
        if key in shown.front_numbers:
            colours.append(BLUE)
            widths.append(2.5)
            sizes.append(10)
        else:
            colours.append("#8c959f")
            widths.append(0.5)
            sizes.append(7)
    return {"line": {"color": colours, "width": widths}, "size": sizes}


def _hover(across: str, up: str, more: str = "") -> str:
    # Braces are doubled for Python: %{x} is what plotly fills in.
    places = f"{_in_hover(across)} %{{x}}<br>{_in_hover(up)} %{{y}}"
    return f"<b>trial %{{customdata}}</b><br>{places}{more}<extra></extra>"


def _in_hover(name: str) -> str:
    """Keep a name from being filled in: %{...} means something in a template."""
    return label(name).replace("{", "(").replace("}", ")")


def _unquoted(value: Any) -> Any:
    """Return a category as people write it: Optuna shows its quotes."""
    if not isinstance(value, str) or len(value) < 2:
        return value
    if value[0] == value[-1] == "'":
        return value[1:-1]
    return value


def _unquoted_axis(axis: Mapping[str, Any]) -> dict[str, Any]:
    order = axis.get("categoryarray")
    if not order:
        return dict(axis)
    return {**axis, "categoryarray": list(map(_unquoted, order))}
