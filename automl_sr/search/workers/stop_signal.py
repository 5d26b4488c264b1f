"""Why a search stops before its budget is spent: a signal, or the time that is up."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from automl_sr.plugin.process_state import REAL_EXIT

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GLANCE_SECONDS = 0.1


class Stop:
    """A flag that signals raise and that passing time raises; trials look at it between two
    steps.
    """

    def __init__(
        self, seconds_left: float | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self.signal_number: int | None = None
        self._deadline: float | None = None
        if seconds_left is not None:
            self._deadline = time.monotonic() + seconds_left
        self._say = say
        self._saying: threading.Thread | None = None

    @property
    def signalled(self) -> bool:
        """Whether a signal came."""
        return self.signal_number is not None

    def seconds_left(self) -> float | None:
        """Return the seconds until the time is up; nothing where there is no limit."""
        if self._deadline is None:
            return None
        return self._deadline - time.monotonic()

    def requested(self) -> bool:
        """Whether to stop now."""
        if self.signalled:
            return True
        left = self.seconds_left()
        return left is not None and left <= 0

    def wait(self, seconds: float) -> None:
        """Pause, but not longer than until there is a reason to stop."""
        end = time.monotonic() + seconds
        while not self.requested():
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, GLANCE_SECONDS))

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Catch Ctrl-C and SIGTERM inside a `with`; a second one ends the process at once."""
        if threading.current_thread() is not threading.main_thread():
            yield self  # Python lets only the main thread set handlers
            return
        former = {}
        for number in SIGNALS:
            # One that is ignored stays so: a shell starts what a script runs in the background with
            # SIGINT ignored, so that the Ctrl-C that ends the script does not end it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                former[number] = signal.signal(number, self._caught)
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            if self._saying is not None:
                self._saying.join()

    def _caught(self, number: int, _: FrameType | None) -> None:
        if self.signalled:
            REAL_EXIT(128 + number)  # as shells report a process that a signal has ended
        self.signal_number = number
        if self._say is not None:
            # A thread of its own: the signal may have come in the middle of a print, which cannot
            # be entered twice.
            said = (
                "stopping: the trial is checkpointed at its next step (once more to quit at once)"
            )
            self._saying = threading.Thread(target=self._say, args=(said,), daemon=True)
            self._saying.start()
