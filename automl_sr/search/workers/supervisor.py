"""The processes of several workers: start them, put others in the place of those that die, end them
together.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any

from automl_sr.errors import AutomlSRError, Offer, StoreError
from automl_sr.search.workers.stop_signal import Stop

LAST_WORDS_SECONDS = 2.0
"""So long the last lines of a process that has ended are waited for."""


@dataclass(frozen=True)
class Patience:
    """How a supervisor deals with workers that die, all in seconds but `deaths`."""

    pause: float = 1.0
    """Before a dead worker is replaced; twice as long after each further death."""
    longest: float = 30.0
    quick: float = 60.0
    """A worker that lived for less has died quickly."""
    deaths: int = 5
    """So many quick deaths of a worker in a row that bring no trial closer to its end stop
    everything.
    """
    look: float = 1.0
    """Between two looks at the store."""
    silence: float = 60.0
    """For so long the store may not answer."""
    leave: float = 60.0
    """So long workers have to end when there is nothing left to do."""


@dataclass(frozen=True)
class State:
    """What the store tells a supervisor."""

    ended: int = 0
    """Trials that have ended so far."""
    over: bool = False
    """Whether no new worker is needed: the budget is spent, or the time is up."""
    idle: bool = False
    """Whether besides no trial is with a worker any more."""
    deaths: int = 0
    """Workers that have died of trials which have not ended yet: each brings its trial closer to
    failing.
    """
    error: AutomlSRError | None = None
    """Why going on makes no sense."""
    stuck: frozenset[int] = frozenset()
    """Processes that have let the lease of their trial run out, and have given no sign of life for
    too long.
    """


@dataclass
class Place:
    """The place of one worker, and the process that fills it now."""

    number: int
    environment: Mapping[str, str]
    process: subprocess.Popen[str] | None = None
    began: float = 0.0
    due: float | None = 0.0
    """When to start a process here; nothing where one is running, or none is needed any more."""
    deaths: int = 0
    """Quick deaths in a row that brought no trial closer to its end."""
    reached: tuple[int, int] = (0, 0)
    """How many trials had ended, and how many deaths the others had seen, at the last of them."""
    said: list[str] = field(default_factory=list)
    """The last line on standard error, and on standard output."""
    words: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What people read."""
        return f"worker {self.number}"


