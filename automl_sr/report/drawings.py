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
Row = Mapping[str, Any]
"""A part of the collected structure: a trial, a metric, a learning curve."""
Points = list[tuple[float, float]]
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
    others = []
    for metric in report["metrics"]:
        if metric["objective"]:
            objectives.append(metric)
        else:
            others.append(metric)
    pairs = list(itertools.combinations(objectives, 2))
    if not pairs:
        pairs = list(itertools.product(objectives, others))
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
        largest = list(shares.items())[:MOST_BARS]
        yield Chart(caption, functools.partial(bars, caption, largest))


def coordinates(report: Report) -> Iterator[Block]:
    """Draw a line for each trial across its parameters and objectives."""
    objectives = _objectives(report)
    rows = [row for row in report["trials"] if _is_measured(row, objectives)]
    names = _telling_parameters(report, rows)
    if len(rows) < 2 or not names:
        return

    # Of too many the front stays, and of the others the newest.
    wanted = sorted(rows, key=lambda row: (not row["front"], -row["number"]))
    kept = wanted[:MOST_LINES]
    kept.sort(key=lambda row: row["number"])
    uprights = []
    for name in names:
        choices = [row["plan"].get(name) for row in kept]
        uprights.append(Upright(name, choices))
    for name in objectives:
        values = [row["values"][name] for row in kept]
        uprights.append(Upright(name, values))
    numbers = []
    kinds = []
    for row in kept:
        numbers.append(row["number"])
        if row["front"]:
            kinds.append("front")
        else:
            kinds.append(row["state"])

    caption = (
        "Parameters and objectives: each line is a trial, the front's in colour; what a plan does"
        " not use runs below."
    )
    if len(rows) > MOST_LINES:
        caption += f" Shown are the front and the last trials, {MOST_LINES} in all."
    draw = functools.partial(parallel, caption, uprights, numbers, kinds)
    yield Chart(caption, draw, wide=True)


def _objectives(report: Report) -> list[str]:
    names = []
    for metric in report["metrics"]:
        if metric["objective"]:
            names.append(metric["name"])
    return names


def _is_measured(row: Row, metrics: Sequence[str]) -> bool:
    """Return whether a trial left a model of which all these metrics are known."""
    if row["state"] not in ("complete", "pruned"):
        return False
    values: Mapping[str, float] = row["values"]
    if not values:
        return False
    return set(metrics) <= values.keys()


def learning(curves: Sequence[Row]) -> Iterator[Block]:
    """Draw the loss over steps and over seconds."""
    for key, name in (("step", "steps"), ("seconds", "seconds of training")):
        drawn = []
        for index, curve in enumerate(curves):
            points = _losses(curve, key)
            if len(points) > 1:  # a single point draws no line
                title = f"trial {curve['number']}"
                # By place among all curves, so that a trial has one colour in both charts.
                kind = f"c{index}"
                drawn.append(Line(title, points, kind, number=curve["number"]))
        if drawn:
            caption = f"Training loss over {name}"
            yield Chart(caption, functools.partial(_learning, drawn, name, caption))


def _losses(curve: Row, key: str) -> Points:
    points = []
    for point in curve["points"]:
        # A loss that was not a number is null in JSON, so are seconds that nobody knows.
        place = point[key]
        loss = point["loss"]
        if place is not None and loss:
            points.append((place, loss))
    return points


def rungs(report: Report) -> Iterator[Block]:
    """Draw the first objective of all trials over the rungs, and where they were stopped."""
    metric = next(metric for metric in report["metrics"] if metric["objective"])
    caption = f"{metric['name']} at the rungs and at the end"
    yield Chart(caption, functools.partial(_rungs, report, metric, caption))


def _front(
    report: Report,
    across: Row,
    up: Row,
    caption: str,
) -> Any:
    marks = []
    edge = []
    xs = []
    ys = []
    for row in report["trials"]:
        if not _is_measured(row, (across["name"], up["name"])):
            continue
        x = row["values"][across["name"]]
        y = row["values"][up["name"]]
        kind = _kind(row)
        marks.append(Mark(x, y, row["number"], kind))
        xs.append(x)
        ys.append(y)
        if kind == "front":
            edge.append((x, y))

    known = report["study"]["reference"]
    x_reference = known.get(across["name"])
    y_reference = known.get(up["name"])
    xs = _with_room(xs, x_reference)
    ys = _with_room(ys, y_reference)
    # The front of two objectives is a line; of more, its members lie anywhere in two of them.
    lines_drawn = []
    if len(_objectives(report)) == 2 and len(edge) > 1:
        lines_drawn.append(Line("", sorted(edge), "edge"))
    return scatter(
        caption,
        Axis.over(_title(across), xs, log=across["log"]),
        Axis.over(_title(up), ys, log=up["log"]),
        marks,
        lines=lines_drawn,
        reference=(x_reference, y_reference),
    )


