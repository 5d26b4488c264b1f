"""What commands print: results on standard output, everything said to the person on standard error.

Techniques and libraries print, too. `claim_results` keeps standard output for results alone:
whatever others write there, native code included, is seen on standard error.

What is printed here passes through `terminal`: no name from a store or a file is obeyed, no
password is shown.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from automl_sr.presentation.numbers import number, plain
from automl_sr.presentation.terminal import hidden, secrets_of, visible, visible_json

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 240
"""Columns of a table that goes into a pipe or a file, where nothing has to be cut."""


_OUT, _ERR = 1, 2


class _Results:
    """The stream for results: standard output, or what is left of it for us alone once it is
    claimed.
    """

    def __init__(self) -> None:
        self._claimed: TextIO | None = None
        self._former: TextIO | None = None
        self._kept: int | None = None

    @property
    def stream(self) -> TextIO:
        if self._claimed is None:
            return sys.stdout
        return self._claimed

    def claim(self) -> None:
        if self._claimed is not None or sys.stdout is None:
            return
        self._former = self._claimed = sys.stdout
        if _descriptor(sys.stdout) != _OUT:  # a stream in memory: there is nothing to redirect
            sys.stdout = sys.stderr
            return

        # Native code writes to descriptor 1, whatever sys.stdout is: what it means is changed, and
        # the real one kept under a number that only we know.
        sys.stdout.flush()
        self._kept = os.dup(_OUT)
        elsewhere = _ERR
        if sys.stderr is None:
            # Where standard error is closed, that number may mean any file by now.
            elsewhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(elsewhere, _OUT)
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        private = os.fdopen(os.dup(self._kept), "wb")
        self._claimed = io.TextIOWrapper(private, encoding, errors)
        # A stream of its own, so that who closes it does not close standard error.
        sys.stdout = os.fdopen(
            _OUT,
            "w",
            1,
            encoding,
            "backslashreplace",
            closefd=False,
        )

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
    """Keep standard output for what is printed here.

    What others write to it goes to standard error.
    """
    _results.claim()


def release_results() -> None:
    """Restore standard output."""
    _results.release()


def flush_results() -> None:
    """Write out what was printed. Raises BrokenPipeError where its reader has gone."""
    _results.stream.flush()


def discard_results() -> None:
    """Let what was printed go nowhere, as its reader has gone."""
    # Python flushes the stream when it ends, and would complain of the broken pipe once more.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _results.stream.fileno())


class _Secrets:
    """What was found in this process's command line and environment, and must not be shown."""

    known: frozenset[str] = frozenset()


def keep_secret(arguments: Iterable[str]) -> None:
    """Show no password of these arguments, nor of the environment, from now on."""
    _Secrets.known = secrets_of(arguments, os.environ)


def print_json(value: Any) -> None:
    """Print one JSON document, alone, on standard output."""
    encoding = _results.stream.encoding or "utf-8"
    whole = encoding.lower().replace("-", "") == "utf8"
    shown = _without_passwords(plain(value))
    text = json.dumps(shown, indent=2, ensure_ascii=not whole, allow_nan=False)
    _print(visible_json(text))


def print_text(text: str) -> None:
    """Print a result that is text, of one line or of several, on standard output."""
    _print(visible(hidden(text), lines=True).removesuffix("\n"))


def print_lines(*lines: str) -> None:
    """Print results of one line each, whatever the names in them hold, on standard output."""
    _print("\n".join(visible(hidden(line)) for line in lines))


def _descriptor(stream: TextIO | None) -> int | None:
    """Return the number of a stream's file, where it is one."""
    if stream is None:
        return None
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def note(text: str) -> None:
    """Tell the person one line on standard error; where nobody reads it any more, work goes on."""
    _tell(safe_line(text))


def safe_line(text: str) -> str:
    """Return the line as `note` writes it, for what draws on a terminal itself."""
    return visible(_safe(text).strip("\n"))


def note_lines(text: str) -> None:
    """Tell the person several lines on standard error."""
    _tell(visible(_safe(text), lines=True).removesuffix("\n"))


def warn(text: str) -> None:
    """Warn the person on standard error."""
    note(f"warning: {text}")


def console(*, stderr: bool = True) -> Console:
    """Return a rich console, on standard error by default."""
    stream = _results.stream
    if stderr:
        stream = sys.stderr
    width = None
    # Pipes and files get whole lines: rich would cut them to 80 columns there.
    if not stream.isatty() and "COLUMNS" not in os.environ:
        width = WIDE
    made: Console = _console_class()(
        file=stream,
        width=width,
        highlight=False,
        soft_wrap=False,
        markup=False,
    )
    return made


@functools.cache
def _console_class() -> Any:
    # Made at first use: rich takes time to import, which `--help` need not wait for.
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        """A console whose text is such as may reach a terminal; what it draws with is its own."""

        def render(
            self,
            renderable: RenderableType,
            options: ConsoleOptions | None = None,
        ) -> Iterable[Segment]:
            """Render, and write out what cannot be seen."""
            for segment in super().render(renderable, options):
                if segment.control:
                    yield segment
                else:
                    yield Segment(visible(segment.text, lines=True), segment.style)

    return SafeConsole


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    right: Iterable[str] = (),
) -> None:
    """Print rows on standard output; the columns named in `right` are set flush right.

    None is shown as a dash.
    """
    from rich.table import Table
    from rich.text import Text

    # As Text, not str: rich reads str as its own markup, and names may hold brackets.
    shown = None
    if title is not None:
        shown = Text(_cell(title))
    table = Table(
        title=shown,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    flush_right = set(right)
    for column in columns:
        justify: Literal["left", "right"] = "left"
        if column in flush_right:
            justify = "right"
        table.add_column(Text(_cell(column)), justify=justify, overflow="fold")
    for row in rows:
        cells = [Text(_cell(cell)) for cell in row]
        table.add_row(*cells)
    console(stderr=False).print(table)


def _cell(value: Any) -> str:
    return visible(hidden(number(value)))


def _safe(text: str) -> str:
    return hidden(text, _Secrets.known)


def _without_passwords(value: Any) -> Any:
    """Hide passwords in the texts of JSON, not in its keys."""
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, list):
        return [_without_passwords(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_passwords(item) for key, item in value.items()}
    return value


def _print(text: str) -> None:
    _results.stream.write(text + "\n")
    _results.stream.flush()


def _tell(text: str) -> None:
    # A closed terminal must not end a search that nobody watches any more.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
