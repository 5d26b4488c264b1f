"""What a person sees while one or many workers search: a live view on a terminal, plain lines
elsewhere.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.console import console, note, safe_line
from automl_sr.presentation.numbers import duration, number
from automl_sr.presentation.plan_words import plan_words
from automl_sr.search.results import FINISHED, feasible, own_counts
from automl_sr.search.workers.callbacks import SearchCallback

if TYPE_CHECKING:
    from rich.console import RenderableType

    from automl_sr.search.open_study import OpenStudy
    from automl_sr.store.records import Result
    from automl_sr.trial.types import Point

PLAIN_SECONDS = 15.0
"""Without a terminal a running trial says so often where it is."""
TRAINING = ("train", "branch")
"""Stages in which the last point of the learning curve says where a trial is."""


@contextlib.contextmanager
def make_callback(*, quiet: bool) -> Iterator[SearchCallback]:
    """Return who follows the search, on standard error."""
    if quiet:
        yield SearchCallback()
    elif sys.stderr.isatty():
        from rich.live import Live

        view = LiveView()
        with Live(
            get_renderable=view.render,
            console=console(),
            refresh_per_second=4,
            transient=True,
        ) as live:
            # Through the live display: a line written past it would be drawn over.
            view.say = lambda text: live.console.print(safe_line(text))
            yield view
    else:
        yield PlainLines()


class PlainLines(SearchCallback):
    """One line for each thing that happens, as logs want it."""

    def __init__(self) -> None:
        self._said: dict[int, float] = {}

    def opened(self, study: OpenStudy) -> None:
        """Say what begins, or goes on."""
        for text in opening(study):
            note(text)

    def started(
        self,
        number: int,
        params: Mapping[str, Any],
        *,
        resumed: bool,
    ) -> None:
        """Say what a trial is."""
        self._said[number] = time.monotonic()
        words = plan_words(dict(params))
        if resumed:
            note(f"trial {number} goes on: {words}")
        else:
            note(f"trial {number}: {words}")

    def works(self, number: int, worker: str) -> None:
        """Who does what is of no use in a log."""

    def stage(self, number: int, name: str) -> None:
        """Stages are too short for a line each."""

    def point(self, number: int, point: Point) -> None:
        """Say now and then where training is."""
        now = time.monotonic()
        if now - self._said.get(number, 0.0) >= PLAIN_SECONDS:
            self._said[number] = now
            note(f"trial {number}: {progress(point)}")

    def rung(
        self,
        number: int,
        index: int,
        values: Mapping[str, float],
        *,
        go_on: bool,
    ) -> None:
        """Say how a trial was judged."""
        decision = "is stopped"
        if go_on:
            decision = "goes on"
        # People count rungs from one.
        note(f"trial {number}: rung {index + 1}: {measured(values)}: {decision}")

    def finished(self, number: int, result: Result, seconds: float) -> None:
        """Say what came of a trial."""
        note(ending(number, result, seconds))

    def note(self, text: str) -> None:
        """Pass it on."""
        note(text)


@dataclass
class Running:
    """A trial that is being worked on."""

    number: int
    words: str
    worker: str = ""
    """Who has it, where there are several."""
    stage: str = "gate"
    point: Point | None = None
    quality: Mapping[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Say where it is: in one line where there are several."""
        where = self.stage
        if self.point is not None and self.stage in TRAINING:
            where = progress(self.point)
        known = ""
        if self.quality:
            known = f", {measured(self.quality)}"
        if self.worker:
            return [f"{self.worker}: trial {self.number}: {where}{known}"]
        return [f"trial {self.number}: {self.words}", f"  {where}{known}"]


