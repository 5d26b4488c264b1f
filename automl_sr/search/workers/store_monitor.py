"""What all workers of a study do, wherever they run, as the store tells it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from automl_sr.search.results import own_counts
from automl_sr.search.workers.callbacks import SearchCallback
from automl_sr.search.workers.supervisor import State
from automl_sr.search.workers.worker import FailuresInARow
from automl_sr.store import models
from automl_sr.store.leases import has_run_out, is_dead, node
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


@dataclass(frozen=True)
class News:
    """What one transaction reads."""

    unfinished: list[Seen]
    ended: list[TrialRecord]
    rungs: list[tuple[int, models.Rung]]
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
        with study.store.reading() as session:  # what is there already is no news
            own = models.Trial.study_id == study.record.id
            last = session.scalar(select(func.max(models.Trial.number)).where(own))
            self._last = -1 if last is None else last
            rows = session.scalars(
                select(models.Trial).where(own, models.Trial.state.in_(UNFINISHED))
            )
            self._seen = {row.number or 0: Seen(trial_record(row, {}), None) for row in rows}
            rung = models.Rung
            rungs = (
                select(models.Trial.number, rung.rung)
                .join(rung, rung.trial_id == models.Trial.id)
                .where(own)
            )
            self._rungs = {(number or 0, rung) for number, rung in session.execute(rungs)}

    def look(self, names: Mapping[int, str]) -> State:
        """Report what is new; `names` are those of the workers on this machine, by process. Raises
        StoreError.
        """
        self._names = names
        with self._study.store.reading() as session:
            news = self._read(session)
        self._deaths = news.deaths
        for trial in news.ended:
            self._report_end(trial, news.rungs)
        for seen in news.unfinished:
            self._report(seen, news.rungs)
        self._seen = {seen.trial.number: seen for seen in news.unfinished}
        self._last = max([self._last, *self._seen, *(trial.number for trial in news.ended)])
        return self._state()

    def _state(self) -> State:
        study = self._study.store.study(self._study.spec.name)
        budget = self._study.spec.budget
        counted = sum(own_counts(study)[state] for state in COUNTED)
        spent = budget.trials is not None and counted >= budget.trials
        over = spent or (budget.minutes is not None and study.seconds >= 60 * budget.minutes)
        idle = over and not any(seen.holder for seen in self._seen.values())
        late = time.monotonic() - self._patience
        stuck = set()
        for owner, at in self._signs.items():
            if at < late and _place(owner)[0] == node():
                stuck.add(_place(owner)[1])
        return State(self._ended, over, idle, self._deaths, self._error, frozenset(stuck))

    # Reading

    def _read(self, session: Session) -> News:
        """Read what is unfinished, and what has ended since the last look; numbers are given one
        after the other.
        """
        trial = models.Trial
        own, live = (
            trial.study_id == self._study.record.id,
            (trial.lease_until > now()).label("live"),
        )
        running = session.execute(
            select(trial, live).where(own, trial.state.in_(UNFINISHED)).order_by(trial.number)
        )
        unfinished = [
            self._unfinished(session, row, live) for row, live in running if row.number is not None
        ]
        new = or_(trial.number > self._last, trial.number.in_(list(self._seen)))
        rows = session.scalars(
            select(trial).where(own, _ended_states(), new).order_by(trial.finished)
        )
        ended = [trial_record(row, {}) for row in rows]
        ids = {}
        for item in [*(seen.trial for seen in unfinished), *ended]:
            ids[item.id] = item.number
        rungs = (
            select(models.Rung).where(models.Rung.trial_id.in_(list(ids))).order_by(models.Rung.at)
        )
        deaths = (
            session.scalar(
                select(func.sum(trial.takeovers)).where(own, trial.state.in_(UNFINISHED))
            )
            or 0
        )
        return News(
            unfinished, ended, [(ids[row.trial_id], row) for row in session.scalars(rungs)], deaths
        )

    def _unfinished(self, session: Session, row: models.Trial, live: bool) -> Seen:
        trial = trial_record(row, {})
        alive = trial.owner is not None and not (
            is_dead(trial.owner) or has_run_out(trial.owner, row.lease_uptime, by_database=not live)
        )
        if not alive or trial.plan is None:
            return Seen(trial, trial.owner if alive else None)
        point = models.CurvePoint
        query = (
            select(point)
            .where(point.trial_id == trial.id)
            .order_by(point.at.desc(), point.step.desc())
            .limit(1)
        )
        last = session.scalars(query).one_or_none()
        return Seen(trial, trial.owner, None if last is None else self._point(last))

    def _point(self, row: models.CurvePoint) -> Point:
        return Point(
            row.step,
            self._study.setting.steps,
            row.phase,
            row.loss if row.loss is not None else float("nan"),
            row.rate or 0.0,
            row.images_per_second or 0.0,
            row.values or {},
        )

    # Telling

    def _report(self, seen: Seen, rungs: list[tuple[int, models.Rung]]) -> None:
        """Tell what has changed of an unfinished trial."""
        number, before = seen.trial.number, self._seen.get(seen.trial.number)
        former = None
        if before:
            former = before.holder
        if former is not None and seen.holder is None:
            self._callback.works(number, "")
            if seen.trial.owner != former or is_dead(former):
                self._signs.pop(former, None)
        if seen.holder is None or seen.trial.plan is None:
            return
        self._signs[seen.holder] = time.monotonic()
        taken = before is None or before.holder != seen.holder or before.trial.plan is None
        if taken:
            self._callback.started(number, seen.trial.params, resumed=seen.trial.fence > 1)
            self._callback.works(number, self._name(seen.holder))
        if seen.trial.stage and (taken or before is None or before.trial.stage != seen.trial.stage):
            self._callback.stage(number, seen.trial.stage)
        if seen.point is not None and (before is None or before.point != seen.point):
            self._callback.point(number, seen.point)
        self._report_rungs(number, rungs)

    def _report_end(self, trial: TrialRecord, rungs: list[tuple[int, models.Rung]]) -> None:
        before = self._seen.get(trial.number)
        if before is not None and before.holder is not None:
            self._signs.pop(before.holder, None)
        begun = before is not None and before.holder is not None and before.trial.plan is not None
        if not begun and trial.plan is not None and trial.state != "duplicate":
            self._callback.started(trial.number, trial.params, resumed=trial.fence > 1)
        self._report_rungs(trial.number, rungs)
        result = Result(
            trial.state, trial.values, trial.costs, trial.reason, duplicate_of=trial.duplicate_of
        )
        self._callback.finished(trial.number, result, trial.seconds)
        self._ended += 1
        if trial.state in COUNTED:
            self._error = self._error or self._failures.after(result)

    def _report_rungs(self, number: int, rungs: list[tuple[int, models.Rung]]) -> None:
        for found, row in rungs:
            if found == number and (number, row.rung) not in self._rungs:
                self._rungs.add((number, row.rung))
                self._callback.rung(number, row.rung, row.values, go_on=row.go_on)

    def _name(self, owner: str) -> str:
        """Name a worker for people: one of ours by its number, others by their machine."""
        where, pid = _place(owner)
        if where == node():
            name = self._names.get(pid)
            if name:
                return f"{name} (pid {pid})"
            return f"pid {pid}"
        return f"{where.split('.')[0]} (pid {pid})"


def _ended_states() -> ColumnElement[bool]:
    return models.Trial.state.not_in(UNFINISHED)


def _place(owner: str) -> tuple[str, int]:
    """Return the machine and the process of an owner, `machine:pid:uuid`."""
    where, _, pid = owner.rpartition(":")[0].rpartition(":")
    return where, int(pid) if pid.isdigit() else -1
