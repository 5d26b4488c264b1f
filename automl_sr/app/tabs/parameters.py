"""Figures of what parameters do to objectives: Optuna's slices and ranks, and parallel
coordinates.
"""

from __future__ import annotations

import base64
import json
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

    with _lock:
        if shown.content not in _remembered:
            made = remember(shown.study, shown.trials, shown.rungs, registry)
            for oldest in list(_remembered)[: 1 - MOST_REMEMBERED]:
                del _remembered[oldest]
            _remembered[shown.content] = made
        return _remembered[shown.content]


def parameter_names(shown: Snapshot, registry: Registry) -> list[str]:
    """Name the parameters that differ between trials by their stored names, the most important
    first.
    """
    used: dict[str, list[Any]] = {}
    for trial in remembered(shown, registry).remembered:
        for name, value in trial.params.items():
            used.setdefault(name, []).append(value)
    weights: dict[str, float] = {}
    for shares in shown.importance.get("objectives", {}).values():
        for name, share in shares.items():
            weights[name] = weights.get(name, 0.0) + share
    telling = [name for name, values in used.items() if len(set(map(repr, values))) > 1]
    return sorted(telling, key=lambda name: (-weights.get(name, 0.0), -len(used[name]), name))


def partner(shown: Snapshot, registry: Registry, names: Sequence[str], first: str) -> str:
    """Name the most important other parameter that plans use together with the first."""
    params = []
    for trial in remembered(shown, registry).remembered:
        if first in trial.params:
            params.append(trial.params)
    return next(
        (name for name in names if name != first and any(name in row for row in params)), first
    )


