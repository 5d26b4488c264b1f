"""Ends a trial that takes too long or stands still, also where it hangs inside one call.

Three steps, each for what the one before does not reach:

1. `overdue()` becomes true at the limit: training sees it at its next step.
2. `OverdueError` is raised in the main thread by a signal: this ends endless loops in Python and
   blocking system calls.
3. The reason is recorded and the process ends: nothing else ends a deadlock in C code.

Code that hangs while it holds the interpreter's lock stops this thread too. Nobody renews the lease
then, so another worker takes the trial over.

An import is left to end first: one that breaks off leaves half a module behind, of which all later
trials of the process would die.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

IMPORT_FILES = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
EXIT_HUNG = 70
"""Exit code of a process that had to be ended because its trial hung."""
TICK = 1.0
"""Seconds between two looks at the trial; a much later one shows that the process slept."""
IMPORT_SECONDS = 300.0
"""So long an import may go on that is in the way of an exception."""
AGAIN_SECONDS = 0.1
"""Between two looks whether the import is over."""
RECORD_SECONDS = 90.0
"""So long may recording take before the process ends without it; a store is given 60 seconds to
come back.
"""


class OverdueError(BaseException):
    """The trial is stopped from outside; no Exception, so that a technique that catches those does
    not swallow it.
    """


class Watchdog:
    """Watches one trial: `limit` seconds from the beginning of `watching()`, and `stall` seconds
    without progress.

    Time in which the whole process was stopped or the machine slept counts for neither.
    """

    def __init__(
        self,
        limit: float | None,
        stall: float | None,
        record: Callable[[str], object],
        *,
        grace: float = 15.0,
        last_grace: float = 30.0,
        record_within: float = RECORD_SECONDS,
        minutes: float | None = None,
        name: str = "the trial",
        exit: Callable[[int], object] = os._exit,  # noqa: A002 - what it stands for
    ) -> None:
        self._limit = limit
        if limit is not None:
            self._limit = max(0.0, limit)  # former attempts may have used more than there was
        self._stall = stall
        self._record = record
        self._grace = grace
        self._last_grace = last_grace
        self._record_within = record_within
        # The study file's limit, for people; less than that may be left for this attempt.
        self._minutes = minutes
        if minutes is None:
            self._minutes = (limit or 0.0) / 60
        self._name = name
        self._exit = exit
        self._stage = ""
        self._moved = False
        self._awake = 0.0
        """Seconds since the beginning in which the process was awake."""
        self._quiet_since = 0.0
        self._overdue = False
        self._reason = ""
        self._hung = False
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="automl-sr watchdog", daemon=True)
        self._block = _Block(self._begin, self._end, lambda: OverdueError(self._reason))

    def alive(self, what: str = "") -> None:
        """Note progress, and the stage that begins, if one does; cheap enough for every step."""
        if what:
            self._stage = what
        self._moved = True

    def overdue(self) -> bool:
        """Whether the trial should stop now."""
        return self._overdue

    @property
    def reason(self) -> str:
        """Why the trial is overdue, as a sentence for its row; empty while it may go on."""
        return self._reason

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """Watch what is done inside a `with`, once.

        `OverdueError` comes out of it or not at all: catch it outside.
        """
        return self._block

    def _begin(self) -> None:
        if self._limit is not None or self._stall is not None:
            self._thread.start()

    def _end(self) -> None:
        """End the thread, or wait where it is about to end the process: only one side records the
        trial.
        """
        self._left.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._hung:
            raise OverdueError(self._reason)  # only where `exit` stands for something that returns

    def _watch(self) -> None:
        """Go through the three steps, until the block is left; this is the thread."""
        while not self._asking_is_over():
            if self._tick(self._until_next()):
                return
            self._look()
        if not self._left_by_exception():
            self._end_process()

    def _left_by_exception(self) -> bool:
        """Raise the exception again and again, and return whether the block was left in time."""
        began = since = again = self._awake
        # Again and again: a technique may swallow one, or stand where one is held back.
        while self._awake < since + self._last_grace:
            importing = self._block.importing and self._awake < began + IMPORT_SECONDS
            if importing:
                since = again = self._awake
            if self._awake >= again:
                self._block.interrupt()
                again = self._awake + self._grace
            pause = min(again, since + self._last_grace) - self._awake
            if importing:
                pause = AGAIN_SECONDS
            if self._tick(pause):
                return True
        return False

    def _tick(self, longest: float) -> bool:
        """Wait a little, and say whether the block was left."""
        asked = min(TICK, max(0.001, longest))
        before, used_before = time.monotonic(), time.process_time()
        left = self._left.wait(asked)
        passed, used = time.monotonic() - before, time.process_time() - used_before
        # Who wakes too late was asleep, unless the process was busy meanwhile and did not let this
        # thread run.
        slept = max(0.0, passed - asked - used)
        self._awake += passed - slept
        return left

    def _look(self) -> None:
        """Note progress, and that the limit is reached."""
        if self._moved:
            self._moved = False
            self._quiet_since = self._awake
        if not self._overdue and self._limit is not None and self._awake >= self._limit:
            self._reason = f"{self._too_long()} ({self._where()})"
            self._overdue = True

    def _asking_is_over(self) -> bool:
        """Whether the trial did not stop by itself after its limit, or nothing has moved for too
        long.
        """
        if self._limit is not None and self._awake >= self._limit + self._grace:
            self._reason = (
                f"{self._too_long()} and did not stop for {_span(self._grace)} more"
                f" ({self._where()})"
            )
        elif self._stall is not None and self._awake >= self._quiet_since + self._stall:
            self._reason = (
                f"it made no progress for {_span(self._stall)} ({self._where()}):"
                " budget.stall_minutes"
            )
        else:
            return False
        self._overdue = True
        return True

    def _until_next(self) -> float:
        """Return the seconds until there may be something to do."""
        moments = [self._awake + TICK]
        if self._limit is not None:
            limit = self._limit
            if self._overdue:
                limit += self._grace
            moments.append(limit)
        if self._stall is not None:
            moments.append(self._quiet_since + self._stall)
        return min(moments) - self._awake

    def _end_process(self) -> None:
        """Record the trial and end the process, even if the block is left at this very moment."""
        self._hung = True
        self._reason += (
            f"; {self._block.place()} could not be interrupted, so the process was ended"
        )
        problem = self._record_in_time()
        kept = "That is recorded."
        if problem:
            kept = f"That could not be recorded ({problem})."
        line = (
            f"automl-sr: {self._name} hung: {self._reason}. {kept} The same command goes on with"
            " the study.\n"
        )
        with contextlib.suppress(OSError):
            # Past Python's buffers, whose locks the stuck thread may hold.
            os.write(2, line.encode())
        self._exit(EXIT_HUNG)

    def _record_in_time(self) -> str:
        """Record why the trial failed, and say what went wrong with that."""
        # In a thread of its own, which is not waited for too long: the stuck one may hold what it
        # needs.
        problems = [f"no answer for {_span(self._record_within)}"]

        def write() -> None:
            try:
                self._record(self._reason)
                problems[0] = ""
            except BaseException as error:  # noqa: BLE001 - the process ends all the same
                text = f"{type(error).__name__}: {error}"
                problems[0] = " ".join(text.split())

        writer = threading.Thread(target=write, name="automl-sr last record", daemon=True)
        writer.start()
        writer.join(self._record_within)
        return problems[0]

    def _too_long(self) -> str:
        return f"it took longer than budget.trial_minutes ({self._minutes:g})"

    def _where(self) -> str:
        if self._stage:
            return f"stage {self._stage}"
        return "before its first stage"


def _frames() -> dict[int, FrameType]:
    """Return where every thread stands, without a garbage collection in the middle.

    Python before 3.12 holds a lock while it collects them: a collection that gave its turn away
    there could wait for a thread that waits for that lock, and the whole process would stand still
    (CPython issue 106883).
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if collecting:
            gc.enable()


