"""What commands print: results on standard output, everything said to the person on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 240
"""Columns of a table that goes into a pipe or a file, where nothing has to be cut."""


def plain(value: Any) -> Any:
    """Make JSON of mappings, sequences, paths and numbers; NaN and infinity, which JSON lacks, become null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return plain(value.item()) if hasattr(value, "item") else str(value)  # a number of numpy or torch, or a path


def print_json(value: Any) -> None:
    """Print one JSON document, alone, on standard output."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_text(text: str) -> None:
    """Print a result that is text on standard output."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell the person something on standard error; where nobody reads it any more, work goes on."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def warn(text: str) -> None:
    """Warn the person on standard error."""
    note(f"warning: {text}")


def console(*, stderr: bool = True) -> Console:
    """Make a rich console, on standard error by default; pipes and files get plain, uncut lines."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    width = None if terminal or "COLUMNS" in os.environ else WIDE
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, right: Iterable[str] = ()
) -> None:
    """Print rows on standard output; the columns named in `right` are set flush right. None is shown as a dash."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    flush_right = set(right)
    for column in columns:
        table.add_column(column, justify="right" if column in flush_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(number(cell)) for cell in row))
    console(stderr=False).print(table)


def number(value: Any) -> str:
    """Write a cell: four significant digits for fractions, separators for large counts, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "-"
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)
