"""What commands print: results on standard output, everything said to the person on standard error.

Techniques and libraries print, too. `claim_results` keeps standard output for results alone: whatever others write
there, native code included, is seen on standard error.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from automl_sr.presentation.numbers import number, plain

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 240
"""Columns of a table that goes into a pipe or a file, where nothing has to be cut."""


_OUT, _ERR = 1, 2


class _Results:
    """The stream for results: standard output, or what is left of it for us alone once it is claimed."""

    def __init__(self) -> None:
        self._claimed: TextIO | None = None
        self._former: TextIO | None = None
        self._kept: int | None = None

    @property
    def stream(self) -> TextIO:
        return sys.stdout if self._claimed is None else self._claimed

    def claim(self) -> None:
        if self._claimed is not None or sys.stdout is None:
            return
        self._former = self._claimed = sys.stdout
        if _descriptor(sys.stdout) == _OUT:
            sys.stdout.flush()
            self._kept = os.dup(_OUT)
            # Where standard error is closed, that number may mean any file by now.
            os.dup2(_ERR if sys.stderr is not None else os.open(os.devnull, os.O_WRONLY), _OUT)
            private = os.fdopen(os.dup(self._kept), "wb")
            self._claimed = io.TextIOWrapper(private, sys.stdout.encoding, sys.stdout.errors)
            # A stream of its own, so that who closes it does not close standard error.
            sys.stdout = os.fdopen(_OUT, "w", 1, sys.stdout.encoding, "backslashreplace", closefd=False)
        else:
            sys.stdout = sys.stderr

    def release(self) -> None:
        if self._claimed is None or self._former is None:
            return
        sys.stdout = self._former
        if self._kept is not None:
            with contextlib.suppress(OSError):  # whoever read it has gone
                self._claimed.close()
            os.dup2(self._kept, _OUT)
            os.close(self._kept)
        self._claimed = self._former = self._kept = None


_results = _Results()


def claim_results() -> None:
    """Keep standard output for what is printed here; what others write to it goes to standard error."""
    _results.claim()


def release_results() -> None:
    """Give standard output back."""
    _results.release()


def flush_results() -> None:
    """Write out what was printed. Raises BrokenPipeError where its reader has gone."""
    _results.stream.flush()


def discard_results() -> None:
    """Let what was printed go nowhere, as its reader has gone: Python must not try again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _results.stream.fileno())


def print_json(value: Any) -> None:
    """Print one JSON document, alone, on standard output."""
    print_text(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def print_text(text: str) -> None:
    """Print a result that is text on standard output."""
    stream = _results.stream
    stream.write(text if text.endswith("\n") else text + "\n")
    stream.flush()


def _descriptor(stream: TextIO | None) -> int | None:
    """Return the number of a stream's file, where it is one."""
    if stream is None:
        return None
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


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

    stream = sys.stderr if stderr else _results.stream
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
