"""Who watches a trial: the stages that it goes through, the points of its curve, its rungs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from automl_sr.errors import StopRequestedError
from automl_sr.files import write_atomically
from automl_sr.trial.types import Point

if TYPE_CHECKING:
    from automl_sr.training.run import Run


class TrialObserver(Protocol):
    """Where a trial reports; the store's implementation is the only one that search uses."""

    def stage(self, name: str) -> None:
        """A stage begins: select, train, branch, export, evaluate."""

    def point(self, point: Point) -> None:
        """Add a point to the learning curve."""

    def saved(self) -> None:
        """A checkpoint was written."""

    def stop_requested(self) -> bool:
        """Say whether the trial should stop as soon as possible.

        It then writes a checkpoint and raises StopRequestedError.
        """

    def rung(
        self,
        index: int,
        step: int,
        values: Mapping[str, float],
        artifacts: Mapping[str, Path],
    ) -> bool:
        """Record the values of a finished branch; True if the trial may go on."""


class StageClock:
    """Adds up the seconds of each stage over all attempts.

    It tells the observer where the trial is.
    """

    def __init__(self, observer: TrialObserver, kept: Path) -> None:
        self._observer = observer
        self._kept = kept
        self._seconds = _earlier_seconds(kept)
        self._stage = ""
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep the seconds for the attempt that goes on, if this one was stopped."""
        write_atomically(self._kept, json.dumps(self.seconds()).encode())

    def stage(self, name: str) -> None:
        """Begin a stage; the one before ends."""
        now = time.monotonic()
        self._seconds = self._until(now)
        self._stage = name
        self._since = now
        self._observer.stage(name)
        # Between two stages nothing is lost: what the former one has made is kept already.
        if self._observer.stop_requested():
            raise StopRequestedError(f"Stopped before {name!r}; the work up to here is kept.")

    def seconds(self) -> dict[str, float]:
        """Return the seconds of all stages, those of the present one up to now."""
        return self._until(time.monotonic())

    def _until(self, now: float) -> dict[str, float]:
        seconds = dict(self._seconds)
        if self._stage:
            before = seconds.get(self._stage, 0.0)
            seconds[self._stage] = before + now - self._since
        return seconds


def _earlier_seconds(kept: Path) -> dict[str, float]:
    """Read the seconds of former attempts by stage."""
    if not kept.exists():
        return {}
    written: dict[str, float] = json.loads(kept.read_text())
    seconds: dict[str, float] = {}
    for stage, value in written.items():
        name = stage
        if stage == "fork":
            name = "branch"  # what version 0.1.0 called a fork
        seconds[name] = value
    return seconds


class CurveObserver:
    """Passes a run's progress on to the observer, as points of a learning curve."""

    def __init__(self, observer: TrialObserver, steps: int) -> None:
        self._observer = observer
        self._steps = steps

    def progress(self, run: Run, images_per_second: float) -> None:
        """Add a point to the curve."""
        self._add(run, images_per_second, {})

    def measured(self, run: Run, values: Mapping[str, float]) -> None:
        """Add a point with values that were measured on a branch which is no rung."""
        self._add(run, 0.0, values)

    def _add(self, run: Run, images_per_second: float, values: Mapping[str, float]) -> None:
        phase = ""
        if run.span:
            phase = run.span.phase.name
        point = Point(
            step=run.step,
            steps=self._steps,
            phase=phase,
            loss=float(run.last_loss),
            rate=run.recipe.lr * run.rate(),
            images_per_second=images_per_second,
            values=values,
        )
        self._observer.point(point)

    def saved(self) -> None:
        """Pass on that a checkpoint was written."""
        self._observer.saved()

    def stop_requested(self) -> bool:
        """Ask the observer whether to stop."""
        return self._observer.stop_requested()