def slices_figure(shown: Snapshot, registry: Registry, metric: str, names: Sequence[str]) -> Figure:
    """Draw each parameter against an objective, in panels."""
    from optuna.visualization import plot_slice

    study = _some(shown, registry, MOST_SLICED)
    if not study.remembered or not names:
        return {
            "note": "No parameter differs between the models yet." if study.remembered else NOTHING
        }
    place = shown.study.objectives.index(metric)
    rows = -(-len(names) // COLUMNS)
    layout: dict[str, Any] = {
        "grid": {
            "rows": rows,
            "columns": min(COLUMNS, len(names)),
            "pattern": "independent",
            "ygap": 0.16 * rows,
        },
        "hovermode": "closest",
        "showlegend": False,
        "uirevision": f"{shown.study.id} slices {metric} {list(names)}",
    }
    data = []
    for index, name in enumerate(names, start=1):
        suffix = ""
        if index != 1:
            suffix = str(index)
        drawn = readable(
            plot_slice(study, [name], target=lambda trial: trial.values[place], target_name=metric)
        )
        for trace in drawn["data"]:
            numbers = []
            for value in trace["marker"]["color"]:
                numbers.append(int(value))
            trace |= {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "customdata": numbers}
            trace["marker"] = {
                **_marker(shown, numbers),
                "color": numbers,
                "colorscale": ORDER,
                "showscale": False,
            }
            trace["hovertemplate"] = _hover(name, metric)
            trace["x"] = [_unquoted(value) for value in trace["x"]]
            data.append(trace)
        layout[f"xaxis{suffix}"] = _unquoted_axis(drawn["layout"]["xaxis"])
        layout[f"yaxis{suffix}"] = {
            "title": {"text": metric if index % COLUMNS == 1 or len(names) == 1 else ""}
        }
    return {"data": data, "layout": layout}


def ranks_figure(shown: Snapshot, registry: Registry, metric: str, across: str, up: str) -> Figure:
    """Draw two parameters against each other, coloured by the rank in an objective."""
    from optuna.visualization import plot_rank

    study = _some(shown, registry, MOST_RANKED)
    both = []
    for trial in study.remembered:
        if across in trial.params and up in trial.params:
            both.append(trial.number)
    if not both:
        return {"note": "No trial uses both of these parameters: choose others."}
    place = shown.study.objectives.index(metric)
    drawn = readable(
        plot_rank(study, [across, up], target=lambda trial: trial.values[place], target_name=metric)
    )
    points, colours = drawn["data"]
    values = {}
    for trial in study.remembered:
        values[trial.number] = trial.values[place]
    points |= {"customdata": both, "text": [number(float(values[key])) for key in both]}
    points["marker"] |= _marker(shown, both)
    points["hovertemplate"] = _hover(across, up, f"<br>{metric} %{{text}}")
    points.pop("hovertext", None)
    layout = {}
    for key in ("xaxis", "yaxis"):
        layout[key] = drawn["layout"][key]
    layout["yaxis"]["title"]["standoff"] = 12
    layout |= {
        "hovermode": "closest",
        "uirevision": f"{shown.study.id} ranks {metric} {across} {up}",
    }
    return {"data": [points, colours], "layout": layout}


def parallel_figure(
    shown: Snapshot, registry: Registry, names: Sequence[str], selected: int | None
) -> Figure:
    """Draw a line for each trial across parameters and objectives; what a plan does not use runs
    below.
    """
    known = {trial.number for trial in remembered(shown, registry).remembered}
    measured = [trial for trial in shown.trials if trial.number in known]
    drawn = {selected, *(trial.number for trial in thinned(shown, measured, MOST_LINES))}
    trials = [trial for trial in measured if trial.number in drawn]
    if not trials:
        return {"note": NOTHING}
    plain = list(dict.fromkeys(name.partition("[")[0] for name in names))
    uprights = [Upright(name, [trial.params.get(name) for trial in trials]) for name in plain]
    uprights = [
        upright for upright in uprights if any(value is not None for value in upright.values)
    ]
    uprights += [
        Upright(name, [trial.values[name] for trial in trials]) for name in shown.study.objectives
    ]
    heights = [_heights(upright) for upright in uprights]
    paths = {
        trial.number: [
            (height[row], upright.values[row])
            for height, upright in zip(heights, uprights, strict=True)
        ]
        for row, trial in enumerate(trials)
    }
    data = []
    for kind in KINDS:
        members = [trial for trial in trials if kind_of(shown, trial) == kind.name]
        if members:
            data.append(_coordinates(shown, kind.name, members, paths, uprights))
    if selected in paths:
        chosen = [trial for trial in trials if trial.number == selected]
        line = _coordinates(shown, f"trial {selected}", chosen, paths, uprights)
        data.append(
            {**line, "line": {"color": CHOSEN, "width": 4}, "marker": {"color": CHOSEN, "size": 7}}
        )
    return {"data": data, "layout": _parallel_layout(shown, uprights)}


def _coordinates(
    shown: Snapshot,
    name: str,
    members: Sequence[TrialRecord],
    paths: Mapping[int, Sequence[tuple[float, Any]]],
    uprights: Sequence[Upright],
) -> dict[str, Any]:
    """Draw several trials as one trace, with gaps between them."""
    front, colour = name == "front", colour_of(shown, members[0])
    points: list[tuple[Any, ...]] = []
    for trial in members:
        for place, ((height, value), upright) in enumerate(
            zip(paths[trial.number], uprights, strict=True)
        ):
            words = label(f"{upright.title}: {'not used' if value is None else number(value)}")
            points.append((place, height, trial.number, words))
        points.append((None, None, None, None))
    x, y, numbers, texts = map(list, zip(*points, strict=True))
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "customdata": numbers,
        "text": texts,
        "hovertemplate": "<b>trial %{customdata}</b><br>%{text}<extra></extra>",
        "opacity": 1.0 if front or len(members) == 1 else 0.45,
        "line": {"color": colour, "width": 2 if front else 1},
        "marker": {"color": colour, "size": 4},
    }


def _heights(upright: Upright) -> list[float]:
    at, _ = upright.scale()
    found: list[float] = []
    for value in upright.values:
        if value is None:
            found.append(BELOW)
        else:
            found.append(_between(at, upright, value))
    return found


def _between(at: Any, upright: Upright, value: Any) -> float:
    """Say where a value lies; on an axis of equal values, in its middle."""
    equal = len({repr(other) for other in upright.values if other is not None}) == 1
    if equal:
        return 0.5
    return float(at(value))


