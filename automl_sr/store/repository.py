"""The writing half of the repository: every change is one short transaction, every result is fenced."""

from __future__ import annotations

import contextlib
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import CursorResult, case, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from automl_sr.store import models
from automl_sr.store.database import default_url, explained, open_engine
from automl_sr.store.leases import LEASE_SECONDS, RENEW_SECONDS, LeaseLost, is_dead
from automl_sr.store.models import now
from automl_sr.store.reading import Reader
from automl_sr.store.records import COUNTED, UNFINISHED, Claim, PointRecord, Result, StudyRecord, Twin
from automl_sr.store.schema import upgrade

BASELINE_SLOT = "baseline"
IDLE_SECONDS = 4 * RENEW_SECONDS
"""A study that nobody has touched for so long was not being searched."""


class Store(Reader):
    """A store to write to: the queue of trials, their leases and results."""

    @classmethod
    def open(cls, url: str | None = None) -> Store:
        """Open a store, making what is missing. Raises StoreError."""
        url = url or default_url()
        engine = open_engine(url, write=True)
        with explained(url):
            upgrade(engine)
        return cls(url, engine)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """Write in one transaction."""
        with explained(self.url), Session(self.engine) as session, session.begin():
            yield session

    # Studies

    def create_study(self, fields: Mapping[str, Any], baseline: tuple[int, int]) -> StudyRecord:
        """Store a study with its first trial, the baseline: (number, Optuna's id). An existing one is left as it is."""
        with self.writing() as session:
            found = session.scalar(select(models.Study.id).where(models.Study.name == fields["name"]))
            if found is None:
                study = models.Study(**fields)
                session.add(study)
                session.flush()
                slot = f"{BASELINE_SLOT}-{study.id}"
                number, optuna_id = baseline
                session.add(
                    models.Trial(study_id=study.id, slot=slot, state="waiting", number=number, optuna_id=optuna_id)
                )
        return self.study(fields["name"])

    def update_study(self, study: StudyRecord, **fields: Any) -> StudyRecord:
        """Change fields of a study."""
        with self.writing() as session:
            session.execute(update(models.Study).where(models.Study.id == study.id).values(**fields))
        return self.study(study.name)

    def begin_activity(self, study: StudyRecord) -> float:
        """Start the study's clock where no worker is running it; gives the seconds used so far."""
        stale = or_(models.Study.active_at.is_(None), models.Study.active_at < now() - IDLE_SECONDS)
        with self.writing() as session:
            session.execute(update(models.Study).where(models.Study.id == study.id, stale).values(active_at=now()))
            return self._tick(session, study.id)

    def tick(self, study: StudyRecord) -> float:
        """Move the study's clock on; gives the seconds used so far, over all workers and resumes."""
        with self.writing() as session:
            return self._tick(session, study.id)

    def end_activity(self, study: StudyRecord) -> float:
        """Stop the study's clock, unless other workers keep it running."""
        with self.writing() as session:
            seconds = self._tick(session, study.id)
            others = select(func.count()).where(models.Trial.study_id == study.id, models.Trial.owner.is_not(None))
            if not session.scalar(others):
                session.execute(update(models.Study).where(models.Study.id == study.id).values(active_at=None))
            return seconds

    @staticmethod
    def _tick(session: Session, study_id: int) -> float:
        passed = case((models.Study.active_at < now(), now() - models.Study.active_at), else_=0.0)
        session.execute(
            update(models.Study)
            .where(models.Study.id == study_id)
            .values(seconds=models.Study.seconds + func.coalesce(passed, 0.0), active_at=now())
        )
        return session.scalar(select(models.Study.seconds).where(models.Study.id == study_id)) or 0.0

    def note(self, study: StudyRecord, kind: str, text: str, claim: Claim | None = None) -> None:
        """Keep an event."""
        with self.writing() as session:
            _event(session, study.id, claim.trial_id if claim else None, kind, text)

    # The queue

    def claim_new(self, study: StudyRecord, owner: str, limit: int | None) -> Claim | None:
        """Take a slot of the budget for a new trial, or nothing where all are taken."""
        with self.writing() as session:
            session.execute(select(models.Study.id).where(models.Study.id == study.id).with_for_update())
            taken = select(func.count()).where(
                models.Trial.study_id == study.id, models.Trial.state.in_([*COUNTED, *UNFINISHED])
            )
            if limit is not None and (session.scalar(taken) or 0) >= limit:
                return None
            values = {"study_id": study.id, "slot": uuid.uuid4().hex, "state": "running", "owner": owner, "fence": 1}
            statement = insert(models.Trial).values(
                **values, lease_until=now() + LEASE_SECONDS, started=now(), created=now(), seconds=0.0
            )
            trial_id = session.scalar(statement.returning(models.Trial.id))
        return Claim(trial_id or 0, study.id, str(values["slot"]), owner, 1)

    def adopt(self, study: StudyRecord, owner: str) -> Claim | None:
        """Take over a trial that waits, was released, or whose worker has died; the oldest first."""
        trial = models.Trial
        query = select(trial, (func.coalesce(trial.lease_until, 0.0) < now()).label("expired")).where(
            trial.study_id == study.id, trial.state.in_(UNFINISHED)
        )
        with self.writing() as session:
            for row, expired in session.execute(query.order_by(trial.id)):
                if row.state == "waiting" and _original_runs(session, row):
                    continue
                if row.owner is None or expired or is_dead(row.owner):
                    claim = _take(session, row, owner)
                    if claim is not None:
                        return claim
        return None

    def renew(self, claim: Claim, seconds: float) -> bool:
        """Extend a lease; False where another owner has taken the trial over."""
        with self.writing() as session:
            changed = _fenced(session, claim, lease_until=now() + LEASE_SECONDS, seconds=seconds)
            self._tick(session, claim.study_id)
        return changed

    def release(self, claim: Claim, seconds: float, *, waiting_for: int | None = None) -> None:
        """Give a trial back so that any worker may go on with it, at once or when another trial has ended."""
        state = "running" if waiting_for is None else "waiting"
        with self.writing() as session:
            fields = {"owner": None, "lease_until": None, "seconds": seconds, "duplicate_of": waiting_for}
            _fenced(session, claim, state=state, **fields)

    def freeze(
        self, claim: Claim, number: int, optuna_id: int, plan: Mapping[str, Any] | None, fingerprint: str | None
    ) -> Twin | None:
        """Write down what the trial does, once; gives an earlier trial that does the same, if there is one.

        Raises LeaseLost.
        """
        with self.writing() as session:
            fields: dict[str, Any] = {"number": number, "optuna_id": optuna_id}
            if claim.plan is None:
                fields |= {"plan": plan, "fingerprint": fingerprint}
            if not _fenced(session, claim, **fields):
                raise _lost(claim)
            if fingerprint is None:
                return None
            trial = models.Trial
            query = select(trial).where(
                trial.study_id == claim.study_id,
                trial.fingerprint == fingerprint,
                trial.id != claim.trial_id,
                trial.state.in_(["complete", "pruned", "running"]),
            )
            rows = list(session.scalars(query.order_by(trial.number)))
            done = [row for row in rows if row.state != "running"]
            earlier = [row for row in rows if row.state == "running" and row.id < claim.trial_id]
            found = next(iter(done or earlier), None)
            return None if found is None else Twin(found.number or 0, found.state, found.values or {})

    # What a trial reports

    def stage(self, claim: Claim, stage: str, seconds: float) -> None:
        """Write down where a trial is. Raises LeaseLost."""
        with self.writing() as session:
            if not _fenced(session, claim, stage=stage, seconds=seconds):
                raise _lost(claim)

    def points(self, claim: Claim, points: Sequence[PointRecord]) -> None:
        """Add points to the learning curve; the same point again replaces the former one. Raises LeaseLost."""
        point = models.CurvePoint
        with self.writing() as session:
            if not _holds(session, claim):
                raise _lost(claim)
            for item in points:
                same = (point.trial_id == claim.trial_id, point.phase == item.phase, point.step == item.step)
                session.execute(delete(point).where(*same))
            rows = [
                {
                    "trial_id": claim.trial_id,
                    "phase": item.phase,
                    "step": item.step,
                    "loss": finite(item.loss),
                    "rate": finite(item.rate),
                    "images_per_second": finite(item.images_per_second),
                    "values": dict(item.values) or None,
                }
                for item in {(item.phase, item.step): item for item in points}.values()
            ]
            if rows:
                session.execute(insert(point), rows)

    def judge(
        self,
        claim: Claim,
        rung: int,
        step: int,
        values: Mapping[str, float],
        decide: Callable[[list[Mapping[str, float]]], bool],
    ) -> bool:
        """Write a trial's values at a rung and whether it goes on, in one transaction; a takeover reads the answer.

        `decide` gets the values of all other trials at this rung. Raises LeaseLost.
        """
        rows = models.Rung
        with self.writing() as session:
            session.execute(select(models.Study.id).where(models.Study.id == claim.study_id).with_for_update())
            if not _holds(session, claim):
                raise _lost(claim)
            known = session.get(rows, (claim.trial_id, rung))
            if known is not None:
                return known.go_on
            query = select(rows.values).where(rows.study_id == claim.study_id, rows.rung == rung)
            go_on = decide(list(session.scalars(query.order_by(rows.trial_id))))
            row = {"trial_id": claim.trial_id, "rung": rung, "study_id": claim.study_id, "step": step}
            session.execute(insert(rows).values(**row, values=dict(values), go_on=go_on, at=now()))
            return go_on

    def finish(self, claim: Claim, result: Result, seconds: float) -> None:
        """Write the result of a trial: the authoritative row. Raises LeaseLost where the trial was taken over."""
        with self.writing() as session:
            written = _fenced(
                session,
                claim,
                state=result.state,
                values=dict(result.values) or None,
                costs=dict(result.costs) or None,
                reason=result.reason,
                stage_seconds=dict(result.stage_seconds) or None,
                duplicate_of=result.duplicate_of,
                seconds=seconds,
                stage=None,
                owner=None,
                lease_until=None,
                finished=now(),
            )
            if not written:
                raise _lost(claim)
            session.execute(delete(models.Artifact).where(models.Artifact.trial_id == claim.trial_id))
            files = [
                {"trial_id": claim.trial_id, "kind": f.kind, "url": f.url, "sha256": f.sha256, "bytes": f.bytes}
                for f in result.artifacts
            ]
            if files:
                session.execute(insert(models.Artifact), files)
            if result.detail:
                _event(session, claim.study_id, claim.trial_id, result.state, result.detail)

    def twin(self, claim: Claim, number: int) -> Twin | None:
        """Give a trial of the same study."""
        trial = models.Trial
        with self.reading() as session:
            query = select(trial).where(trial.study_id == claim.study_id, trial.number == number)
            row = session.scalars(query).one_or_none()
            return None if row is None else Twin(number, row.state, row.values or {})


