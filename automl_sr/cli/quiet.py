"""What libraries write of themselves is not for the person, unless they look for it."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import TextIO

from automl_sr.plugin.foreign import detail_of
from automl_sr.presentation.console import note, note_lines, warn

DEBUG = "AUTOML_SR_DEBUG"
OWN = "automl_sr"


def debugging() -> bool:
    """Say whether the person looks for a mistake in the program."""
    return os.environ.get(DEBUG, "") not in ("", "0")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep warnings and logs of libraries off the terminal; debugging shows a line each.

    What our own modules log is for the person.
    """
    handler = _ToPerson()
    root = logging.getLogger()
    former = warnings.showwarning
    root.addHandler(handler)
    warnings.showwarning = _warned
    try:
        yield
    finally:
        root.removeHandler(handler)
        warnings.showwarning = former


class _ToPerson(logging.Handler):
    """Tells the person what we log, and what libraries log only while debugging."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; with its traceback only while debugging."""
        own = record.name.partition(".")[0] == OWN
        if own:
            warn(record.getMessage())
        elif debugging():
            note(f"debug: {record.name}: {record.getMessage()}")
        error = None
        if record.exc_info:
            error = record.exc_info[1]
        if error is not None and debugging():
            note_lines(detail_of(error))


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if debugging():
        note(f"debug: {category.__name__}: {' '.join(str(message).split())} ({filename}:{lineno})")
