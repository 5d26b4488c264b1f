"""Code of plugins runs in our process: what it raises is put into words here, and goes no further.

Not only exceptions: a technique may end the program (`sys.exit`, `os._exit`), raise what no
`except Exception` catches, or raise something whose text cannot be made.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, TypeVar

from automl_sr.errors import AutomlSRError
from automl_sr.plugin.process_state import REAL_EXIT

T = TypeVar("T")

LONGEST_TEXT = 20_000
"""So many characters of an exception's own text are looked at."""
LONGEST_LINE = 500
MOST_LINES = 200
"""Longer tracebacks lose what is in their middle."""


@dataclass(frozen=True)
class Mishap:
    """What foreign code raised, in words.

    The exception itself would keep its frames with all their tensors.
    """

    kind: type[BaseException]
    reason: str
    detail: str
    """The traceback."""


def contained(
    work: Callable[[], T],
    *,
    through: tuple[type[BaseException], ...] = (),
    words: Callable[[BaseException], str] | None = None,
) -> T | Mishap:
    """Return what the work gives, or a Mishap for whatever it raised.

    Only Ctrl-C and the kinds in `through` are raised again.
    """
    limit = sys.getrecursionlimit()
    with _without_exit():
        try:
            return work()
        except through:
            raise
        except BaseException as error:
            # Finding words takes some depth, and the work may have lowered the limit.
            sys.setrecursionlimit(limit)
            if may_be_ctrl_c(error):
                raise
            reason = (words or one_line)(error)
            return Mishap(type(error), reason, detail_of(error))


def one_line(error: BaseException) -> str:
    """Return kind and text of an exception in one line of at most 500 characters.

    It does so too where the exception has no text to give.
    """
    line = text_of(error)
    # Ours are sentences, to which a kind adds nothing.
    if not line or not isinstance(error, AutomlSRError):
        line = f"{_name(error)}: {line}".rstrip(": ")
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[: LONGEST_LINE - 3]}..."


def text_of(error: BaseException) -> str:
    """Return the text of an exception in one line, also where its own methods fail."""
    try:
        # Of str itself: what __str__ gives may be a subclass with methods of its own.
        text = str.__str__(str(error))
    except BaseException as second:  # noqa: BLE001 - its author wrote anything into __str__
        return f"(its text cannot be made: {_name(second)})"
    words = text[:LONGEST_TEXT].split()
    return " ".join(words)


def detail_of(error: BaseException) -> str:
    """Return the traceback of an exception, without the middle of what is too long to read."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as second:  # noqa: BLE001 - its author wrote anything into __str__
        return f"{one_line(error)}\n(its traceback cannot be made: {_name(second)})"
    lines: list[str] = []
    for line in text.splitlines():
        if len(line) <= LONGEST_LINE:
            lines.append(line)
        else:
            lines.append(f"{line[:LONGEST_LINE]}...")
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        left_out = len(lines) - 2 * half
        lines = [*lines[:half], f"... {left_out} lines more ...", *lines[-half:]]
    return "\n".join(lines) + "\n"


def _name(error: BaseException) -> str:
    # A metaclass may have put its own name in the place.
    plain = type.__dict__["__name__"]
    name: str = plain.__get__(type(error))
    return name


class CtrlC:
    """A `with` that tells Ctrl-C from a KeyboardInterrupt which foreign code raises by itself."""

    def __init__(self) -> None:
        self.came = False
        self._heard = False

    def __enter__(self) -> CtrlC:
        # Another handler is that of a worker, which hears Ctrl-C by itself.
        on_main = threading.current_thread() is threading.main_thread()
        self._heard = on_main and _is_pythons_own()
        if self._heard:
            signal.signal(signal.SIGINT, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        if self._heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _caught(self, number: int, frame: FrameType | None) -> NoReturn:
        self.came = True
        raise KeyboardInterrupt


def may_be_ctrl_c(error: BaseException) -> bool:
    """Whether an exception may stand for Ctrl-C."""
    # Only Python's own handler of the signal raises this one.
    return isinstance(error, KeyboardInterrupt) and _is_pythons_own()


def _is_pythons_own() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextlib.contextmanager
def _without_exit() -> Iterator[None]:
    """Let `os._exit` raise SystemExit inside a `with`.

    Processes that foreign code forks end as they like, and do end.
    """
    here = os.getpid()

    def refused(status: int) -> NoReturn:
        if os.getpid() != here:
            REAL_EXIT(status)
        raise SystemExit(status)

    os._exit = refused
    try:
        yield
    finally:
        os._exit = REAL_EXIT
        # A forked process that comes out of here would go on as a second worker with the trial of
        # the first.
        if os.getpid() != here:
            REAL_EXIT(1)