def finite(value: float | None) -> float | None:
    """Keep what a number column of every database can hold."""
    return value if value is not None and math.isfinite(value) else None


def _fenced(session: Session, claim: Claim, **fields: Any) -> bool:
    """Change a trial's row if the claim still holds it."""
    trial = models.Trial
    held = (trial.id == claim.trial_id, trial.fence == claim.fence, trial.state.in_(UNFINISHED))
    result: CursorResult[Any] = session.execute(update(trial).where(*held).values(**fields))  # type: ignore[assignment]
    return result.rowcount == 1


def _holds(session: Session, claim: Claim) -> bool:
    held = select(models.Trial.id).where(
        models.Trial.id == claim.trial_id, models.Trial.fence == claim.fence, models.Trial.state == "running"
    )
    return session.scalar(held.with_for_update()) is not None


def _take(session: Session, row: models.Trial, owner: str) -> Claim | None:
    trial, fence = models.Trial, row.fence + 1
    result: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        update(trial)
        .where(trial.id == row.id, trial.fence == row.fence, trial.state.in_(UNFINISHED))
        .values(
            owner=owner,
            fence=fence,
            state="running",
            lease_until=now() + LEASE_SECONDS,
            started=func.coalesce(trial.started, now()),
        )
        .execution_options(synchronize_session=False)
    )
    if result.rowcount != 1:
        return None
    begun = row.started is not None
    if begun:
        _event(session, row.study_id, row.id, "taken over", f"{owner} goes on after {row.owner or 'a pause'}")
    return Claim(
        row.id, row.study_id, row.slot, owner, fence, row.number, row.optuna_id, row.plan, row.seconds, adopted=begun
    )


def _original_runs(session: Session, row: models.Trial) -> bool:
    if row.duplicate_of is None:
        return False
    trial = models.Trial
    query = select(trial.state).where(trial.study_id == row.study_id, trial.number == row.duplicate_of)
    return session.scalar(query) in UNFINISHED


def _event(session: Session, study_id: int, trial_id: int | None, kind: str, text: str) -> None:
    values = {"study_id": study_id, "trial_id": trial_id, "kind": kind, "text": text.replace("\x00", "")}
    session.execute(insert(models.Event).values(**values, at=now()))


def _lost(claim: Claim) -> LeaseLost:
    number = "a trial" if claim.number is None else f"trial {claim.number}"
    return LeaseLost(f"Another worker has taken {number} over.", "It goes on there; nothing is lost.")
