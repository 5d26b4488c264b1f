"""Charts as plain SVG: no library, colours from the page's style, and the trial of each mark in
`data-t`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from automl_sr.presentation.axes import Axis, Upright, short
from automl_sr.presentation.markup import Markup, el, join
from automl_sr.presentation.plan_words import short_name

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 10, 46
NOBODY = -1
"""The number of a mark that stands for no trial."""


@dataclass(frozen=True)
class Mark:
    """A point of a chart that belongs to a trial."""

    x: float
    y: float
    number: int
    kind: str = "complete"
    """complete, pruned, front or broken: also how it is drawn."""


@dataclass(frozen=True)
class Line:
    """A line through points; `steps` keeps the height until the next point."""

    title: str
    points: Sequence[tuple[float, float]]
    kind: str = "c0"
    steps: bool = False
    number: int | None = None


def scatter(
    title: str,
    x: Axis,
    y: Axis,
    marks: Sequence[Mark],
    *,
    lines: Sequence[Line] = (),
    reference: tuple[float | None, float | None] = (None, None),
) -> Markup:
    """Draw points, the front on top of the others, and where the reference without a model lies."""
    order = {"broken": 0, "pruned": 1, "complete": 2, "front": 3}
    inside: list[Markup] = []
    for line in lines:
        inside.append(_path(line, x, y))
    legend: list[tuple[str, str]] = []
    known = []
    for axis, value in zip((x, y), reference, strict=True):
        if value is not None:
            known.append((axis, value))
    if known and all(axis.low <= value <= axis.high for axis, value in known):
        inside.append(_reference(x, y, *reference))
        legend.append(("reference", "without a model"))
    elif known:
        far = ", ".join(f"{axis.title} {short(value)}" for axis, value in known)
        legend.append(("reference", f"far off, without a model: {far}"))
    inside += [
        _mark(mark, _x(x, mark.x), _y(y, mark.y))
        for mark in sorted(marks, key=lambda mark: order[mark.kind])
    ]
    names = {
        "front": "front",
        "complete": "complete",
        "pruned": "stopped early",
        "broken": "breaks a limit",
    }
    there = {mark.kind for mark in marks}
    return _frame(
        title,
        x,
        y,
        inside,
        [(kind, name) for kind, name in names.items() if kind in there] + legend,
    )


def lines(
    title: str, x: Axis, y: Axis, drawn: Sequence[Line], marks: Sequence[Mark] = ()
) -> Markup:
    """Draw lines, with marks on top."""
    inside = [_path(line, x, y) for line in drawn]
    inside += [_mark(mark, _x(x, mark.x), _y(y, mark.y)) for mark in marks]
    legend = []
    for line in drawn:
        if line.title:
            legend.append((f"line {line.kind}", line.title))
    if any(mark.kind == "pruned" for mark in marks):
        legend.append(("pruned", "stopped here"))
    return _frame(title, x, y, inside, legend)


def bars(title: str, values: Sequence[tuple[str, float]]) -> Markup:
    """Draw shares as bars with their names above them, so that long names have room."""
    high = max((value for _, value in values), default=1.0) or 1.0
    height = 30 * len(values) + 8
    inside = []
    for index, (name, value) in enumerate(values):
        top = 30 * index + 4
        inside.append(el("text", name, x=0, y=top + 11, class_="name"))
        inside.append(el("text", f"{100 * value:.0f} %", x=WIDTH, y=top + 11, text_anchor="end"))
        inside.append(el("rect", x=0, y=top + 16, width=WIDTH, height=8, class_="rail"))
        inside.append(
            el(
                "rect",
                x=0,
                y=top + 16,
                width=round(WIDTH * value / high, 1),
                height=8,
                class_="bar",
            )
        )
    return _svg(title, WIDTH, height, inside)


def parallel(
    title: str, uprights: Sequence[Upright], numbers: Sequence[int], kinds: Sequence[str]
) -> Markup:
    """Draw one line for each trial across upright axes; what a plan does not use runs below
    them.
    """
    gap, height, top, bottom = 118, 330, 44, 52
    width = gap * len(uprights)
    inside: list[Markup] = []
    heights = []
    for index, upright in enumerate(uprights):
        x = gap // 2 + gap * index
        scale, ticks = upright.scale()
        unused = any(value is None for value in upright.values)
        heights.append([1.0 if value is None else scale(value) for value in upright.values])
        labels = []
        for value, label in ticks:
            labels.append((label, _down(scale(value), height, top, bottom)))
        inside += [
            el("line", x1=x, x2=x, y1=top, y2=height - bottom, class_="axis"),
            el(
                "text",
                short_name(upright.title),
                x=x,
                y=14 + 14 * (index % 2),
                text_anchor="middle",
                class_="name",
            ),
            *[el("text", label, x=x + 5, y=y + 4, class_="tick over") for label, y in labels],
            el("text", "not used", x=x, y=height - 10, text_anchor="middle", class_="tick")
            if unused
            else Markup(),
        ]
    paths = []
    for row, (number, kind) in enumerate(zip(numbers, kinds, strict=True)):
        xs = [gap // 2 + gap * index for index in range(len(uprights))]
        points = [
            (
                x,
                height - 26.0
                if upright.values[row] is None
                else _down(place[row], height, top, bottom),
            )
            for x, place, upright in zip(xs, heights, uprights, strict=True)
        ]
        paths.append(
            (
                kind,
                el("polyline", points=_points(points), class_=f"coordinate {kind}", data_t=number),
            )
        )
    behind = [path for kind, path in paths if kind != "front"]
    front = [path for kind, path in paths if kind == "front"]
    return _svg(title, width, height, [*behind, *front, *inside], fixed=True)


def _down(place: float, height: int, top: int, bottom: int) -> float:
    return round(height - bottom - place * (height - top - bottom), 1)


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.at(value) * (HEIGHT - TOP - BOTTOM), 1)


def _frame(
    title: str, x: Axis, y: Axis, inside: Sequence[Markup], legend: Sequence[tuple[str, str]]
) -> Markup:
    floor = HEIGHT - BOTTOM
    parts: list[Markup] = []
    for tick in x.ticks():
        at = _x(x, tick)
        parts.append(el("line", x1=at, x2=at, y1=TOP, y2=floor, class_="grid"))
        parts.append(
            el("text", short(tick), x=at, y=floor + 15, text_anchor="middle", class_="tick")
        )
    for tick in y.ticks():
        at = _y(y, tick)
        parts.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(
            el("text", short(tick), x=LEFT - 6, y=at + 4, text_anchor="end", class_="tick")
        )
    middle = (TOP + floor) / 2
    parts += [
        el(
            "text",
            x.title,
            x=(LEFT + WIDTH - RIGHT) / 2,
            y=HEIGHT - 8,
            text_anchor="middle",
            class_="name",
        ),
        el(
            "text",
            y.title,
            x=12,
            y=middle,
            text_anchor="middle",
            class_="name",
            transform=f"rotate(-90 12 {middle})",
        ),
    ]
    return join([_legend(legend), _svg(title, WIDTH, HEIGHT, [*parts, *inside])])


def _legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Say what is drawn how, above the drawing, where text flows as the screen lets it."""
    items = []
    for kind, name in entries:
        if kind == "reference" or kind.startswith("line"):
            swatch = el("line", x1=1, x2=17, y1=6, y2=6, class_=kind)
        else:
            swatch = _mark(Mark(0, 0, NOBODY, kind), 9, 6)
        items.append(el("li", el("svg", swatch, viewBox="0 0 18 12", aria_hidden="true"), name))
    if items:
        return el("ul", items, class_="legend")
    return Markup()


