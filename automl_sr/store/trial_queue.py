"""Who works on which trial: new ones within the budget, and those that others have left behind."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from sqlalchemy import CursorResult, Select, func, insert, or_, select, update
from sqlalchemy.orm import Session

from automl_sr.store import models
from automl_sr.store.fence import change_held
from automl_sr.store.leases import GIVEN_BACK, has_run_out, held_for, is_dead, is_lost
from automl_sr.store.models import now
from automl_sr.store.records import COUNTED, UNFINISHED, Claim, StudyRecord
from automl_sr.store.study_clock import move_on
from automl_sr.store.writer import Writer, add_event, lock_study, transaction


class TrialQueue(Writer):
    """Gives trials to workers, and takes them back."""

    def claim_new(self, study: StudyRecord, owner: str, limit: int | None) -> Claim | None:
        """Take a place of the budget for a new trial, or nothing where all are taken.

        Nothing is given either while as many trials wait for equal ones as there are running: the
        sampler has nothing new to propose until those have ended.
        """
        # The key is drawn here, outside of the transaction, so that one which is done again
        # recognises what it wrote.
        return self._claim_new(study, owner, limit, uuid.uuid4().hex)

    @transaction
    def _claim_new(
        self, session: Session, study: StudyRecord, owner: str, limit: int | None, key: str
    ) -> Claim | None:
        trial = models.Trial
        lock_study(session, study.id)
        same_key = select(trial.id, trial.number).where(trial.key == key)
        known = session.execute(same_key).one_or_none()
        if known is not None:  # this very claim was committed when the connection got lost
            trial_id, number = known
            return Claim(trial_id, study.id, key, owner, 1, number or 0)

        if limit is not None and _taken(session, study.id) >= limit:
            return None
        waiting = _waiting_for_equals(session, study.id)
        if waiting > 0 and waiting >= _running(session, study.id):
            return None

        number = _next_number(session, study.id)
        values = {
            "study_id": study.id,
            "key": key,
            "number": number,
            "state": "running",
            "owner": owner,
            "fence": 1,
        }
        statement = insert(trial).values(
            **values, **held_for(self.lease), started=now(), created=now(), seconds=0.0
        )
        made = session.scalar(statement.returning(trial.id))
        return Claim(made or 0, study.id, key, owner, 1, number)

    def take_over(self, study: StudyRecord, owner: str) -> Claim | None:
        """Take over a trial that waits, was released, or whose worker has died; the oldest
        first.
        """
        # Most of the time there is none, and no lock is needed to see that.
        with self.reading() as session:
            if next(_left_behind(session, study.id, owner), None) is None:
                return None
        return self._adopt(study, owner)

    @transaction
    def _adopt(self, session: Session, study: StudyRecord, owner: str) -> Claim | None:
        for row in _left_behind(session, study.id, owner):
            claim = self._take(session, row, owner)
            if claim is not None:
                return claim
        return None

    def _take(self, session: Session, row: models.Trial, owner: str) -> Claim | None:
        """Take one trial, unless somebody was faster."""
        trial = models.Trial
        fence = row.fence + 1
        died = row.owner is not None and is_lost(row.owner)
        # A lease that was renewed since the row was read is no longer anybody else's.
        unchanged = or_(trial.lease_until.is_(None), trial.lease_until == row.lease_until)
        as_read = (
            trial.id == row.id,
            trial.fence == row.fence,
            trial.state.in_(UNFINISHED),
            unchanged,
        )
        taken = {
            "owner": owner,
            "fence": fence,
            "state": "running",
            "started": func.coalesce(trial.started, now()),
            "takeovers": trial.takeovers + int(died),
            **held_for(self.lease),
        }
        statement = (
            update(trial)
            .where(*as_read)
            .values(**taken)
            .execution_options(synchronize_session=False)
        )
        result: CursorResult[Any] = session.execute(statement)  # type: ignore[assignment]
        if result.rowcount != 1:
            return None

        begun = row.started is not None
        if begun:
            text = f"{owner} goes on after {row.owner or 'a pause'}"
            add_event(session, row.study_id, row.id, "taken over", text)
        return Claim(
            row.id,
            row.study_id,
            row.key,
            owner,
            fence,
            row.number or 0,
            plan=row.plan,
            asked=row.asked,
            seconds=row.seconds,
            taken_over=begun,
            takeovers=row.takeovers + int(died),
            stage=row.stage,
            kept=row.kept,
        )

    def renew(self, claim: Claim, seconds: float) -> bool:
        """Extend a lease; False where another owner has taken the trial over.

        Asks a silent database only once: the heartbeat asks again by itself.
        """
        with self.writing() as session:
            # Studies are locked before trials, everywhere: two orders would be a deadlock.
            move_on(session, claim.study_id, self.lease)
            return change_held(session, claim, **held_for(self.lease), seconds=seconds)

    @transaction
    def release(
        self, session: Session, claim: Claim, seconds: float, *, waiting_for: int | None = None
    ) -> None:
        """Release a trial so that any worker may go on with it, at once or when another trial has
        ended.
        """
        state = "waiting"
        if waiting_for is None:
            state = "running"
        fields = {**GIVEN_BACK, "seconds": seconds, "duplicate_of": waiting_for}
        change_held(session, claim, state=state, **fields)

    def unfinished(self, study: StudyRecord) -> int:
        """Count the trials that are running or waiting, with whichever worker."""
        query = _counting(study.id).where(models.Trial.state.in_(UNFINISHED))
        with self.reading() as session:
            return session.scalar(query) or 0

    def budget(self, study: StudyRecord) -> dict[str, Any]:
        """Return the study's budget as it is now: a resume may have raised it since."""
        query = select(models.Study.spec).where(models.Study.id == study.id)
        with self.reading() as session:
            spec = session.scalar(query)
        if spec:
            return dict(spec["budget"])
        return {}

    def usual_seconds(self, study: StudyRecord) -> list[float]:
        """Return how long each trial took that left a model."""
        query = select(models.Trial.seconds).where(
            models.Trial.study_id == study.id, models.Trial.state.in_(["complete", "pruned"])
        )
        with self.reading() as session:
            return list(session.scalars(query))