class LiveView(SearchCallback):
    """The study's trials, best values and time, and where the running trials are."""

    def __init__(self) -> None:
        self.say: Any = note
        self._study: OpenStudy | None = None
        self._counts: dict[str, int] = {}
        self._best: dict[str, tuple[float, int]] = {}
        self._running: dict[int, Running] = {}
        self._began = time.monotonic()
        self._used = 0.0

    def opened(self, study: OpenStudy) -> None:
        """Begin with what the store knows."""
        self._study = study
        record = study.store.study(study.spec.name)
        self._counts = own_counts(record)
        self._used = record.seconds
        for trial in study.store.trials(record, FINISHED):
            if feasible(record, trial.values):
                self._note_best(trial.number, trial.values)
        for text in opening(study):
            self.say(text)

    def started(
        self,
        number: int,
        params: Mapping[str, Any],
        *,
        resumed: bool,
    ) -> None:
        """Show another trial."""
        shown = Running(number, plan_words(dict(params)))
        # Another mapping, as the thread that draws may be reading this one.
        self._running = {**self._running, number: shown}

    def works(self, number: int, worker: str) -> None:
        """Show who has a trial; one that nobody has is not running."""
        if not worker:
            self._leave(number)
        elif number in self._running:
            self._running[number].worker = worker

    def stage(self, number: int, name: str) -> None:
        """Show the stage."""
        if number in self._running:
            self._running[number].stage = name

    def point(self, number: int, point: Point) -> None:
        """Show the step and the loss."""
        running = self._running.get(number)
        if running is None:
            return
        running.point = point
        # Most points have no values: those of the last rung stay.
        running.quality = dict(point.values) or running.quality

    def rung(
        self,
        number: int,
        index: int,
        values: Mapping[str, float],
        *,
        go_on: bool,
    ) -> None:
        """Show what was measured last."""
        if number in self._running:
            self._running[number].quality = values

    def finished(self, number: int, result: Result, seconds: float) -> None:
        """Count a trial, and leave a line of it."""
        self._counts[result.state] = self._counts.get(result.state, 0) + 1
        study = self._study
        has_model = study is not None and result.state in FINISHED
        if study is not None and has_model and feasible(study.record, result.values):
            self._note_best(number, result.values)
        self._leave(number)
        self.say(ending(number, result, seconds))

    def note(self, text: str) -> None:
        """Leave a line."""
        self.say(text)

    def render(self) -> RenderableType:
        """Draw the view."""
        from rich.text import Text

        # As Text, which is no markup: names in a study may hold brackets.
        return Text("\n".join(map(safe_line, self._lines())))

    def _lines(self) -> list[str]:
        study = self._study
        if study is None:
            return ["reading the data ..."]
        lines = [self._state_line(study)]
        best = []
        for name, (value, trial) in self._best.items():
            best.append(f"{name} {number(value)} (trial {trial})")
        if best:
            lines.append(f"best: {', '.join(best)}")
        for running in sorted(self._running.values(), key=_by_worker):
            lines += running.lines()
        return lines

    def _state_line(self, study: OpenStudy) -> str:
        """Return how far the study is: trials by state, time, and what is left of it."""
        budget = study.spec.budget
        # What counts against the budget; plans that train nothing are free.
        done = 0
        for state in ("complete", "pruned", "failed"):
            done += self._counts.get(state, 0)
        words = []
        for state, count in self._counts.items():
            if count and state not in ("running", "waiting"):
                words.append(f"{count} {state}")
        said = ", ".join(words) or "none yet"

        used = self._used + time.monotonic() - self._began
        left = ""
        if budget.minutes is not None:
            seconds = max(0.0, 60 * budget.minutes - used)
            left = f", {duration(seconds)} left"
        of = budget.trials or "as many as fit"
        return f"{study.spec.name}: {done} of {of} trials ({said}), {duration(used)}{left}"

    def _leave(self, number: int) -> None:
        # Another mapping, as the thread that draws may be reading this one.
        running = dict(self._running)
        running.pop(number, None)
        self._running = running

    def _note_best(self, trial: int, values: Mapping[str, float]) -> None:
        if self._study is None:
            return
        for metric in self._study.objectives:
            value = values.get(metric.name)
            if value is None:
                continue
            best = self._best.get(metric.name)
            if best is None or metric.better(value, best[0]):
                self._best[metric.name] = (value, trial)


def _by_worker(trial: Running) -> tuple[int, str, int]:
    # By length first: so worker 10 stands below worker 9.
    return len(trial.worker), trial.worker, trial.number


def opening(study: OpenStudy) -> list[str]:
    """Return in lines what is searched."""
    device = f"training on {study.setting.train_device}, {study.setting.threads} threads"
    verb = "begins"
    if study.resumed:
        verb = "goes on"
    lines = []
    for text in study.notes:
        lines.append(f"note: {text}")
    objectives = ", ".join(study.spec.objectives)
    lines.append(f"study {study.spec.name} {verb}: {objectives}; {device}; {study.store.name}")
    if study.record.reference:
        lines.append(f"without a model: {measured(study.record.reference)}")
    return lines


def ending(trial: int, result: Result, seconds: float) -> str:
    """Return in a line what came of a trial."""
    parts = []
    if result.values:
        parts.append(measured(result.values))
    if result.reason:
        parts.append(result.reason)
    return f"trial {trial}: {result.state}: {'; '.join(parts)} ({duration(seconds)})"


def progress(point: Point) -> str:
    """Return where training is."""
    speed = f"{point.images_per_second:,.0f} images/s"
    return f"{point.phase} step {point.step:,} of {point.steps:,}, loss {point.loss:.4g}, {speed}"


def measured(values: Mapping[str, float]) -> str:
    """Return values by name, in words."""
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())