def _mark(mark: Mark, x: float, y: float) -> Markup:
    """Draw a mark whose form also tells what its colour does."""
    number = None
    if mark.number != NOBODY:
        number = mark.number
    if mark.kind == "pruned":
        return el("path", d=f"M{x - 4:g} {y - 3:g}h8l-4 7z", class_="mark pruned", data_t=number)
    if mark.kind == "broken":
        return el(
            "path", d=f"M{x - 3:g} {y - 3:g}l6 6m0-6l-6 6", class_="mark broken", data_t=number
        )
    return el(
        "circle",
        cx=x,
        cy=y,
        r=5 if mark.kind == "front" else 4,
        class_=f"mark {mark.kind}",
        data_t=number,
    )


def _reference(x: Axis, y: Axis, at_x: float | None, at_y: float | None) -> Markup:
    """Draw a diamond where both values are known, else a line across the chart."""
    if at_x is not None and at_y is not None:
        left, top = _x(x, at_x), _y(y, at_y)
        return el("path", d=f"M{left:g} {top - 6:g}l6 6l-6 6l-6-6z", class_="reference")
    if at_y is not None:
        return el(
            "line", x1=LEFT, x2=WIDTH - RIGHT, y1=_y(y, at_y), y2=_y(y, at_y), class_="reference"
        )
    at = _x(x, at_x or 0.0)
    return el("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="reference")


def _path(line: Line, x: Axis, y: Axis) -> Markup:
    points = []
    for value, height in line.points:
        points.append((_x(x, value), _y(y, height)))
    if line.steps:
        corners = []
        for before, after in itertools.pairwise(points):
            corners.append((after[0], before[1]))
        points = [point for pair in zip(points, corners, strict=False) for point in pair] + points[
            -1:
        ]
    return el("polyline", points=_points(points), class_=f"line {line.kind}", data_t=line.number)


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _svg(
    title: str, width: int, height: int, inside: Sequence[Markup], *, fixed: bool = False
) -> Markup:
    """Wrap a drawing: it is one image to a screen reader, with its title as its text."""
    return el(
        "svg",
        *inside,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=title,
        class_="fixed" if fixed else None,
        width=width if fixed else None,
        height=height if fixed else None,
    )
