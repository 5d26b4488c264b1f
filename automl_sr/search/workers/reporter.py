"""What a running trial reports, written to the store and passed on to who watches."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import NotFiniteError, StoreError, StoreUnreachableError
from automl_sr.files import write_atomically
from automl_sr.store.leases import LeaseLostError
from automl_sr.store.records import PointRecord

if TYPE_CHECKING:
    from automl_sr.search.decide.scheduler import Scheduler
    from automl_sr.search.workers.callbacks import SearchCallback
    from automl_sr.search.workers.trial_folder import TrialFolder
    from automl_sr.store.records import Claim
    from automl_sr.store.repository import Store
    from automl_sr.trial.types import Point


PENDING = "pending.json"


class Reporter:
    """What every reporter of techniques at work keeps in mind, to know afterwards whose fault a
    failure is.
    """

    def __init__(self, stop: Callable[[], bool], alive: Callable[[str], None]) -> None:
        self._stop = stop
        self._alive = alive
        self.silent: StoreUnreachableError | None = None
        """What was said of a database that does not answer."""
        self.problem: LeaseLostError | StoreError | None = None
        """Why it cannot be reported, whatever becomes of that on its way through the code of
        techniques.
        """
        self.told_to_stop = False
        """Whether the work was asked to stop: what it raises afterwards comes of that, by whatever
        name.
        """

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Note what is raised inside a `with` as the store's problem, not as the fault of a
        technique.
        """
        try:
            yield
        except (LeaseLostError, StoreError) as problem:
            self.problem = problem
            raise

    def stop_requested(self) -> bool:
        """Return whether to checkpoint and stop."""
        self._alive("")
        asked = self.silent is not None or self._stop()
        if asked:
            self.told_to_stop = True
        return asked


class TrialReporter(Reporter):
    """Reports one attempt at one trial to the store. Its writes raise LeaseLostError once another
    worker has taken over.

    Where the database stays silent, points of the curve are kept in a file beside the checkpoints,
    the trial is asked to checkpoint and stop, and the next attempt writes them.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        trial_folder: TrialFolder,
        scheduler: Scheduler,
        callback: SearchCallback,
        *,
        stop: Callable[[], bool],
        alive: Callable[[str], None],
    ) -> None:
        super().__init__(stop, alive)
        self._store = store
        self._claim = claim
        self._number = claim.number
        self._trial_folder = trial_folder
        self._pending = trial_folder.folder / PENDING
        self._scheduler = scheduler
        self._callback = callback
        self._began = time.monotonic()
        self.stopped: str | None = None
        """At which rung the trial was stopped, and why."""

    def seconds(self) -> float:
        """Return the trial's seconds, those of former attempts included."""
        return self._claim.seconds + time.monotonic() - self._began

    def send_pending(self) -> None:
        """Write the points that a former attempt could not."""
        if not self._pending.exists():
            return
        kept = []
        for item in self._read_pending():
            kept.append(PointRecord(**item))
        with self.reporting():
            self._store.points(self._claim, kept)
        # Only now: a point that is written twice replaces itself, one that is lost is missed.
        self._pending.unlink()

    def _read_pending(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._pending.read_text())
        return found

    def _keep_for_later(self, record: PointRecord) -> None:
        """Keep a point in a file, for the next attempt."""
        kept = []
        if self._pending.exists():
            kept = self._read_pending()
        kept.append(dataclasses.asdict(record))
        write_atomically(self._pending, json.dumps(kept).encode())

    def stage(self, name: str) -> None:
        """Show where the trial is."""
        self._alive(name)
        self._callback.stage(self._number, name)
        with self.reporting():
            try:
                self._store.stage(self._claim, name, self.seconds())
            except StoreUnreachableError as error:
                self.silent = error

    def point(self, point: Point) -> None:
        """Add a point to the learning curve."""
        self._alive("")
        self._callback.point(self._number, point)
        values = {}
        for name, value in point.values.items():
            if math.isfinite(value):
                values[name] = value
        record = PointRecord(
            point.phase, point.step, point.loss, point.rate, point.images_per_second, values
        )
        # At once: a checkpoint may follow, after which the point is not reported again.
        with self.reporting():
            try:
                self._store.points(self._claim, [record])
            except StoreUnreachableError as error:
                self.silent = error
        if self.silent is not None:
            self._keep_for_later(record)

    def saved(self) -> None:
        """Let a checkpoint be copied to where another machine finds it, if files are kept in a
        remote place.
        """
        self._alive("")
        manifest = self._trial_folder.mirror()
        if manifest is None:
            return
        with self.reporting():
            try:
                # The row first: until it names the new copies, a takeover needs the old ones.
                self._store.keep(self._claim, manifest)
                self._trial_folder.stored()
            except StoreUnreachableError as error:
                self.silent = error

    def rung(
        self, index: int, step: int, values: Mapping[str, float], artifacts: Mapping[str, Path]
    ) -> bool:
        """Record the values of a branch, and decide in the same transaction.

        Raises NotFiniteError.
        """
        self._alive("")
        # Before it is written: a rung's row is written once, and others are judged by it.
        check_finite(values)
        with self.reporting():
            verdict = self._store.record_rung(
                self._claim,
                index,
                step,
                self.seconds(),
                values,
                lambda rows: self._scheduler.decide(index, values, rows),
            )
        if not verdict.go_on:
            self.stopped = f"stopped at rung {index}, step {step}: {verdict.reason}"
        self._callback.rung(self._number, index, values, go_on=verdict.go_on)
        return verdict.go_on


def check_finite(values: Mapping[str, float]) -> None:
    """Raise NotFiniteError for a measurement that is no number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} was measured as {value}.")
