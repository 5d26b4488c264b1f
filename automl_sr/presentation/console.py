"""What commands print: results on standard output, everything said to the person on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.numbers import number, plain

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 240
"""Columns of a table that goes into a pipe or a file, where nothing has to be cut."""


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
