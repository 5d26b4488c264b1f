"""The report as one HTML page that needs nothing else: no network, no library, its own style and
script.
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


def study_page(reader: Reader, name: str, registry: Registry, *, images: int) -> str:
    """Return the page of a study, with so many validation images.

    Raises StoreError for an unknown study.
    """
    return page(collect(reader, name, registry, images=images))


def page(report: Mapping[str, Any]) -> str:
    """Write the page. Everything that comes from the store is text and nothing else."""
    study = report["study"]
    parts = sections(report)
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_policy()),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{study['name']}: report"),
        el("style", Markup(STYLE)),
    )
    body = el(
        "body",
        el(
            "header",
            el("h1", study["name"]),
            el("p", f"Written {moment(report['made'])} by {report['made_by']}"),
        ),
        el(
            "nav",
            el("ul", [el("li", el("a", part.title, href=f"#{part.anchor}")) for part in parts]),
            aria_label="Sections",
        ),
        el("main", [_section(part) for part in parts]),
        el("div", id="tip", hidden=True),
        el("script", Markup(SCRIPT)),
    )
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def _policy() -> str:
    """Allow this style and this script alone, so that nothing is fetched and nothing else is
    run.
    """
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (STYLE, SCRIPT)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src"
        f" 'sha256-{script}'"
    )


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
            return el(
                "details",
                el("summary", block.title),
                el("pre", el("code", block.text), tabindex="0"),
            )
        case Table():
            return _table(block)
        case Chart():
            drawing = block.draw()
            if block.wide:
                inside = _scrolled(drawing, block.caption)
            else:
                inside = drawing
            return el(
                "figure",
                inside,
                el("figcaption", block.caption),
                class_="wide" if block.wide else None,
            )
        case Net():
            shown = _scrolled(block.drawing, block.title)
            return el("details", el("summary", block.title), el("figure", shown))
        case Pictures():
            pieces = []
            for p in block.pictures:
                pieces.append(
                    el(
                        "figure",
                        el("img", src=p.uri, alt=p.alt),
                        el("figcaption", p.title, el("br"), p.note),
                    )
                )
            return el("div", el("h3", block.caption), el("div", pieces, class_="pictures"))


def _table(table: Table) -> Markup:
    head = el(
        "tr",
        [el("th", column, scope="col", class_=_side(column, table)) for column in table.columns],
    )
    rows = []
    for index, row in enumerate(table.rows):
        first, *others = [
            el(
                "th" if place == 0 else "td",
                _cell(cell),
                class_=_side(column, table, cell),
                scope="row" if place == 0 else None,
            )
            for place, (column, cell) in enumerate(zip(table.columns, row, strict=True))
        ]
        mark = None
        if index < len(table.trials):
            mark = table.trials[index]
        rows.append(
            el(
                "tr",
                first,
                others,
                data_t=mark,
                data_tip=_tip(table, row) if table.explains else None,
            )
        )
    whole = el("table", el("caption", table.caption), el("thead", head), el("tbody", rows))
    shown = _scrolled(whole, table.caption)
    if table.folded:
        return el("details", el("summary", table.caption), shown)
    return shown


def _tip(table: Table, row: Sequence[Any]) -> str:
    """Say in short what a mark in a chart stands for."""
    cells = []
    for column, cell in zip(table.columns, row, strict=True):
        if cell not in (None, ""):
            cells.append((column, number(cell)))
    return "\n".join(
        text if column in ("trial", "plan") else f"{column}: {text}" for column, text in cells
    )


def _scrolled(inside: Markup, name: str) -> Markup:
    """Let what is too wide for a small screen scroll by itself, also by keyboard."""
    return el("div", inside, class_="scroll", tabindex="0", role="region", aria_label=name)


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
