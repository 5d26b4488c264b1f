"""Which charts a report has, and what is drawn in them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from automl_sr.presentation.axes import Axis, Upright
from automl_sr.presentation.numbers import unit_of_time
from automl_sr.report.charts import Line, Mark, bars, lines, parallel, scatter
from automl_sr.report.document import Block, Chart

Report = Mapping[str, Any]
MOST_LINES = 300
"""Trials drawn across parallel axes: more would be one dark band."""
MOST_UPRIGHTS = 9
MOST_BARS = 10
MOST_ROOM = 4.0
"""How many times longer an axis may become by what has no model."""
SELDOM = 0.25
"""Parameters that fewer trials use get no axis."""


def fronts(report: Report) -> Iterator[Block]:
    """Draw each pair of objectives; a single one against the constrained metrics."""
    objectives = []
    for metric in report["metrics"]:
        if metric["objective"]:
            objectives.append(metric)
    others = []
    for metric in report["metrics"]:
        if not metric["objective"]:
            others.append(metric)
    pairs = list(itertools.combinations(objectives, 2)) or [
        (objectives[0], other) for other in others
    ]
    for up, across in pairs:
        caption = f"{up['name']} over {across['name']}: {_better(up)}, {_better(across)}"
        yield Chart(caption, functools.partial(_front, report, across, up, caption))


def histories(report: Report) -> Iterator[Block]:
    """Draw the history over trials and over time."""
    found = report["history"]
    what = found["metric"] or "hypervolume"
    for key, name in (("count", "trials"), ("seconds", "time")):
        caption = f"{what} over {name}"
        yield Chart(caption, functools.partial(_history, found, key, what, caption))


def importances(report: Report) -> Iterator[Block]:
    """Draw the most important parameters of each objective."""
    for name, shares in report["importance"]["objectives"].items():
        caption = f"Importance for {name}"
        yield Chart(caption, functools.partial(bars, caption, list(shares.items())[:MOST_BARS]))


def coordinates(report: Report) -> Iterator[Block]:
    """Draw a line for each trial across its parameters and objectives."""
    rows = []
    for row in report["trials"]:
        if row["values"] and row["state"] in ("complete", "pruned"):
            rows.append(row)
    objectives = []
    for metric in report["metrics"]:
        if metric["objective"]:
            objectives.append(metric["name"])
    rows = [row for row in rows if all(name in row["values"] for name in objectives)]
    names = _telling_parameters(report, rows)
    if len(rows) < 2 or not names:
        return
    kept = sorted(rows, key=lambda row: (not row["front"], -row["number"]))[:MOST_LINES]
    kept.sort(key=lambda row: row["number"])
    uprights = []
    for name in names:
        uprights.append(Upright(name, [row["plan"].get(name) for row in kept]))
    uprights += [Upright(name, [row["values"][name] for row in kept]) for name in objectives]
    kinds = []
    for row in kept:
        if row["front"]:
            kinds.append("front")
        else:
            kinds.append(row["state"])
    caption = (
        "Parameters and objectives: each line is a trial, the front's in colour; what a plan does"
        " not use runs below."
        + (
            f" Shown are the front and the last trials, {MOST_LINES} in all."
            if len(rows) > MOST_LINES
            else ""
        )
    )
    draw = functools.partial(parallel, caption, uprights, [row["number"] for row in kept], kinds)
    yield Chart(caption, draw, wide=True)


def learning(curves: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """Draw the loss over steps and over seconds."""
    for key, name in (("step", "steps"), ("seconds", "seconds of training")):
        drawn = []
        for index, curve in enumerate(curves):
            if (
                len(
                    points := [
                        (p[key], p["loss"])
                        for p in curve["points"]
                        if p[key] is not None and p["loss"]
                    ]
                )
                > 1
            ):
                drawn.append(
                    Line(f"trial {curve['number']}", points, f"c{index}", number=curve["number"])
                )
        if drawn:
            caption = f"Training loss over {name}"
            yield Chart(caption, functools.partial(_learning, drawn, name, caption))


def rungs(report: Report) -> Iterator[Block]:
    """Draw the first objective of all trials over the rungs, and where they were stopped."""
    metric = next(metric for metric in report["metrics"] if metric["objective"])
    caption = f"{metric['name']} at the rungs and at the end"
    yield Chart(caption, functools.partial(_rungs, report, metric, caption))


def _front(report: Report, across: Mapping[str, Any], up: Mapping[str, Any], caption: str) -> Any:
    rows = []
    for row in report["trials"]:
        if (
            row["state"] in ("complete", "pruned")
            and across["name"] in row["values"]
            and up["name"] in row["values"]
        ):
            rows.append(row)
    marks = []
    for row in rows:
        marks.append(
            Mark(
                row["values"][across["name"]], row["values"][up["name"]], row["number"], _kind(row)
            )
        )
    reference = tuple(report["study"]["reference"].get(metric["name"]) for metric in (across, up))
    xs, ys = (
        _with_room([mark.x for mark in marks], reference[0]),
        _with_room([mark.y for mark in marks], reference[1]),
    )
    objectives = sum(metric["objective"] for metric in report["metrics"])
    edge = sorted((mark.x, mark.y) for mark in marks if mark.kind == "front")
    return scatter(
        caption,
        Axis.over(_title(across), xs, log=across["log"]),
        Axis.over(_title(up), ys, log=up["log"]),
        marks,
        lines=[Line("", edge, "edge")] if objectives == 2 and len(edge) > 1 else (),
        reference=(reference[0], reference[1]),
    )


def _with_room(values: list[float], reference: float | None) -> list[float]:
    """Make room for the reference, unless the marks would become a line or a dot in a corner."""
    if reference is None or not values:
        return values
    span, whole = max(values) - min(values), max(*values, reference) - min(*values, reference)
    if whole <= MOST_ROOM * span:
        return [*values, reference]
    return values


def _history(found: Mapping[str, Any], key: str, what: str, caption: str) -> Any:
    known = []
    for point in found["points"]:
        if point["value"] is not None:
            known.append(point)
    scale, title = 1.0, "finished trials"
    if key == "seconds":
        scale, title = unit_of_time(known[-1]["seconds"])
    points = []
    for point in known:
        points.append((point[key] / scale, point["value"]))
    x = Axis.over(title, [0.0, *(point[0] for point in points)], whole=key == "count")
    marks = []
    for index, (place, point) in enumerate(zip(points, known, strict=True)):
        if index == 0 or point["value"] != known[index - 1]["value"]:
            marks.append(Mark(place[0], place[1], point["number"]))
    return lines(
        caption,
        x,
        Axis.over(what, [point[1] for point in points]),
        [Line("", points, "c0", steps=True)],
        marks,
    )


def _learning(drawn: Sequence[Line], name: str, caption: str) -> Any:
    x = Axis.over(name, [0.0, *(point[0] for line in drawn for point in line.points)])
    losses = []
    for line in drawn:
        for point in line.points:
            losses.append(point[1])
    return lines(caption, x, Axis.over("loss", losses, log=min(losses) > 0), drawn)


def _rungs(report: Report, metric: Mapping[str, Any], caption: str) -> Any:
    name = metric["name"]
    paths: dict[int, list[tuple[float, float]]] = {}
    stopped = []
    for row in report["judged"]:
        if name in row["values"]:
            paths.setdefault(row["number"], []).append((row["step"], row["values"][name]))
            if not row["go_on"]:
                stopped.append(Mark(row["step"], row["values"][name], row["number"], "pruned"))
    ends = {row["number"]: row for row in report["trials"] if row["state"] == "complete"}
    for number, path in paths.items():
        if number in ends and name in ends[number]["values"]:
            path.append((report["study"]["budget"]["steps"], ends[number]["values"][name]))
    front = {row["number"] for row in report["front"]}
    drawn = [
        Line("", path, "edge" if number in front else "faint", number=number)
        for number, path in sorted(paths.items(), key=lambda item: item[0] in front)
    ]
    points = [point for path in paths.values() for point in path]
    x = Axis.over("training steps", [point[0] for point in points], log=True)
    return lines(
        caption,
        x,
        Axis.over(_title(metric), [point[1] for point in points], log=metric["log"]),
        drawn,
        stopped,
    )


def _telling_parameters(report: Report, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Choose the parameters that differ between trials: slots first, then what decides most or is
    used most.
    """
    used: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row["plan"].items():
            used.setdefault(name, []).append(value)
    telling = [
        name
        for name, values in used.items()
        if len(set(map(str, values))) > 1 and len(values) >= SELDOM * len(rows)
    ]
    weights: dict[str, float] = {}
    for shares in report["importance"].get("objectives", {}).values():
        for name, share in shares.items():
            plain = name.partition("[")[
                0
            ]  # the choice among some of a slot's techniques is stored under its own name
            weights[plain] = weights.get(plain, 0.0) + share
    order = sorted(
        telling, key=lambda name: ("." in name, -weights.get(name, 0.0), -len(used[name]))
    )
    return order[:MOST_UPRIGHTS]


def _kind(row: Mapping[str, Any]) -> str:
    if row["front"]:
        return "front"
    if not row["feasible"]:
        return "broken"
    return str(row["state"])


def _title(metric: Mapping[str, Any]) -> str:
    if metric["unit"]:
        return f"{metric['name']} ({metric['unit']})"
    return str(metric["name"])


def _better(metric: Mapping[str, Any]) -> str:
    return f"{'more' if metric['direction'] == 'maximize' else 'less'} {metric['name']} is better"