def _with_room(values: list[float], reference: float | None) -> list[float]:
    """Make room for the reference, unless the marks would become a line or a dot in a corner."""
    if reference is None or not values:
        return values
    wider = [*values, reference]
    span = max(values) - min(values)
    whole = max(wider) - min(wider)
    if whole <= MOST_ROOM * span:
        return wider
    return values


def _history(
    found: Row,
    key: str,
    what: str,
    caption: str,
) -> Any:
    # Trials before the first model have no value.
    known = [point for point in found["points"] if point["value"] is not None]
    scale = 1.0
    title = "finished trials"
    if key == "seconds":
        scale, title = unit_of_time(known[-1]["seconds"])

    points = []
    # From zero on: how long it took to the first model is part of the answer.
    places = [0.0]
    values = []
    marks = []
    before = None
    for point in known:
        place = point[key] / scale
        value = point["value"]
        places.append(place)
        values.append(value)
        points.append((place, value))
        if value != before:  # the trials alone that brought something
            marks.append(Mark(place, value, point["number"]))
        before = value

    x = Axis.over(title, places, whole=key == "count")
    y = Axis.over(what, values)
    line = Line("", points, "c0", steps=True)
    return lines(caption, x, y, [line], marks)


def _learning(drawn: Sequence[Line], name: str, caption: str) -> Any:
    places = [0.0]
    losses = []
    for line in drawn:
        for place, loss in line.points:
            places.append(place)
            losses.append(loss)
    x = Axis.over(name, places)
    # A plugin's loss may fall below zero, which has no logarithm.
    y = Axis.over("loss", losses, log=min(losses) > 0)
    return lines(caption, x, y, drawn)


def _rungs(report: Report, metric: Row, caption: str) -> Any:
    name = metric["name"]
    paths: dict[int, Points] = {}
    stopped = []
    for row in report["judged"]:
        if name not in row["values"]:
            continue
        step = row["step"]
        value = row["values"][name]
        paths.setdefault(row["number"], []).append((step, value))
        if not row["go_on"]:
            stopped.append(Mark(step, value, row["number"], "pruned"))

    # Who was not stopped goes on to the end, which no rung has judged.
    steps = report["study"]["budget"]["steps"]
    for row in report["trials"]:
        number = row["number"]
        values = row["values"]
        if row["state"] == "complete" and number in paths and name in values:
            paths[number].append((steps, values[name]))

    front = {row["number"] for row in report["front"]}
    places = []
    heights = []
    behind = []
    above = []
    for number, path in paths.items():
        for place, height in path:
            places.append(place)
            heights.append(height)
        if number in front:
            above.append(Line("", path, "edge", number=number))
        else:
            behind.append(Line("", path, "faint", number=number))
    x = Axis.over("training steps", places, log=True)
    y = Axis.over(_title(metric), heights, log=metric["log"])
    return lines(caption, x, y, [*behind, *above], stopped)


def _telling_parameters(report: Report, rows: Sequence[Row]) -> list[str]:
    """Return the parameters that differ between trials.

    Slots first, then what decides most or is used most.
    """
    used: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row["plan"].items():
            used.setdefault(name, []).append(value)
    telling = []
    for name, values in used.items():
        often = len(values) >= SELDOM * len(rows)
        different = set(map(str, values))
        if often and len(different) > 1:
            telling.append(name)

    weights: dict[str, float] = {}
    objectives = report["importance"].get("objectives", {})
    for shares in objectives.values():
        for name, share in shares.items():
            # The choice among some of a slot's techniques is stored under its own name, slot[a|b].
            plain, _, _ = name.partition("[")
            weights[plain] = weights.get(plain, 0.0) + share

    def order(name: str) -> tuple[bool, float, int]:
        weight = weights.get(name, 0.0)
        return "." in name, -weight, -len(used[name])

    telling.sort(key=order)
    return telling[:MOST_UPRIGHTS]


def _kind(row: Row) -> str:
    if row["front"]:
        return "front"
    if not row["feasible"]:
        return "broken"
    return str(row["state"])


def _title(metric: Row) -> str:
    if metric["unit"]:
        return f"{metric['name']} ({metric['unit']})"
    return str(metric["name"])


def _better(metric: Row) -> str:
    if metric["direction"] == "maximize":
        return f"more {metric['name']} is better"
    return f"less {metric['name']} is better"