def _parallel_layout(shown: Snapshot, uprights: Sequence[Upright]) -> dict[str, Any]:
    texts = []
    for place, upright in enumerate(uprights):
        at, ticks = upright.scale()
        rows = []
        for value, words in ticks:
            rows.append((_between(at, upright, value), words))
        rows += [(BELOW, "not used")] * any(value is None for value in upright.values)
        texts += [
            {
                "x": place,
                "y": height,
                "text": label(words),
                "showarrow": False,
                "xanchor": "left",
                "xshift": 5,
            }
            for height, words in rows
        ]
    upright_line = {
        "type": "line",
        "y0": 0,
        "y1": 1,
        "line": {"color": "#8c959f", "width": 1},
        "layer": "below",
    }
    titles = [label(short_name(upright.title)) for upright in uprights]
    return {
        "annotations": [{**text, "font": {"size": 10}} for text in texts],
        "shapes": [{**upright_line, "x0": place, "x1": place} for place in range(len(uprights))],
        "hovermode": "closest",
        "legend": LEGEND,
        "uirevision": f"{shown.study.id} parallel {[upright.title for upright in uprights]}",
        "xaxis": {
            "tickvals": list(range(len(uprights))),
            "ticktext": titles,
            "range": [-0.2, len(uprights) - 0.4],
            "showgrid": False,
            "zeroline": False,
        },
        "yaxis": {"visible": False, "range": [-0.14, 1.06], "fixedrange": True},
    }


def readable(figure: Any) -> dict[str, Any]:
    """Make plain data of a figure of plotly's: numbers as lists, no markup of others, no look of
    its own.
    """
    found: dict[str, Any] = _plain(json.loads(figure.to_json()))
    for key in ("template", "title", "plot_bgcolor", "paper_bgcolor", "width", "height"):
        found["layout"].pop(key, None)
    return found


def _plain(part: Any) -> Any:
    match part:
        case {"bdata": str(data), "dtype": str(kind)}:
            values = np.frombuffer(base64.b64decode(data), dtype=kind)
            shape = []
            for size in str(part.get("shape", len(values))).split(","):
                shape.append(int(size))
            return values.reshape(shape).tolist()
        case dict():
            found = {}
            for key, value in part.items():
                found[key] = _plain(value)
            return found
        case list():
            return [_plain(value) for value in part]
        case str():
            return label(part)
    return part


def _some(shown: Snapshot, registry: Registry, most: int) -> RememberedStudy:
    """Return the study with as many trials as are drawn, the front last so that it lies on top."""
    study = remembered(shown, registry)
    known = set()
    for trial in study.remembered:
        known.add(trial.number)
    kept = thinned(shown, [trial for trial in shown.trials if trial.number in known], most)
    some = study.only({trial.number for trial in kept})
    some.remembered.sort(key=lambda trial: (trial.number in shown.front_numbers, trial.number))
    return some


def _marker(shown: Snapshot, numbers: Sequence[int]) -> dict[str, Any]:
    """Draw a blue rim around the front."""
    front = []
    for key in numbers:
        front.append(key in shown.front_numbers)
    rims = {
        "color": [BLUE if member else "#8c959f" for member in front],
        "width": [2.5 if m else 0.5 for m in front],
    }
    return {"line": rims, "size": [10 if member else 7 for member in front]}


def _hover(across: str, up: str, more: str = "") -> str:
    places = f"{_in_hover(across)} %{{x}}<br>{_in_hover(up)} %{{y}}"
    return f"<b>trial %{{customdata}}</b><br>{places}{more}<extra></extra>"


def _in_hover(name: str) -> str:
    """Keep a name from being filled in: %{...} means something in a template."""
    return label(name).replace("{", "(").replace("}", ")")


def _unquoted(value: Any) -> Any:
    """Write a category as people do: Optuna shows its quotes."""
    quoted = isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == "'"
    if quoted:
        return value[1:-1]
    return value


def _unquoted_axis(axis: Mapping[str, Any]) -> dict[str, Any]:
    order = axis.get("categoryarray")
    return {**axis, **({"categoryarray": [_unquoted(value) for value in order]} if order else {})}
