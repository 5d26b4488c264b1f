"""Figures of a study as plotly's JSON: plain data, which can be looked at without a browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.plan_words import plan_words

if TYPE_CHECKING:
    from automl_sr.app.figures.chart import Figure
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.records import TrialRecord

Place = tuple[float, ...]
"""Values of a trial, one for each axis."""
LOG_FROM = 30
"""Costs that differ by this factor are drawn by ratio."""
HOVER_WIDTH = 60


@dataclass(frozen=True)
class Kind:
    """A group of trials that are drawn alike."""

    name: str
    marker: dict[str, Any]


KINDS = (
    Kind("infeasible", {"symbol": "x-thin", "size": 7, "line": {"color": "#b35900", "width": 1.5}}),
    Kind(
        "pruned", {"symbol": "circle-open", "size": 7, "color": "#9a6700", "line": {"width": 1.5}}
    ),
    Kind(
        "breaks a limit",
        {"symbol": "square-open", "size": 8, "color": "#b35900", "line": {"width": 1.5}},
    ),
    Kind("complete", {"symbol": "circle", "size": 7, "color": "#8c959f"}),
    Kind("front", {"symbol": "circle", "size": 10, "color": "#0969da"}),
)


def kind_of(shown: Snapshot, trial: TrialRecord) -> str:
    """Return the name of the kind as which a trial is drawn."""
    if trial.number in shown.front_numbers:
        return "front"
    if trial.state == "complete" and not shown.keeps(trial):
        return "breaks a limit"
    return trial.state


def front_figure(
    shown: Snapshot,
    axes: Sequence[Metric],
    wanted: Callable[[TrialRecord], bool] = lambda trial: True,
) -> Figure:
    """Draw trials over two or three metrics, the front joined by a line where there are two."""
    names = [metric.name for metric in axes]
    placed: dict[int, Place] = {}
    by_kind: dict[str, list[TrialRecord]] = {}
    for trial in shown.trials:
        place = measured(trial, names)
        if place is not None and wanted(trial):
            placed[trial.number] = place
            by_kind.setdefault(kind_of(shown, trial), []).append(trial)
    if not placed:
        return {"note": "No trial has been measured yet, or the filters leave none."}

    data = []
    if len(axes) == 2:
        line = [placed[trial.number] for trial in shown.front if trial.number in placed]
        data.append(_edge(sorted(line)))
    # In the order of KINDS: the front is drawn last, over all others.
    for kind in KINDS:
        if kind.name in by_kind:
            members = by_kind[kind.name]
            data.append(_trace(shown, kind, members, placed, solid=len(axes) == 3))
    columns = list(zip(*placed.values(), strict=True))
    return {"data": data, "layout": _layout(axes, columns, shown)}


def measured(trial: TrialRecord, names: Sequence[str]) -> Place | None:
    """Return a trial's values of these metrics; None where one of them is not known.

    What was known before training stands for what was not measured.
    """
    found = {**trial.costs, **trial.values}
    if not found.keys() >= set(names):
        return None
    return tuple(map(found.__getitem__, names))


def hover(shown: Snapshot, trial: TrialRecord) -> str:
    """Return a trial as it is described where a pointer rests on it."""
    found = {**trial.costs, **trial.values}
    lines = [f"<b>trial {trial.number}</b>, {kind_of(shown, trial)}"]
    for name, value in found.items():
        lines.append(f"{label(name)}: {_number(value)}")
    lines += map(label, _wrapped(plan_words(trial.params)))
    return "<br>".join(lines)


def _trace(
    shown: Snapshot,
    kind: Kind,
    members: Sequence[TrialRecord],
    placed: Mapping[int, Place],
    *,
    solid: bool,
) -> dict[str, Any]:
    places = []
    numbers = []
    texts = []
    for trial in members:
        places.append(placed[trial.number])
        numbers.append(trial.number)
        texts.append(hover(shown, trial))
    columns = map(list, zip(*places, strict=True))
    form = "scatter"
    marker = kind.marker
    if solid:
        form = "scatter3d"
        marker = {**kind.marker, "size": 4}
    return {
        "type": form,
        "mode": "markers",
        "name": kind.name,
        "marker": marker,
        "customdata": numbers,
        "text": texts,
        "hoverinfo": "text",
        **dict(zip("xyz", columns, strict=False)),
    }


def _edge(line: Sequence[Place]) -> dict[str, Any]:
    """Join the front by a straight line."""
    # One in steps would claim models that nobody trained.
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [place[0] for place in line],
        "y": [place[1] for place in line],
        "line": {"color": "#0969da", "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _layout(
    axes: Sequence[Metric],
    columns: Sequence[Place],
    shown: Snapshot,
) -> dict[str, Any]:
    found = {}
    for letter, metric, values in zip("xyz", axes, columns, strict=False):
        found[f"{letter}axis"] = axis(metric, values)
    names = [metric.name for metric in axes]
    common = {
        "hovermode": "closest",
        # While this is the same, a chart that somebody has zoomed into stays so.
        "uirevision": f"{shown.study.id} {names}",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    }
    if len(axes) == 3:
        return {**common, "scene": found}
    return {**common, **found}


def axis(metric: Metric, values: Sequence[float]) -> dict[str, Any]:
    """Return an axis: its metric with its unit, and by ratio where costs spread widely."""
    title = metric.name
    if metric.unit:
        title = f"{metric.name} ({metric.unit})"
    described: dict[str, Any] = {"title": {"text": title}}
    low = min(values)
    high = max(values)
    if metric.log and low > 0 and high / low >= LOG_FROM:
        described["type"] = "log"
    return described


def _number(value: float) -> str:
    from automl_sr.presentation.numbers import number

    return number(value)


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, HOVER_WIDTH)


def label(text: str) -> str:
    """Keep what stands in a store from being markup: plotly's labels know some tags."""
    return text.replace("<", "‹").replace(">", "›")
