"""The drawing of a net as SVG: no library, and everything that a file says is text in it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from automl_sr.compression.onnx_file import load_onnx
from automl_sr.errors import AutomlSRError, DataError, ExportError, first_line
from automl_sr.presentation.drawing.layout import (
    HEAD,
    LINE,
    Point,
    Shape,
    Sheet,
    Wire,
    arranged,
    text_width,
)
from automl_sr.presentation.drawing.parts import Part, weights_of
from automl_sr.presentation.drawing.reading import read_parts, told_parameters
from automl_sr.presentation.drawing.repeats import simplified
from automl_sr.presentation.drawing.style import ALONE, NET_STYLE
from automl_sr.presentation.drawing.words import (
    in_words,
    layers_words,
    lines,
    parameters_words,
    shortened,
)
from automl_sr.presentation.markup import Markup, el

if TYPE_CHECKING:
    from automl_sr.store.records import ArtifactRecord

MARGIN = 14.0
CORNER = 6.0
"""Radius of the corners of lines and boxes."""
HEADING = 24.0
"""Room for the words on top of a file."""


@dataclass(frozen=True)
class Drawing:
    """A net as it is drawn."""

    parts: tuple[Part, ...]
    sheet: Sheet
    """Where they stand."""
    caption: str
    """How large it is, in a few words."""
    words: str
    """What the drawing shows, for those who cannot see it."""

    def inline(self) -> Markup:
        """Return an element for a page that has NET_STYLE among its styles."""
        return _svg(self, 0.0, None)

    def file(self) -> str:
        """Return a file that needs nothing else."""
        drawn = _svg(self, HEADING, Markup(NET_STYLE + ALONE))
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{drawn}\n'


def stored_drawing(record: ArtifactRecord) -> Drawing:
    """Draw the net of a stored ONNX file, which is fetched for it and not kept.

    Raises StoreError where the file is gone or altered, and what `net_drawing` raises.
    """
    from automl_sr.store.artifacts import fetch

    with tempfile.TemporaryDirectory(prefix="automl-sr-") as folder:
        return net_drawing(fetch(record, Path(folder) / "model.onnx"), record.url)


def net_drawing(path: Path | str, called: str | None = None) -> Drawing:
    """Draw the net in an ONNX file, which errors name as it is called.

    Raises DataError for a file that is not ONNX, and for a net that cannot be drawn.
    """
    name = called or str(path)
    try:
        model = load_onnx(path, beside=False)
    except ExportError as error:
        raise DataError(f"{name} cannot be read as ONNX.", "Is the file damaged?") from error
    try:
        return _drawing(model)
    except AutomlSRError:
        raise
    except Exception as error:  # files that others have written may hold anything
        what = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"The net in {name} cannot be drawn ({what}).") from error


def _drawing(model: onnx.ModelProto) -> Drawing:
    found = read_parts(model)
    parts = simplified(found)
    layers = sum(part.layers for part in found)
    # Constants that were folded, such as tables of positions, look like weights in the file.
    parameters = told_parameters(model)
    if parameters is None:
        parameters = sum(weights_of(found).values())
    caption = f"{layers_words(layers)}, {parameters_words(parameters)}"
    return Drawing(tuple(parts), arranged(parts), caption, in_words(parts))


def _svg(drawing: Drawing, heading: float, style: Markup | None) -> Markup:
    sheet = drawing.sheet
    width = max(sheet.width, text_width(drawing.caption)) + 2 * MARGIN
    height = sheet.height + heading + 2 * MARGIN
    inside = [_drawn(shape) for shape in sheet.shapes]
    lines_below = [_wire(wire) for wire in sheet.wires]
    dots = [el("circle", cx=x, cy=y, r=2.4, class_="dot") for x, y in sheet.dots]
    caption = None
    if heading:
        caption = el("text", drawing.caption, x=width / 2, y=MARGIN + 12, class_="title")
    left = MARGIN + max(0.0, (width - 2 * MARGIN - sheet.width) / 2)
    return el(
        "svg",
        el("title", f"Drawing of the net: {drawing.caption}"),
        el("desc", drawing.words),
        el("style", style) if style is not None else None,
        caption,
        el(
            "g",
            *_frames_first(sheet, inside),
            *lines_below,
            *dots,
            transform=f"translate({_number(left)} {_number(MARGIN + heading)})",
        ),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        width=_number(width),
        height=_number(height),
        role="img",
        class_="net",
    )


def _frames_first(sheet: Sheet, drawn: Sequence[Markup]) -> list[Markup]:
    """Draw frames below what is inside of them: those inside come behind theirs already."""
    pairs = list(zip(sheet.shapes, drawn, strict=True))
    frames = [markup for shape, markup in pairs if shape.part.look == "frame"]
    others = [markup for shape, markup in pairs if shape.part.look != "frame"]
    return [*frames, *others]


def _drawn(shape: Shape) -> Markup:
    part = shape.part
    said = [el("title", shortened(part.name, 200))] if part.name else []
    return el(
        "g",
        *said,
        _outline(shape),
        *_texts(shape),
        class_=f"part {part.look} {part.kind}",
    )


def _outline(shape: Shape) -> Markup:
    if shape.part.look == "circle":
        radius = shape.width / 2
        return el(
            "circle",
            cx=_number(shape.x + radius),
            cy=_number(shape.y + radius),
            r=_number(radius),
            class_="shape",
        )
    round_ends = shape.part.look in ("pill", "port")
    return el(
        "rect",
        x=_number(shape.x),
        y=_number(shape.y),
        width=_number(shape.width),
        height=_number(shape.height),
        rx=_number(shape.height / 2 if round_ends else CORNER),
        class_="shape",
    )


def _texts(shape: Shape) -> list[Markup]:
    part = shape.part
    written = lines(part)
    center = shape.x + shape.width / 2
    if part.look == "frame":
        return _frame_texts(shape, written)
    if part.look == "circle":
        return [_text(written[0], center, shape.y + shape.height / 2 + 5, "sign")]
    top = shape.y + (shape.height - LINE * len(written)) / 2 + 12
    kinds = ["title" if part.look == "box" else "plain", "fact"]
    return [
        _text(line, center, top + LINE * place, kind)
        for place, (line, kind) in enumerate(zip(written, kinds, strict=False))
    ]


def _frame_texts(shape: Shape, written: Sequence[str]) -> list[Markup]:
    """Write the module left of the line that enters a frame, and how often it is there right."""
    y = shape.y + HEAD / 2 + 4
    middle = shape.x + shape.width - text_width(written[1]) - 8
    texts = [_text(written[1], middle, y, "times")]
    if written[0]:
        texts.append(_text(written[0], shape.x + 8, y, "name"))
    return texts


def _text(text: str, x: float, y: float, kind: str) -> Markup:
    return el("text", text, x=_number(x), y=_number(y), class_=kind)


def _wire(wire: Wire) -> Markup:
    parts = [el("path", d=_rounded(wire.points), class_="wire")]
    if wire.head:
        parts.append(el("path", d=_head(wire.points), class_="head"))
    return el("g", *parts, class_="skip" if wire.arc else "straight")


def _rounded(points: Sequence[Point]) -> str:
    """Write a line of upright and level pieces with round corners."""
    path = [f"M{_number(points[0][0])} {_number(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        start, end = _towards(corner, before), _towards(corner, after)
        path.append(f"L{_number(start[0])} {_number(start[1])}")
        path.append(
            f"Q{_number(corner[0])} {_number(corner[1])} {_number(end[0])} {_number(end[1])}"
        )
    path.append(f"L{_number(points[-1][0])} {_number(points[-1][1])}")
    return "".join(path)


def _towards(corner: Point, other: Point) -> Point:
    across, down = other[0] - corner[0], other[1] - corner[1]
    length = abs(across) + abs(down)
    step = min(CORNER, length / 2) / length if length else 0.0
    return corner[0] + across * step, corner[1] + down * step


def _head(points: Sequence[Point]) -> str:
    """Draw an arrow's head at the end of a line."""
    (x, y), (before, above) = points[-1], points[-2]
    if abs(x - before) > abs(y - above):
        back = -7 if x > before else 7
        return f"M{_number(x)} {_number(y)}l{back} -3.5v7z"
    back = -7 if y > above else 7
    return f"M{_number(x)} {_number(y)}l-3.5 {back}h7z"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