class _Block:
    """A `with` into which another thread can raise an exception, where it stands in the main
    thread.
    """

    def __init__(
        self,
        begin: Callable[[], None],
        end: Callable[[], None],
        exception: Callable[[], BaseException],
    ) -> None:
        self._begin = begin
        self._end = end
        self._exception = exception
        self._thread = 0
        self._interruptible = False
        self._interrupted = False
        self._former: Any = None
        self._around: FrameType | None = None
        self.importing = False
        """Whether the last exception was held back, because the block was importing something."""

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._around = sys._getframe(1)
        on_main = threading.current_thread() is threading.main_thread()
        self._interruptible = on_main and hasattr(signal, "pthread_kill")
        if self._interruptible:
            self._former = signal.signal(signal.SIGUSR1, self._caught)
        try:
            self._begin()
        except BaseException:
            self._restore()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._end()
        finally:
            self._restore()
            self._around = None

    def interrupt(self) -> None:
        """Raise the exception in the block; called by the other thread, and never once `_end` has
        returned.
        """
        if self._interruptible:
            self._interrupted = True
            signal.pthread_kill(self._thread, signal.SIGUSR1)

    def place(self) -> str:
        """Name the line at which the block stands."""
        frame = _frames().get(self._thread)
        if frame is None:
            return "it"
        file = Path(frame.f_code.co_filename).name
        return f"{frame.f_code.co_name} ({file}:{frame.f_lineno})"

    def _restore(self) -> None:
        if self._interruptible:
            # A signal on its way arrives at the latest now, also where a technique has put itself
            # in its way: not after the handler is gone, when it would end the process.
            signal.signal(signal.SIGUSR1, self._caught)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
            former = self._former
            if former is None:  # it was not set by Python
                former = signal.SIG_DFL
            signal.signal(signal.SIGUSR1, former)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if not self._interrupted:
            if callable(self._former):  # somebody else's signal
                self._former(number, frame)
            return
        if _on_the_edge(frame):
            return
        self.importing = _is_importing(frame, self._around)
        if not self.importing:
            raise self._exception()


def _on_the_edge(frame: FrameType | None) -> bool:
    """Whether a block is being entered or left."""
    # Its own work must be done whole, and what follows is not its part.
    edges = (_Block.__enter__.__code__, _Block.__exit__.__code__)
    while frame is not None and frame.f_code not in edges:
        frame = frame.f_back
    return frame is not None


def _is_importing(frame: FrameType | None, around: FrameType | None) -> bool:
    """Whether Python's import is at work between two frames: for code of a module, or for the lock
    of one.
    """
    while frame is not None and frame is not around:
        if frame.f_code.co_filename in IMPORT_FILES:
            return True
        frame = frame.f_back
    return False


def _span(seconds: float) -> str:
    """Write a time as a person does: `30 minutes`, `0.2 s`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds == 60:
        return "1 minute"
    return f"{seconds / 60:.3g} minutes"
