"""The report as Markdown: the same text and tables, without drawings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from automl_sr.presentation.numbers import number
from automl_sr.report.document import Block, Chart, Code, Mono, Net, Pictures, Table, Text
from automl_sr.report.sections import moment, sections

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#])")


def markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    study = report["study"]
    parts = [
        f"# {escape(study['name'])}",
        f"Written {moment(report['made'])} by {report['made_by']}.",
    ]
    for section in sections(report):
        texts = []
        for block in section.blocks:
            text = _block(block)
            if text:
                texts.append(text)
        if texts:  # a section of drawings alone would be a heading without anything below it
            parts += [f"## {section.title}", *texts]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Return text, on one line, that Markdown takes for nothing else."""
    flat = " ".join(text.split())
    return _SPECIAL.sub(r"\\\1", flat)


def code(text: str) -> str:
    """Return text as code within a line."""
    # A pipe would end a cell of a table, even within code.
    flat = " ".join(text.split()).replace("|", "\\|")
    # More backticks than the text holds: they would end the code.
    fence = "`" * (_longest_run(flat) + 1)
    room = ""
    if "`" in flat:
        room = " "  # one at the edge would lengthen the fence
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
    heads = []
    rules = []
    for column in table.columns:
        heads.append(escape(column))
        if column in table.right:
            rules.append("---:")
        else:
            rules.append("---")
    lines = [_line(heads), _line(rules)]
    for row in table.rows:
        lines.append(_line(map(_cell, row)))
    return f"{escape(table.caption)}:\n\n" + "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Any) -> str:
    if isinstance(cell, Mono):
        return code(cell.text)
    return escape(number(cell))


def _longest_run(text: str) -> int:
    """Return how many backticks stand side by side at most."""
    return max(map(len, re.findall("`+", text)), default=0)
