"""Figures of a study as plotly's JSON: plain data, so that they can be looked at without a
browser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.plan_words import plan_words

if TYPE_CHECKING:
    from automl_sr.app.figures.chart import Figure
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.records import TrialRecord

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
    """Say how a trial is drawn."""
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
    trials = []
    for trial in shown.trials:
        if wanted(trial):
            trials.append(trial)
    names = [metric.name for metric in axes]
    placed = {}
    for trial in trials:
        placed[trial.number] = measured(trial, names)
    trials = [trial for trial in trials if placed[trial.number] is not None]
    if not trials:
        return {"note": "No trial has been measured yet, or the filters leave none."}
    data = []
    for kind in KINDS:
        members = []
        for trial in trials:
            if kind_of(shown, trial) == kind.name:
                members.append(trial)
        if members:
            data.append(
                _trace(
                    kind,
                    members,
                    [placed[trial.number] for trial in members],
                    shown,
                    len(axes) == 3,
                )
            )
    if len(axes) == 2:
        line = []
        for trial in shown.front:
            if placed.get(trial.number):
                line.append(placed[trial.number])
        data.insert(0, _edge(sorted(line)))
    columns = list(zip(*(placed[trial.number] for trial in trials), strict=True))
    return {"data": data, "layout": _layout(axes, columns, shown)}


def measured(trial: TrialRecord, names: Sequence[str]) -> tuple[float, ...] | None:
    """Return a trial's values, or what was known of it before training, if all of these metrics are
    among them.
    """
    found = {**trial.costs, **trial.values}
    if all(name in found for name in names):
        return tuple(found[name] for name in names)
    return None


def hover(shown: Snapshot, trial: TrialRecord) -> str:
    """Describe a trial where a pointer rests on it."""
    found = {**trial.costs, **trial.values}
    lines = [f"<b>trial {trial.number}</b>, {kind_of(shown, trial)}"]
    lines += [f"{label(name)}: {_number(value)}" for name, value in found.items()]
    lines += [label(line) for line in _wrapped(plan_words(trial.params))]
    return "<br>".join(lines)


def _trace(
    kind: Kind, members: list[TrialRecord], places: list[Any], shown: Snapshot, solid: bool
) -> dict[str, Any]:
    columns = dict(zip("xyz", map(list, zip(*places, strict=True)), strict=False))
    if solid:
        marker = {**kind.marker, "size": 4}
    else:
        marker = kind.marker
    return {
        "type": "scatter3d" if solid else "scatter",
        "mode": "markers",
        "name": kind.name,
        "marker": marker,
        "customdata": [trial.number for trial in members],
        "text": [hover(shown, trial) for trial in members],
        "hoverinfo": "text",
        **columns,
    }


def _edge(line: list[Any]) -> dict[str, Any]:
    """Join the front: a line that steps would claim models that nobody trained."""
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
    axes: Sequence[Metric], columns: list[tuple[float, ...]], shown: Snapshot
) -> dict[str, Any]:
    found = {}
    for letter, metric, values in zip("xyz", axes, columns, strict=False):
        found[f"{letter}axis"] = axis(metric, values)
    common = {
        "hovermode": "closest",
        "uirevision": f"{shown.study.id} {[metric.name for metric in axes]}",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    }
    if len(axes) == 3:
        return {**common, "scene": found}
    return {**common, **found}


def axis(metric: Metric, values: Sequence[float]) -> dict[str, Any]:
    """Describe an axis: its metric with its unit, and by ratio where costs spread widely."""
    if metric.unit:
        title = f"{metric.name} ({metric.unit})"
    else:
        title = metric.name
    wide = metric.log and min(values) > 0 and max(values) / min(values) >= LOG_FROM
    return {"title": {"text": title}, **({"type": "log"} if wide else {})}


def _number(value: float) -> str:
    from automl_sr.presentation.numbers import number

    return number(value)


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, HOVER_WIDTH)


def label(text: str) -> str:
    """Keep what stands in a store from being markup: plotly's labels know some tags."""
    return text.replace("<", "‹").replace(">", "›")
