"""The report as one HTML page that needs nothing else.

No network and no library: style and script are its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.markup import Markup, el
from automl_sr.presentation.numbers import number
from automl_sr.report.collect import collect
from automl_sr.report.document import Block, Chart, Code, Mono, Net, Pictures, Section, Table, Text
from automl_sr.report.look import SCRIPT, STYLE
from automl_sr.report.sections import moment, sections

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.reading import Reader


def study_page(
    reader: Reader,
    name: str,
    registry: Registry,
    *,
    images: int,
) -> str:
    """Return the page of a study, with so many validation images.

    Raises StoreError for an unknown study.
    """
    return page(collect(reader, name, registry, images=images))


def page(report: Mapping[str, Any]) -> str:
    """Return the page. Everything that comes from the store is text and nothing else."""
    study = report["study"]
    parts = sections(report)
    head = el(
        "head",
        el("meta", charset="utf-8"),
        # Before everything that it allows: what stands above a policy is not bound by it.
        el("meta", http_equiv="Content-Security-Policy", content=_policy()),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{study['name']}: report"),
        el("style", Markup(STYLE)),
    )
    header = el(
        "header",
        el("h1", study["name"]),
        el("p", f"Written {moment(report['made'])} by {report['made_by']}"),
    )
    links = []
    for part in parts:
        link = el("a", part.title, href=f"#{part.anchor}")
        links.append(el("li", link))
    body = el(
        "body",
        header,
        el("nav", el("ul", links), aria_label="Sections"),
        el("main", list(map(_section, parts))),
        el("div", id="tip", hidden=True),
        # Last, when the rows that it reads are there.
        el("script", Markup(SCRIPT)),
    )
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def _policy() -> str:
    """Allow this style and this script alone.

    So nothing is fetched, and nothing that a store may hold is run.
    """
    return (
        f"default-src 'none'; img-src data:; style-src {_source(STYLE)};"
        f" script-src {_source(SCRIPT)}"
    )


def _source(text: str) -> str:
    """Return how a policy names a text: by its hash."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _section(section: Section) -> Markup:
    """Put charts that follow each other side by side, everything else one below the other."""
    content: list[Markup] = []
    row: list[Markup] = []
    for block in section.blocks:
        if isinstance(block, Chart) and not block.wide:
            row.append(_block(block))
            continue
        content += _row(row)
        row = []
        content.append(_block(block))
    content += _row(row)
    return el("section", el("h2", section.title), content, id=section.anchor)


def _row(charts: Sequence[Markup]) -> list[Markup]:
    if charts:
        return [el("div", list(charts), class_="charts")]
    return []


def _block(block: Block) -> Markup:
    match block:
        case Text():
            return el("p", block.text)
        case Code():
            return _code(block)
        case Table():
            return _table(block)
        case Chart():
            return _chart(block)
        case Net():
            return _net(block)
        case Pictures():
            return _pictures(block)


def _code(block: Code) -> Markup:
    # Reached by the tab key: a keyboard cannot scroll it otherwise.
    text = el("pre", el("code", block.text), tabindex="0")
    return el("details", el("summary", block.title), text)


def _chart(block: Chart) -> Markup:
    drawing = block.draw()
    caption = el("figcaption", block.caption)
    if block.wide:
        return el(
            "figure",
            _scrolled(drawing, block.caption),
            caption,
            class_="wide",
        )
    return el("figure", drawing, caption)


def _net(block: Net) -> Markup:
    shown = _scrolled(block.drawing, block.title)
    return el("details", el("summary", block.title), el("figure", shown))


def _pictures(block: Pictures) -> Markup:
    pieces = []
    for picture in block.pictures:
        piece = el(
            "figure",
            el("img", src=picture.uri, alt=picture.alt),
            el("figcaption", picture.title, el("br"), picture.note),
        )
        pieces.append(piece)
    return el("div", el("h3", block.caption), el("div", pieces, class_="pictures"))


def _table(table: Table) -> Markup:
    heads = []
    for column in table.columns:
        heads.append(el("th", column, scope="col", class_=_side(column, table)))
    rows = []
    for index, row in enumerate(table.rows):
        mark = None
        if index < len(table.trials):  # rows below them, such as the reference, are no trials
            mark = table.trials[index]
        tip = None
        if table.explains:
            tip = _tip(table, row)
        rows.append(el("tr", _cells(table, row), data_t=mark, data_tip=tip))
    head = el("thead", el("tr", heads))
    whole = el("table", el("caption", table.caption), head, el("tbody", rows))
    shown = _scrolled(whole, table.caption)
    if table.folded:
        return el("details", el("summary", table.caption), shown)
    return shown


def _cells(table: Table, row: Sequence[Any]) -> list[Markup]:
    """Return the cells of a row; the first one is its heading, by which screen readers name it."""
    cells: list[Markup] = []
    for column, cell in zip(table.columns, row, strict=True):
        side = _side(column, table, cell)
        if cells:
            cells.append(el("td", _cell(cell), class_=side))
        else:
            cells.append(el("th", _cell(cell), class_=side, scope="row"))
    return cells


def _tip(table: Table, row: Sequence[Any]) -> str:
    """Return in short what a mark in a chart stands for."""
    lines = []
    for column, cell in zip(table.columns, row, strict=True):
        if cell in (None, ""):
            continue
        text = number(cell)
        if column in ("trial", "plan"):  # which say what they are themselves
            lines.append(text)
        else:
            lines.append(f"{column}: {text}")
    return "\n".join(lines)


def _scrolled(inside: Markup, name: str) -> Markup:
    """Let what is too wide for a small screen scroll by itself, also by keyboard."""
    return el(
        "div",
        inside,
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=name,
    )


def _side(column: str, table: Table, cell: Any = None) -> str | None:
    """Set numbers flush right, and give long text room on small screens."""
    if column in table.right:
        return "right"
    if isinstance(cell, str) and len(cell) > 40:
        return "long"
    return None


def _cell(cell: Any) -> Markup | str:
    if isinstance(cell, Mono):
        return el("code", cell.text)
    return number(cell)
