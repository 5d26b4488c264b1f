"""Charts as plain SVG: no library, and the colours are those of the page's style.

Each mark holds the number of its trial in `data-t`, by which the page's script finds its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from automl_sr.presentation.axes import Axis, Upright, short
from automl_sr.presentation.markup import Markup, el, join
from automl_sr.presentation.plan_words import short_name

# All lengths are units of the drawing, which the page scales to the width that there is.
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 10, 46
NOBODY = -1
"""The number of a mark that stands for no trial."""
LEGEND = {
    "front": "front",
    "complete": "complete",
    "pruned": "stopped early",
    "broken": "breaks a limit",
}
"""Kinds of marks in the order of the legend."""
BACK_TO_FRONT = ("broken", "pruned", "complete", "front")
"""Kinds of marks in the order in which they are drawn: SVG paints over what was there before."""
GAP, TALL, ABOVE, BELOW = 118, 330, 44, 52
"""Parallel axes: how far they are apart, and where they stand in how high a drawing."""


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
    inside = [_path(line, x, y) for line in lines]
    beside = []
    known = []
    for axis, value in zip((x, y), reference, strict=True):
        if value is not None:
            known.append((axis, value))
    if known:
        if _shown(known):
            inside.append(_reference(x, y, *reference))
            beside.append(("reference", "without a model"))
        else:
            far = ", ".join(f"{axis.title} {short(value)}" for axis, value in known)
            beside.append(("reference", f"far off, without a model: {far}"))

    for mark in sorted(marks, key=_depth):
        inside.append(_mark(mark, _x(x, mark.x), _y(y, mark.y)))

    there = {mark.kind for mark in marks}
    legend = [entry for entry in LEGEND.items() if entry[0] in there]
    return _frame(title, x, y, inside, [*legend, *beside])


def _shown(known: Sequence[tuple[Axis, float]]) -> bool:
    """Return whether each value lies within its axis."""
    return all(axis.low <= value <= axis.high for axis, value in known)


def _depth(mark: Mark) -> int:
    return BACK_TO_FRONT.index(mark.kind)


def lines(
    title: str,
    x: Axis,
    y: Axis,
    drawn: Sequence[Line],
    marks: Sequence[Mark] = (),
) -> Markup:
    """Draw lines, with marks on top."""
    inside = []
    legend = []
    stopped = False
    for line in drawn:
        inside.append(_path(line, x, y))
        if line.title:
            legend.append((f"line {line.kind}", line.title))
    for mark in marks:
        inside.append(_mark(mark, _x(x, mark.x), _y(y, mark.y)))
        stopped = stopped or mark.kind == "pruned"
    if stopped:
        legend.append(("pruned", "stopped here"))
    return _frame(title, x, y, inside, legend)


def bars(title: str, values: Sequence[tuple[str, float]]) -> Markup:
    """Draw shares as bars with their names above them, so that long names have room."""
    # The largest share fills the width. All may be 0: nothing is divided by that.
    high = max((value for _, value in values), default=1.0) or 1.0
    inside = []
    for index, (name, value) in enumerate(values):
        top = 30 * index + 4
        baseline = top + 11
        percent = f"{100 * value:.0f} %"
        length = round(WIDTH * value / high, 1)
        inside += [
            el("text", name, x=0, y=baseline, class_="name"),
            el("text", percent, x=WIDTH, y=baseline, text_anchor="end"),
            el("rect", x=0, y=top + 16, width=WIDTH, height=8, class_="rail"),
            el("rect", x=0, y=top + 16, width=length, height=8, class_="bar"),
        ]
    height = 30 * len(values) + 8
    return _svg(title, WIDTH, height, inside)


def parallel(
    title: str,
    uprights: Sequence[Upright],
    numbers: Sequence[int],
    kinds: Sequence[str],
) -> Markup:
    """Draw one line for each trial across upright axes.

    What a plan does not use runs below them.
    """
    axes: list[Markup] = []
    corners: list[list[tuple[float, float]]] = [[] for _ in numbers]
    for index, upright in enumerate(uprights):
        x = _upright_x(index)
        scale, ticks = upright.scale()
        axes += _upright(index, upright, scale, ticks)
        for row, value in enumerate(upright.values):
            y = TALL - 26.0
            if value is not None:
                y = _down(scale(value))
            corners[row].append((x, y))

    behind = []
    front = []
    for number, kind, points in zip(numbers, kinds, corners, strict=True):
        path = el(
            "polyline",
            points=_points(points),
            class_=f"coordinate {kind}",
            data_t=number,
        )
        if kind == "front":
            front.append(path)
        else:
            behind.append(path)
    # The axes come last: their words must be read in front of hundreds of lines.
    inside = [*behind, *front, *axes]
    return _svg(title, GAP * len(uprights), TALL, inside, fixed=True)


def _upright(
    index: int,
    upright: Upright,
    scale: Callable[[Any], float],
    ticks: Sequence[tuple[Any, str]],
) -> list[Markup]:
    """Draw one of the parallel axes with its name and what stands on it."""
    x = _upright_x(index)
    # Every other name stands lower: they are wider than the gap.
    name = el(
        "text",
        short_name(upright.title),
        x=x,
        y=14 + 14 * (index % 2),
        text_anchor="middle",
        class_="name",
    )
    parts = [
        el("line", x1=x, x2=x, y1=ABOVE, y2=TALL - BELOW, class_="axis"),
        name,
    ]
    for value, label in ticks:
        y = _down(scale(value)) + 4
        parts.append(el("text", label, x=x + 5, y=y, class_="tick over"))
    if None in upright.values:
        unused = el(
            "text",
            "not used",
            x=x,
            y=TALL - 10,
            text_anchor="middle",
            class_="tick",
        )
        parts.append(unused)
    return parts


def _upright_x(index: int) -> int:
    return GAP // 2 + GAP * index


def _down(place: float) -> float:
    length = TALL - ABOVE - BELOW
    return round(TALL - BELOW - place * length, 1)


def _x(axis: Axis, value: float) -> float:
    # A tenth of a unit cannot be seen, and pages with thousands of marks stay small.
    width = WIDTH - LEFT - RIGHT
    return round(LEFT + axis.at(value) * width, 1)


def _y(axis: Axis, value: float) -> float:
    # From the bottom: in SVG y grows downwards.
    height = HEIGHT - TOP - BOTTOM
    return round(HEIGHT - BOTTOM - axis.at(value) * height, 1)


def _frame(
    title: str,
    x: Axis,
    y: Axis,
    inside: Sequence[Markup],
    legend: Sequence[tuple[str, str]],
) -> Markup:
    """Put a grid with named axes behind what is drawn, and its legend above."""
    floor = HEIGHT - BOTTOM
    edge = WIDTH - RIGHT
    parts: list[Markup] = []
    for tick in x.ticks():
        at = _x(x, tick)
        text = short(tick)
        parts += [
            el("line", x1=at, x2=at, y1=TOP, y2=floor, class_="grid"),
            el("text", text, x=at, y=floor + 15, text_anchor="middle", class_="tick"),
        ]
    for tick in y.ticks():
        at = _y(y, tick)
        text = short(tick)
        parts += [
            el("line", x1=LEFT, x2=edge, y1=at, y2=at, class_="grid"),
            el("text", text, x=LEFT - 6, y=at + 4, text_anchor="end", class_="tick"),
        ]

    center = (LEFT + edge) / 2
    middle = (TOP + floor) / 2
    turned = f"rotate(-90 12 {middle})"
    parts += [
        el(
            "text",
            x.title,
            x=center,
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
            transform=turned,
        ),
    ]
    drawing = _svg(title, WIDTH, HEIGHT, [*parts, *inside])
    return join([_legend(legend), drawing])


def _legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Say what is drawn how, above the drawing, where text flows as the screen lets it."""
    if not entries:
        return Markup()
    items = []
    for kind, name in entries:
        if kind == "reference" or kind.startswith("line"):
            swatch = el("line", x1=1, x2=17, y1=6, y2=6, class_=kind)
        else:
            swatch = _mark(Mark(0, 0, NOBODY, kind), 9, 6)
        # The name says it: a screen reader need not stop at the swatch.
        icon = el("svg", swatch, viewBox="0 0 18 12", aria_hidden="true")
        items.append(el("li", icon, name))
    return el("ul", items, class_="legend")


