"""How the program ends: with its own exit code, and at once.

Whatever code of plugins has left behind does not hold it up.
"""

from __future__ import annotations

import sys
import threading
import time

from automl_sr.cli.quiet import debugging
from automl_sr.plugin.foreign import detail_of, one_line
from automl_sr.plugin.process_state import REAL_EXIT
from automl_sr.presentation.console import note, note_lines, warn

PATIENCE_SECONDS = 10.0
"""So long threads and exit handlers that plugins and libraries have left behind may take."""


def plain_hooks() -> None:
    """Say in one line what a thread ended with, or what a destructor raised."""
    threading.excepthook = _of_thread
    sys.unraisablehook = _of_nobody


def leave(code: int, patience: float | None = None) -> int:
    """Return the exit code to end with, and make sure that the program ends with it."""
    # Python waits for threads that are no daemons, and for the handlers of `atexit`, for ever.
    ends = threading.Event()
    seconds = patience
    if seconds is None:
        seconds = PATIENCE_SECONDS
    watch = threading.Thread(
        target=_insist,
        args=(ends, code, seconds),
        name="automl-sr end",
        daemon=True,
    )
    watch.start()
    # `atexit` would be too late: it runs after Python has waited for threads. This runs before.
    threading._register_atexit(ends.set)  # type: ignore[attr-defined]
    return code


def _insist(ends: threading.Event, code: int, seconds: float) -> None:
    ends.wait()
    time.sleep(seconds)
    left = []
    for thread in threading.enumerate():
        if thread is threading.main_thread() or thread.daemon:
            continue  # neither holds the program up
        if thread.is_alive():
            left.append(thread.name)
    what = "an exit handler"
    if left:
        what = f"threads that were left behind ({', '.join(left)})"
    note(f"warning: {what} did not end within {seconds:g} s: the program ends without")
    # Not sys.exit, which ends this thread alone; a technique may have replaced os._exit.
    REAL_EXIT(code)


def _of_thread(args: threading.ExceptHookArgs) -> None:
    # SystemExit in a thread ends that thread, which Python keeps silent about as well.
    if args.exc_value is None or args.exc_type is SystemExit:
        return
    name = "a thread"
    if args.thread is not None:
        name = args.thread.name
    _tell(f"{name} ended with {one_line(args.exc_value)}", args.exc_value)


def _of_nobody(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        _tell(f"ignored: {one_line(args.exc_value)}", args.exc_value)


def _tell(text: str, error: BaseException) -> None:
    if debugging():
        note_lines(detail_of(error))
    warn(text)
