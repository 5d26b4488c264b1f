"""The report as Markdown: the same text and tables, without drawings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from automl_sr.presentation.numbers import number
from automl_sr.report.document import Block, Chart, Code, Mono, Net, Pictures, Table, Text
from automl_sr.report.sections import moment, sections

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#])")


def markdown(report: Mapping[str, Any]) -> str:
    """Write the report."""
    study = report["study"]
    parts = [
        f"# {escape(study['name'])}",
        f"Written {moment(report['made'])} by {report['made_by']}.",
    ]
    for section in sections(report):
        texts = []
        for block in section.blocks:
            if text := _block(block):
                texts.append(text)
        parts += [f"## {section.title}", *texts] if texts else []
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Write text so that Markdown takes it for nothing else, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Write text as code within a line: fenced by more backticks than it holds, its pipes kept from
    ending a cell.
    """
    flat = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (_longest_run(flat) + 1)
    room = ""
    if "`" in flat:
        room = " "
    return f"{fence}{room}{flat}{room}{fence}"


def _block(block: Block) -> str:
    match block:
        case Text():
            return escape(block.text)
        case Code():
            fence = "`" * max(3, _longest_run(block.text) + 1)
            return f"{escape(block.title)}:\n\n{fence}text\n{block.text.rstrip()}\n{fence}"
        case Table():
            return _table(block)
        case Pictures():
            cells = []
            for picture in block.pictures:
                if picture.note:
                    cells.append([picture.title, picture.note])
            return _table(Table(block.caption, ("image", "PSNR"), cells, ("PSNR",)))
        case Net():
            return f"{escape(block.title)}: {escape(block.words)}"
        case Chart():
            return ""


def _table(table: Table) -> str:
    rules = []
    for column in table.columns:
        if column in table.right:
            rules.append("---:")
        else:
            rules.append("---")
    rows = [
        [escape(column) for column in table.columns],
        rules,
        *[[_cell(cell) for cell in row] for row in table.rows],
    ]
    lines = []
    for row in rows:
        lines.append(f"| {' | '.join(row)} |")
    return f"{escape(table.caption)}:\n\n" + "\n".join(lines)


def _cell(cell: Any) -> str:
    if isinstance(cell, Mono):
        return code(cell.text)
    return escape(number(cell))


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
