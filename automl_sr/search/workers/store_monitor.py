"""What all workers of a study do, wherever they run, as the store tells it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from automl_sr.search.results import own_counts
from automl_sr.search.workers.callbacks import SearchCallback
from automl_sr.search.workers.failures import FailuresInARow
from automl_sr.search.workers.supervisor import State
from automl_sr.store import models
from automl_sr.store.leases import Owner, has_run_out, is_dead
from automl_sr.store.models import now
from automl_sr.store.reading import trial_record
from automl_sr.store.records import COUNTED, UNFINISHED, Result, TrialRecord
from automl_sr.trial.types import Point

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from automl_sr.errors import AutomlSRError
    from automl_sr.search.open_study import OpenStudy


@dataclass(frozen=True)
class Seen:
    """An unfinished trial as it was when last looked at."""

    trial: TrialRecord
    holder: str | None
    """The worker that has it, if that is alive."""
    point: Point | None = None

    @property
    def begun(self) -> bool:
        """Whether a worker has it, and knows what it does."""
        return self.holder is not None and self.trial.plan is not None


Rungs = list[tuple[int, models.Rung]]
"""Rows of rungs, each with the number of its trial."""


@dataclass(frozen=True)
class News:
    """What one transaction reads."""

    unfinished: list[Seen]
    ended: list[TrialRecord]
    rungs: Rungs
    deaths: int
    """Workers that have died of the unfinished trials."""


class StoreMonitor:
    """Tells a callback what has changed in the store since the last look, in the words that a
    worker would use.
    """

    def __init__(self, study: OpenStudy, callback: SearchCallback, patience: float) -> None:
        self._study = study
        self._callback = callback
        self._names: Mapping[int, str] = {}
        self._patience = patience
        """Seconds after which a worker that let its lease run out, and gives no other sign, is
        stuck.
        """
        self._ended = 0
        self._deaths = 0
        self._failures = FailuresInARow(study.spec.name)
        self._error: AutomlSRError | None = None
        self._signs: dict[str, float] = {}
        """When each worker that took a trial was last seen to hold one."""
        self._last = -1
        """The highest number of a trial so far."""
        self._seen: dict[int, Seen] = {}
        self._rungs: set[tuple[int, int]] = set()
        """Trials and rungs that were told."""
        with study.store.reading() as session:
            self._remember_what_is_there(session)

    def _remember_what_is_there(self, session: Session) -> None:
        """Take what a former search has done for known: it is no news."""
        trial = models.Trial
        rung = models.Rung
        last = session.scalar(select(func.max(trial.number)).where(self._own()))
        if last is not None:
            self._last = last
        unfinished = select(trial).where(self._own(), trial.state.in_(UNFINISHED))
        for row in session.scalars(unfinished):
            self._seen[row.number or 0] = Seen(trial_record(row, {}), None)
        rungs = (
            select(trial.number, rung.rung).join(rung, rung.trial_id == trial.id).where(self._own())
        )
        for number, index in session.execute(rungs):
            self._rungs.add((number or 0, index))

    def look(self, names: Mapping[int, str]) -> State:
        """Report what is new; `names` are those of the workers on this machine, by process. Raises
        StoreError.
        """
        self._names = names
        with self._study.store.reading() as session:
            news = self._read(session)
        self._deaths = news.deaths

        # Those that have ended first: a worker takes its next trial after the end of the last one.
        for trial in news.ended:
            self._report_end(trial, news.rungs)
        for seen in news.unfinished:
            self._report(seen, news.rungs)

        # Only now: what was told half-way, because a callback failed, is told again.
        self._seen = {seen.trial.number: seen for seen in news.unfinished}
        ended = [trial.number for trial in news.ended]
        self._last = max([self._last, *self._seen, *ended])
        return self._state()

    def _state(self) -> State:
        study = self._study.store.study(self._study.spec.name)
        budget = self._study.spec.budget
        counts = own_counts(study)
        counted = sum(counts[state] for state in COUNTED)
        spent = budget.trials is not None and counted >= budget.trials
        late = budget.minutes is not None and study.seconds >= 60 * budget.minutes
        over = spent or late
        busy = any(seen.holder for seen in self._seen.values())
        idle = over and not busy
        return State(self._ended, over, idle, self._deaths, self._error, self._stuck())

    def _stuck(self) -> frozenset[int]:
        """Return the processes on this machine that have given no sign for too long."""
        latest = time.monotonic() - self._patience
        stuck = set()
        for name, at in self._signs.items():
            owner = Owner.parse(name)
            if at < latest and owner is not None and owner.is_here:
                stuck.add(owner.pid)
        return frozenset(stuck)

    # Reading

    def _own(self) -> ColumnElement[bool]:
        return models.Trial.study_id == self._study.record.id

    def _read(self, session: Session) -> News:
        """Read what is unfinished, and what has ended since the last look."""
        trial = models.Trial
        unfinished = self._read_unfinished(session)

        # Numbers are given one after the other: what has ended is new, or was seen unfinished.
        new = or_(trial.number > self._last, trial.number.in_(list(self._seen)))
        query = select(trial).where(self._own(), trial.state.not_in(UNFINISHED), new)
        ended = []
        for row in session.scalars(query.order_by(trial.finished)):
            ended.append(trial_record(row, {}))

        numbers = {}
        for seen in unfinished:
            numbers[seen.trial.id] = seen.trial.number
        for record in ended:
            numbers[record.id] = record.number
        rungs = self._read_rungs(session, numbers)

        deaths = select(func.sum(trial.takeovers)).where(self._own(), trial.state.in_(UNFINISHED))
        return News(unfinished, ended, rungs, session.scalar(deaths) or 0)

    def _read_unfinished(self, session: Session) -> list[Seen]:
        trial = models.Trial
        live = (trial.lease_until > now()).label("live")
        query = select(trial, live).where(self._own(), trial.state.in_(UNFINISHED))
        found = []
        for row, lives in session.execute(query.order_by(trial.number)):
            if row.number is not None:
                found.append(self._unfinished(session, row, lives))
        return found

    def _read_rungs(self, session: Session, numbers: Mapping[int, int]) -> Rungs:
        """Read the rungs of trials; `numbers` are theirs by id."""
        rung = models.Rung
        query = select(rung).where(rung.trial_id.in_(list(numbers)))
        found = []
        for row in session.scalars(query.order_by(rung.at)):
            found.append((numbers[row.trial_id], row))
        return found

    def _unfinished(self, session: Session, row: models.Trial, live: bool) -> Seen:
        trial = trial_record(row, {})
        holder = trial.owner
        if holder is None:
            return Seen(trial, None)
        if is_dead(holder) or has_run_out(holder, row.lease_uptime, by_database=not live):
            return Seen(trial, None)
        if trial.plan is None:
            return Seen(trial, holder)

        point = models.CurvePoint
        newest = (
            select(point)
            .where(point.trial_id == trial.id)
            .order_by(point.at.desc(), point.step.desc())
            .limit(1)
        )
        last = session.scalars(newest).one_or_none()
        if last is None:
            return Seen(trial, holder)
        return Seen(trial, holder, self._point(last))

    def _point(self, row: models.CurvePoint) -> Point:
        loss = row.loss
        if loss is None:
            loss = float("nan")  # what is no finite number is stored as nothing
        return Point(
            row.step,
            self._study.setting.steps,
            row.phase,
            loss,
            row.rate or 0.0,
            row.images_per_second or 0.0,
            row.values or {},
        )

    # Telling

    def _report(self, seen: Seen, rungs: Rungs) -> None:
        """Tell what has changed of an unfinished trial."""
        number = seen.trial.number
        before = self._seen.get(number)
        if before is not None and before.holder is not None and seen.holder is None:
            self._report_left(seen, before.holder)
        if seen.holder is None or not seen.begun:
            return

        self._signs[seen.holder] = time.monotonic()
        former = None
        if before is not None and before.begun and before.holder == seen.holder:
            former = before
        if former is None:
            self._callback.started(number, seen.trial.params, resumed=seen.trial.fence > 1)
            self._callback.works(number, self._name(seen.holder))
        stage = seen.trial.stage
        if stage and (former is None or former.trial.stage != stage):
            self._callback.stage(number, stage)
        # A point is told once, also where another worker has taken the trial over meanwhile.
        if seen.point is not None and (before is None or before.point != seen.point):
            self._callback.point(number, seen.point)
        self._report_rungs(number, rungs)

    def _report_left(self, seen: Seen, former: str) -> None:
        """Tell that nobody has a trial any more."""
        self._callback.works(seen.trial.number, "")
        # Who gave it back, or has died, is not stuck; who still stands in the row may be.
        if seen.trial.owner != former or is_dead(former):
            self._signs.pop(former, None)

    def _report_end(self, trial: TrialRecord, rungs: Rungs) -> None:
        before = self._seen.get(trial.number)
        if before is not None and before.holder is not None:
            self._signs.pop(before.holder, None)
        told = before is not None and before.begun
        # One that began and ended between two looks is told as a whole.
        if not told and trial.plan is not None and trial.state != "duplicate":
            self._callback.started(trial.number, trial.params, resumed=trial.fence > 1)
        self._report_rungs(trial.number, rungs)

        result = Result(
            trial.state, trial.values, trial.costs, trial.reason, duplicate_of=trial.duplicate_of
        )
        self._callback.finished(trial.number, result, trial.seconds)
        self._ended += 1
        if trial.state in COUNTED:
            self._error = self._error or self._failures.after(result)

    def _report_rungs(self, number: int, rungs: Rungs) -> None:
        for found, row in rungs:
            if found == number and (number, row.rung) not in self._rungs:
                self._rungs.add((number, row.rung))
                self._callback.rung(number, row.rung, row.values, go_on=row.go_on)

    def _name(self, owner: str) -> str:
        """Name a worker for people: one of ours by its number, others by their machine."""
        known = Owner.parse(owner)
        if known is None:
            return owner
        if not known.is_here:
            return f"{known.host} (pid {known.pid})"
        name = self._names.get(known.pid)
        if name:
            return f"{name} (pid {known.pid})"
        return f"pid {known.pid}"
