"""What a running trial reports, written to the store and passed on to who watches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from automl_sr.errors import NotFiniteError
from automl_sr.store.records import PointRecord

if TYPE_CHECKING:
    from automl_sr.search.scheduler import Scheduler
    from automl_sr.search.watch import Watcher
    from automl_sr.store.records import Claim
    from automl_sr.store.repository import Store
    from automl_sr.trial import Point


class StoreJournal:
    """The journal of one attempt at one trial. Its writes raise LeaseLost once another worker has taken over."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        number: int,
        scheduler: Scheduler,
        watcher: Watcher,
        stop: Callable[[], bool],
    ) -> None:
        self._store = store
        self._claim = claim
        self._number = number
        self._scheduler = scheduler
        self._watcher = watcher
        self._stop = stop
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Give the trial's seconds, those of former attempts included."""
        return self._claim.seconds + time.monotonic() - self._began

    def stage(self, name: str) -> None:
        """Show where the trial is."""
        self._watcher.stage(self._number, name)
        self._store.stage(self._claim, name, self.seconds())

    def point(self, point: Point) -> None:
        """Add a point to the learning curve, at once: a checkpoint may follow, after which it is not reported again."""
        self._watcher.point(self._number, point)
        values = {name: value for name, value in point.values.items() if math.isfinite(value)}
        record = PointRecord(point.phase, point.step, point.loss, point.rate, point.images_per_second, values)
        self._store.points(self._claim, [record])

    def stop_requested(self) -> bool:
        """Say whether to checkpoint and stop."""
        return self._stop()

    def rung(self, index: int, step: int, values: Mapping[str, float], artifacts: Mapping[str, Path]) -> bool:
        """Record the values of a fork, and decide in the same transaction. Raises NotFiniteError."""
        check_finite(values)
        go_on = self._store.judge(
            self._claim, index, step, values, lambda rows: self._scheduler.decide(index, values, rows)
        )
        self._watcher.rung(self._number, index, values, go_on=go_on)
        return go_on


def check_finite(values: Mapping[str, float]) -> None:
    """Raise NotFiniteError for a measurement that is no number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} was measured as {value}.")