def _mark(mark: Mark, x: float, y: float) -> Markup:
    """Draw a mark whose form also tells what its colour does."""
    number = None
    if mark.number != NOBODY:
        number = mark.number
    if mark.kind == "pruned":
        triangle = f"M{x - 4:g} {y - 3:g}h8l-4 7z"
        return el("path", d=triangle, class_="mark pruned", data_t=number)
    if mark.kind == "broken":
        cross = f"M{x - 3:g} {y - 3:g}l6 6m0-6l-6 6"
        return el("path", d=cross, class_="mark broken", data_t=number)
    radius = 4
    if mark.kind == "front":
        radius = 5
    return el(
        "circle",
        cx=x,
        cy=y,
        r=radius,
        class_=f"mark {mark.kind}",
        data_t=number,
    )


def _reference(x: Axis, y: Axis, at_x: float | None, at_y: float | None) -> Markup:
    """Draw a diamond where both values are known, else a line across the chart."""
    if at_x is not None and at_y is not None:
        left = _x(x, at_x)
        top = _y(y, at_y) - 6
        return el("path", d=f"M{left:g} {top:g}l6 6l-6 6l-6-6z", class_="reference")
    if at_y is not None:
        at = _y(y, at_y)
        return el(
            "line",
            x1=LEFT,
            x2=WIDTH - RIGHT,
            y1=at,
            y2=at,
            class_="reference",
        )
    at = _x(x, at_x or 0.0)
    return el("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="reference")


def _path(line: Line, x: Axis, y: Axis) -> Markup:
    points: list[tuple[float, float]] = []
    for value, height in line.points:
        place = (_x(x, value), _y(y, height))
        if line.steps and points:
            # The corner at which the height of the point before ends.
            points.append((place[0], points[-1][1]))
        points.append(place)
    return el(
        "polyline",
        points=_points(points),
        class_=f"line {line.kind}",
        data_t=line.number,
    )


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _svg(
    title: str,
    width: int,
    height: int,
    inside: Sequence[Markup],
    *,
    fixed: bool = False,
) -> Markup:
    """Wrap a drawing: it is one image to a screen reader, with its title as its text."""
    size: dict[str, Any] = {}
    if fixed:  # one that is too wide to be scaled down, and scrolls instead
        size = {"class_": "fixed", "width": width, "height": height}
    return el(
        "svg",
        *inside,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=title,
        **size,
    )