def _counting(study_id: int) -> Select[int]:
    return select(func.count()).where(models.Trial.study_id == study_id)


def _taken(session: Session, study_id: int) -> int:
    """Count the places of the budget that are taken; imported trials take none."""
    trial = models.Trial
    query = _counting(study_id).where(
        trial.state.in_([*COUNTED, *UNFINISHED]), trial.origin.is_(None)
    )
    return session.scalar(query) or 0


def _waiting_for_equals(session: Session, study_id: int) -> int:
    """Count the trials that wait until an equal one has ended."""
    trial = models.Trial
    repeats = (trial.state == "waiting", trial.duplicate_of.is_not(None))
    query = _counting(study_id).where(*repeats)
    return session.scalar(query) or 0


def _running(session: Session, study_id: int) -> int:
    query = _counting(study_id).where(models.Trial.state == "running")
    return session.scalar(query) or 0


def _next_number(session: Session, study_id: int) -> int:
    """Return the number of the next trial; the study is locked, so nobody else gets the same."""
    trial = models.Trial
    query = select(func.max(trial.number)).where(trial.study_id == study_id)
    last = session.scalar(query)
    if last is None:
        return 0
    return last + 1


def _left_behind(session: Session, study_id: int, owner: str) -> Iterator[models.Trial]:
    """Go through the trials that nobody works on any more; `owner` asks because it works on
    none.
    """
    trial = models.Trial
    expired = (func.coalesce(trial.lease_until, 0.0) < now()).label("expired")
    unfinished = (trial.study_id == study_id, trial.state.in_(UNFINISHED))
    query = select(trial, expired).where(*unfinished)
    for row, late in session.execute(query.order_by(trial.id)):
        if row.state == "waiting" and _original_runs(session, row):
            continue
        if row.owner is None or row.owner == owner or _has_left(row.owner, row, late):
            yield row


def _has_left(holder: str, row: models.Trial, expired: bool) -> bool:
    return is_dead(holder) or has_run_out(holder, row.lease_uptime, by_database=expired)


def _original_runs(session: Session, row: models.Trial) -> bool:
    """Return whether the trial that this one repeats has not ended."""
    if row.duplicate_of is None:
        return False
    trial = models.Trial
    query = select(trial.state).where(
        trial.study_id == row.study_id, trial.number == row.duplicate_of
    )
    return session.scalar(query) in UNFINISHED