class Supervisor:
    """Keeps one process for each environment running until all have ended with exit code 0 and said
    so.

    Each is a session of its own, so that Ctrl-C reaches the supervisor alone, and has a pipe for
    standard input, whose end asks it to stop; a supervisor that is killed asks in the same way.
    What it prints as its last line is `{"note": ..., "error": ...}`, with an `offer` where the
    error offers a command: with exit code 1 or 2 such an error ends the others, too. Who has not
    said it has died, whatever its exit code: a technique may end the process with any.
    """

    def __init__(
        self,
        command: Sequence[str],
        environments: Iterable[Mapping[str, str]],
        *,
        look: Callable[[Mapping[int, str]], State],
        say: Callable[[str], None],
        patience: Patience | None = None,
    ) -> None:
        self.places: list[Place] = []
        for number, environment in enumerate(environments, 1):
            self.places.append(Place(number, environment))
        self.error: AutomlSRError | None = None
        """Why the workers were stopped, if not by a signal."""
        self.note = ""
        """What the last worker said when it ended."""
        self.stop = _Stop(self._wake, self._kill_all)
        self._command = list(command)
        self._look = look
        self._say = say
        self._patience = patience or Patience()
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._state = State()
        self._stopping = False
        self._looked = self._answered = time.monotonic()
        self._idle_since: float | None = None

    def run(self) -> None:
        """Work until no process is left.

        Raises nothing that a worker does: see `error` and `stop`.
        """
        try:
            with self.stop.listening():
                while self._start_those_due() or self._running():
                    self._turn()
            self._look_again()
        finally:
            self._ask_to_stop()  # where this process fails, its workers checkpoint and end

    def _running(self) -> list[Place]:
        found: list[Place] = []
        for place in self.places:
            if place.process is not None:
                found.append(place)
        return found

    def _start_those_due(self) -> bool:
        """Start processes whose time has come; gives whether others are still to come."""
        for place in self.places:
            if place.due is not None and place.due <= time.monotonic():
                place.due = None
                self._start(place)
        return any(place.due is not None for place in self.places)

    def _turn(self) -> None:
        """Wait for the next thing to happen, and deal with it."""
        next_moment = self._looked + self._patience.look
        for place in self.places:
            if place.due is not None:
                next_moment = min(next_moment, place.due)
        pause = max(0.0, next_moment - time.monotonic())
        with contextlib.suppress(queue.Empty):
            happened = self._events.get(timeout=pause)
            happened()
        if self.stop.signalled and not self._stopping:
            self._say("stopping: the workers checkpoint their trials (once more to quit at once)")
            self._ask_to_stop()
        if time.monotonic() - self._looked >= self._patience.look:
            self._look_again()
            self._end_the_stuck()

    # One process

    def _start(self, place: Place) -> None:
        place.began = time.monotonic()
        place.said, place.words = [], []
        try:
            process = subprocess.Popen(  # noqa: S603 - the program is our own
                self._command,
                env=dict(place.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            place.said = [f"it cannot be started: {error.strerror}"]
            self._died(place, "could not be started")
            return
        place.process = process
        # Both pipes are read all the time: a process whose pipe is full stands still.
        readers = [
            threading.Thread(target=self._hear, args=(place, process.stderr), daemon=True),
            threading.Thread(target=_keep_last, args=(process.stdout, place.words), daemon=True),
        ]
        awaiting = threading.Thread(target=self._await, args=(place, process, readers), daemon=True)
        for thread in (*readers, awaiting):
            thread.start()

    def _hear(self, place: Place, lines: IO[str]) -> None:
        """Pass on, from a thread, what a process says."""
        for line in lines:
            text = line.rstrip()
            if text:
                self._events.put(functools.partial(self._heard, place, text))

    def _heard(self, place: Place, text: str) -> None:
        place.said = [text]
        self._say(f"{place.name}: {text}")

    def _await(
        self, place: Place, process: subprocess.Popen[str], readers: Iterable[threading.Thread]
    ) -> None:
        """Report, from a thread, that a process has ended, after what it said last."""
        process.wait()
        for reader in readers:  # a process that it left behind may hold the pipes open
            reader.join(LAST_WORDS_SECONDS)
        self._events.put(lambda: self._ended(place, process))

    def _ended(self, place: Place, process: subprocess.Popen[str]) -> None:
        code = process.returncode
        place.process = None
        if process.stdin:
            process.stdin.close()
        end = _last_words(place.words)
        self.note = end.get("note", self.note)
        if self._stopping or (code == 0 and end):
            return
        if code in (1, 2) and end.get("error"):
            self._give_up(AutomlSRError(end["error"], offer=_offer(end.get("offer"))))
            return
        # Looked at anew: whether another one is needed, and how far its death has brought a trial.
        self._look_again()
        if self._state.over:
            return
        how = f"ended with code {code}"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        self._died(place, how)

    def _died(self, place: Place, how: str) -> None:
        """Plan a replacement, unless workers die again and again without getting anywhere."""
        lived = time.monotonic() - place.began
        reached = (self._state.ended, self._state.deaths)
        if lived < self._patience.quick and place.reached == reached:
            place.deaths += 1
        else:
            place.deaths = 1
        place.reached = reached
        if place.deaths >= self._patience.deaths:
            last = how
            if place.said:
                last = place.said[-1]
            text = f"{place.name} died {place.deaths} times in a row, at last with: {last}"
            self._give_up(AutomlSRError(text))
            return

        doubled = self._patience.pause * 2 ** (place.deaths - 1)
        pause = min(doubled, self._patience.longest)
        self._say(f"{place.name} {how}; another takes its place in {pause:g} s")
        place.due = time.monotonic() + pause

    # All of them

    def _look_again(self) -> None:
        """Read the store; one that does not answer is waited for, as the workers do."""
        self._looked = time.monotonic()
        names = {}
        for place in self._running():
            if place.process is not None:
                names[place.process.pid] = place.name
        try:
            self._state = self._look(names)
        except StoreError as error:
            if time.monotonic() - self._answered > self._patience.silence:
                self._give_up(error)
            return
        self._answered = time.monotonic()
        if self._state.error is not None:
            self._give_up(self._state.error)
        if not self._state.idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._answered

    def _end_the_stuck(self) -> None:
        """Kill processes that hang where their own watchdog cannot help, and those that do not end
        when all is done.
        """
        late = False
        if self._idle_since is not None:
            late = time.monotonic() - self._idle_since > self._patience.leave
        for place in self._running():
            process = place.process
            if process is None:
                continue
            if late:
                self._say(f"{place.name} does not end: it is killed")
                _kill(process)
            elif process.pid in self._state.stuck:
                self._say(f"{place.name} gives no sign of life: it is killed")
                _kill(process)

    def _give_up(self, error: AutomlSRError) -> None:
        self.error = self.error or error
        self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        """Ask every worker to checkpoint and end, once."""
        self._stopping = True
        for place in self.places:
            place.due = None
            if place.process and place.process.stdin:
                place.process.stdin.close()

    def _kill_all(self) -> None:
        for place in self._running():
            if place.process:
                _kill(place.process)

    def _wake(self) -> None:
        self._events.put(lambda: None)  # the only queue that a signal's handler may use


class _Stop(Stop):
    """A first signal wakes the supervisor, a second one kills its workers, a third one ends it at
    once.
    """

    def __init__(self, wake: Callable[[], None], kill: Callable[[], None]) -> None:
        super().__init__(say=lambda _: wake())
        self._kill: Callable[[], None] | None = kill

    def _caught(self, number: int, frame: FrameType | None) -> None:
        kill = self._kill
        if not self.signalled or kill is None:
            super()._caught(number, frame)
            return
        self._kill = None  # the third signal is to end this process
        kill()


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _keep_last(lines: IO[str], last: list[str]) -> None:
    for line in lines:
        last[:] = [line]


def _last_words(lines: Sequence[str]) -> dict[str, Any]:
    """Read the note and the error with which a worker says that it has ended; nothing where it has
    died.
    """
    if not lines:
        return {}
    try:
        found = json.loads(lines[-1])
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    said: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, str) or key == "offer":
            said[key] = value
    return said


def _offer(said: Any) -> Offer | None:
    """Read the command that a worker's error offers; nothing where it is no such record."""
    try:
        return Offer(**said)
    except TypeError:
        return None
