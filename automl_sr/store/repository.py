"""The writing half of the repository: every change is one short transaction, every result is
fenced.
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Engine,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from automl_sr.errors import StoreError, StoreUnreachableError
from automl_sr.store import models
from automl_sr.store.database import default_url, explained, open_engine, sqlite_file
from automl_sr.store.encoding import finite_only, storable_text
from automl_sr.store.leases import (
    GIVEN_BACK,
    RENEWALS,
    LeaseLostError,
    has_run_out,
    held_for,
    is_dead,
    is_lost,
    lease_seconds,
    node,
    uptime,
)
from automl_sr.store.models import now
from automl_sr.store.reading import Reader
from automl_sr.store.records import (
    COUNTED,
    UNFINISHED,
    Claim,
    DuplicateOf,
    PointRecord,
    Result,
    RungVerdict,
    StudyRecord,
)
from automl_sr.store.schema import upgrade

PATIENCE_SECONDS = 60.0
"""So long a database that restarts, or a lost connection, is waited for."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
_chance = random.Random()  # each process its own: the common one is seeded for trials

P = ParamSpec("P")
T = TypeVar("T")


def retry(work: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Do something with a database, again and again with growing pauses where it does not answer.

    `work` is also done again where its outcome got lost. Raises StoreUnreachableError when the
    patience is at its end.
    """
    end, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return work()
        except StoreUnreachableError:
            if time.monotonic() + pause > end:
                raise
        time.sleep(
            pause * _chance.uniform(0.5, 1.0)
        )  # so that workers do not all come back at the same moment
        pause = min(2 * pause, LONGEST_PAUSE)


def transaction(
    method: Callable[Concatenate[Store, Session, P], T],
) -> Callable[Concatenate[Store, P], T]:
    """Run a method in one transaction, and again where the connection was lost.

    Whether the lost one was committed is not known, so what such a method does twice must be as if
    it did it once.
    """

    @functools.wraps(method)
    def called(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def once() -> T:
            with store.writing() as session:
                return method(store, session, *args, **kwargs)

        return store.retry(once)

    return called


class Store(Reader):
    """A store to write to: the queue of trials, their leases and results."""

    lease: float
    """Seconds for which a worker that is not heard of keeps its trial."""
    patience: float
    """Seconds for which a database that does not answer is waited for."""
    _file: tuple[int, int] | None = None
    """Which file this is, where it is one: SQLite would go on writing to one that was removed."""

    @classmethod
    def open(cls, url: str | None = None) -> Store:
        """Open a store, making what is missing. Raises StoreError."""
        url = url or default_url()
        lease = lease_seconds()
        engine = open_engine(url, write=True)
        with explained(url):
            upgrade(engine)
        store = cls(url, engine)
        store.lease, store.patience = lease, PATIENCE_SECONDS
        store._file = _identity(engine)
        return store

    @property
    def renewal(self) -> float:
        """Seconds after which a lease is renewed."""
        return self.lease / RENEWALS

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """Write in one transaction."""
        if self._file is not None and self._file != _identity(self.engine):
            raise StoreError(
                f"{self.name} was removed or replaced while it was in use; what it held is lost.",
                "Put a copy of it back, if there is one.",
            )
        with explained(self.url), Session(self.engine) as session, session.begin():
            yield session

    def retry(self, work: Callable[[], T]) -> T:
        """Do something with the database as `retry` does, for as long as this store's patience
        lasts.
        """
        return retry(work, self.patience)

    # Studies

    @transaction
    def create_study(self, session: Session, fields: Mapping[str, Any]) -> None:
        """Store a study with its first trial, the baseline, which waits.

        An existing one is left as it is.
        """
        if (
            session.scalar(select(models.Study.id).where(models.Study.name == fields["name"]))
            is None
        ):
            study = models.Study(**fields)
            session.add(study)
            session.flush()
            session.add(
                models.Trial(
                    study_id=study.id, key=uuid.uuid4().hex, state="waiting", number=0, fence=0
                )
            )

    @transaction
    def update_study(self, session: Session, study: StudyRecord, fields: Mapping[str, Any]) -> None:
        """Change fields of a study."""
        session.execute(
            update(models.Study).where(models.Study.id == study.id).values(dict(fields))
        )

    @transaction
    def settle_environment(
        self, session: Session, study: StudyRecord, name: str, value: str
    ) -> None:
        """Write an entry into a study's environment, unless somebody was first: that one stays."""
        lock_study(session, study.id)
        own = models.Study.id == study.id
        environment = session.scalar(select(models.Study.environment).where(own)) or {}
        if name not in environment:
            session.execute(
                update(models.Study).where(own).values(environment={**environment, name: value})
            )

    @transaction
    def begin_activity(self, session: Session, study: StudyRecord) -> float:
        """Start the study's clock where no worker is running it; gives the seconds used so far."""
        # A study that nobody has touched for so long was not being searched.
        stale = or_(models.Study.active_at.is_(None), _gap() > 4 * self.renewal)
        session.execute(
            update(models.Study).where(models.Study.id == study.id, stale).values(**_touched())
        )
        return self._tick(session, study.id)

    def tick(self, study: StudyRecord) -> float:
        """Move the study's clock on; gives the seconds used so far, over all workers and
        resumes.
        """
        with self.writing() as session:
            return self._tick(session, study.id)

    @transaction
    def end_activity(self, session: Session, study: StudyRecord) -> float:
        """Stop the study's clock, unless other workers keep it running."""
        seconds = self._tick(session, study.id)
        others = select(func.count()).where(
            models.Trial.study_id == study.id, models.Trial.owner.is_not(None)
        )
        if not session.scalar(others):
            session.execute(
                update(models.Study).where(models.Study.id == study.id).values(active_at=None)
            )
        return seconds

    def _tick(self, session: Session, study_id: int) -> float:
        # A gap that is longer than a lease is no search: the machine slept, or the worker was
        # suspended.
        gap = _gap()
        passed = case((gap > self.lease, 0.0), (gap > 0.0, gap), else_=0.0)
        session.execute(
            update(models.Study)
            .where(models.Study.id == study_id)
            .values(seconds=models.Study.seconds + passed, **_touched())
        )
        return (
            session.scalar(select(models.Study.seconds).where(models.Study.id == study_id)) or 0.0
        )

    @transaction
    def note(
        self, session: Session, study: StudyRecord, kind: str, text: str, claim: Claim | None = None
    ) -> None:
        """Keep an event."""
        _event(session, study.id, claim.trial_id if claim else None, kind, text)

    @transaction
    def forget_artifacts(
        self, session: Session, study: StudyRecord, trial_ids: Iterable[int]
    ) -> None:
        """Forget the files of trials, before they are removed; a study that is importing them is
        waited for.
        """
        lock_study(session, study.id)
        file = models.Artifact
        own = select(models.Trial.id).where(
            models.Trial.study_id == study.id, models.Trial.id.in_(list(trial_ids))
        )
        for trial_id in session.scalars(
            select(file.trial_id).where(file.trial_id.in_(own)).distinct()
        ).all():
            _event(
                session,
                study.id,
                trial_id,
                "files removed",
                "nothing needed them: the trial is not in the front",
            )
        session.execute(delete(file).where(file.trial_id.in_(own)))

    # The queue

    def claim_new(self, study: StudyRecord, owner: str, limit: int | None) -> Claim | None:
        """Take a place of the budget for a new trial, or nothing where all are taken.

        Nothing is given either while as many trials wait for equal ones as there are running: the
        sampler has nothing new to propose until those have ended.
        """
        return self._claim_new(study, owner, limit, uuid.uuid4().hex)

    @transaction
    def _claim_new(
        self, session: Session, study: StudyRecord, owner: str, limit: int | None, key: str
    ) -> Claim | None:
        trial = models.Trial
        lock_study(session, study.id)
        known = session.execute(
            select(trial.id, trial.number).where(trial.key == key)
        ).one_or_none()
        if known is not None:  # this very claim was committed when the connection got lost
            return Claim(known[0], study.id, key, owner, 1, known[1] or 0)
        own = trial.study_id == study.id
        taken = select(func.count()).where(
            own, trial.state.in_([*COUNTED, *UNFINISHED]), trial.origin.is_(None)
        )
        if limit is not None and (session.scalar(taken) or 0) >= limit:
            return None
        repeats = select(func.count()).where(
            own, trial.state == "waiting", trial.duplicate_of.is_not(None)
        )
        running = select(func.count()).where(own, trial.state == "running")
        if 0 < (session.scalar(repeats) or 0) >= (session.scalar(running) or 0):
            return None
        last = session.scalar(select(func.max(trial.number)).where(own))
        number = 0
        if last is not None:
            number = last + 1
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
        trial_id = session.scalar(statement.returning(trial.id))
        return Claim(trial_id or 0, study.id, key, owner, 1, number)

    def take_over(self, study: StudyRecord, owner: str) -> Claim | None:
        """Take over a trial that waits, was released, or whose worker has died; the oldest
        first.
        """
        with (
            self.reading() as session
        ):  # most of the time there is none, and no lock is needed to see that
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
        trial, fence = models.Trial, row.fence + 1
        died = row.owner is not None and is_lost(row.owner)
        # A lease that was renewed since the row was read is no longer anybody else's.
        unchanged = or_(trial.lease_until.is_(None), trial.lease_until == row.lease_until)
        result: CursorResult[Any] = session.execute(  # type: ignore[assignment]
            update(trial)
            .where(
                trial.id == row.id, trial.fence == row.fence, trial.state.in_(UNFINISHED), unchanged
            )
            .values(
                owner=owner,
                fence=fence,
                state="running",
                **held_for(self.lease),
                started=func.coalesce(trial.started, now()),
                takeovers=trial.takeovers + int(died),
            )
            .execution_options(synchronize_session=False)
        )
        if result.rowcount != 1:
            return None
        begun = row.started is not None
        if begun:
            _event(
                session,
                row.study_id,
                row.id,
                "taken over",
                f"{owner} goes on after {row.owner or 'a pause'}",
            )
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
        """Extend a lease; False where another owner has taken the trial over. Asks a silent
        database only once.
        """
        with self.writing() as session:
            self._tick(session, claim.study_id)  # studies are locked before trials, everywhere
            return _fenced(session, claim, **held_for(self.lease), seconds=seconds)

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
        _fenced(session, claim, state=state, **fields)

    @transaction
    def freeze(
        self,
        session: Session,
        claim: Claim,
        plan: Mapping[str, Any] | None,
        fingerprint: str | None,
        asked: Mapping[str, Any] | None,
    ) -> DuplicateOf | None:
        """Write down what the trial does, once; gives an earlier trial that does the same, if there
        is one.

        Raises LeaseLostError.
        """
        if fingerprint is not None:
            lock_study(
                session, claim.study_id
            )  # of two equal plans that are frozen at once, one has to see the other
        if claim.plan is None:
            fields = {"plan": plan, "fingerprint": fingerprint, "asked": asked}
        else:
            fields = {}
        if not (_fenced(session, claim, **fields) if fields else _holds(session, claim)):
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
        done = []
        for row in rows:
            if row.state != "running":
                done.append(row)
        earlier = []
        for row in rows:
            if row.state == "running" and row.id < claim.trial_id:
                earlier.append(row)
        found = next(iter(done or earlier), None)
        if found is None:
            return None
        return DuplicateOf(found.number or 0, found.state, found.values or {})

    def unfinished(self, study: StudyRecord) -> int:
        """Count the trials that are running or waiting, with whichever worker."""
        query = select(func.count()).where(
            models.Trial.study_id == study.id, models.Trial.state.in_(UNFINISHED)
        )
        with self.reading() as session:
            return session.scalar(query) or 0

    def budget(self, study: StudyRecord) -> dict[str, Any]:
        """Return the study's budget as it is now: a resume may have raised it since."""
        with self.reading() as session:
            spec = session.scalar(select(models.Study.spec).where(models.Study.id == study.id))
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

    # What a trial reports

    @transaction
    def stage(self, session: Session, claim: Claim, stage: str, seconds: float) -> None:
        """Write down where a trial is. Raises LeaseLostError."""
        if not _fenced(session, claim, stage=stage, seconds=seconds):
            raise _lost(claim)

    @transaction
    def keep(self, session: Session, claim: Claim, kept: Mapping[str, Any]) -> None:
        """Write down which checkpoints lie in the remote artifact location.

        Raises LeaseLostError.
        """
        if not _fenced(session, claim, kept=dict(kept)):
            raise _lost(claim)

    @transaction
    def points(self, session: Session, claim: Claim, points: Sequence[PointRecord]) -> None:
        """Add points to the learning curve; the same point again replaces the former one.

        Raises LeaseLostError.
        """
        point, trial = models.CurvePoint, models.Trial
        if not points:
            return
        farthest = max(item.step for item in points)
        gone_on = trial.position < farthest
        progress = {
            "position": case((gone_on, farthest), else_=trial.position),
            "takeovers": case((gone_on, 0), else_=trial.takeovers),
        }
        if not _fenced(session, claim, **progress):
            raise _lost(claim)
        for item in points:
            same = (
                point.trial_id == claim.trial_id,
                point.phase == item.phase,
                point.step == item.step,
            )
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
        session.execute(insert(point), rows)

    @transaction
    def record_rung(
        self,
        session: Session,
        claim: Claim,
        rung: int,
        step: int,
        seconds: float,
        values: Mapping[str, float],
        decide: Callable[[list[Mapping[str, float]]], RungVerdict],
    ) -> RungVerdict:
        """Write a trial's values at a rung and the verdict on it, in one transaction; a takeover
        reads the answer.

        `decide` gets the values of all other trials at this rung. Raises LeaseLostError.
        """
        rows = models.Rung
        lock_study(session, claim.study_id)
        if not _holds(session, claim):
            raise _lost(claim)
        known = session.get(rows, (claim.trial_id, rung))
        if known is not None:
            return RungVerdict(known.go_on, known.reason or "")
        query = select(rows.values).where(rows.study_id == claim.study_id, rows.rung == rung)
        verdict = decide(list(session.scalars(query.order_by(rows.trial_id))))
        row = {
            "trial_id": claim.trial_id,
            "rung": rung,
            "study_id": claim.study_id,
            "step": step,
            "seconds": seconds,
        }
        session.execute(
            insert(rows).values(
                **row, values=dict(values), go_on=verdict.go_on, reason=verdict.reason, at=now()
            )
        )
        return verdict

    @transaction
    def finish(self, session: Session, claim: Claim, result: Result, seconds: float) -> None:
        """Write the result of a trial: the authoritative row.

        Raises LeaseLostError where the trial was taken over.
        """
        written = _fenced(
            session,
            claim,
            state=result.state,
            values=dict(result.values) or None,
            costs=finite_only(result.costs) or None,
            violations=finite_only(result.violations) or None,
            reason=result.reason and storable_text(result.reason),
            stage_seconds=finite_only(result.stage_seconds) or None,
            shared=dict(result.shared) or None,
            duplicate_of=result.duplicate_of,
            seconds=seconds,
            stage=None,
            kept=None,
            **GIVEN_BACK,
            finished=now(),
        )
        if not written:
            if _is_result_of(session, claim):
                return
            raise _lost(claim)
        session.execute(delete(models.Artifact).where(models.Artifact.trial_id == claim.trial_id))
        files = []
        for f in result.artifacts:
            files.append(
                {
                    "trial_id": claim.trial_id,
                    "kind": f.kind,
                    "url": f.url,
                    "sha256": f.sha256,
                    "bytes": f.bytes,
                }
            )
        if files:
            session.execute(insert(models.Artifact), files)
        if result.detail:
            _event(session, claim.study_id, claim.trial_id, result.state, result.detail)

    def duplicate(self, claim: Claim, number: int) -> DuplicateOf | None:
        """Return a trial of the same study."""
        trial = models.Trial
        with self.reading() as session:
            query = select(trial).where(trial.study_id == claim.study_id, trial.number == number)
            row = session.scalars(query).one_or_none()
            if row is None:
                return None
            return DuplicateOf(number, row.state, row.values or {})


def finite(value: float | None) -> float | None:
    """Keep what a number column of every database can hold."""
    if value is not None and math.isfinite(value):
        return value
    return None


def _fenced(session: Session, claim: Claim, **fields: Any) -> bool:
    """Change a trial's row if the claim still holds it."""
    trial = models.Trial
    held = (trial.id == claim.trial_id, trial.fence == claim.fence, trial.state.in_(UNFINISHED))
    result: CursorResult[Any] = session.execute(update(trial).where(*held).values(**fields))  # type: ignore[assignment]
    return result.rowcount == 1


def _holds(session: Session, claim: Claim) -> bool:
    held = select(models.Trial.id).where(
        models.Trial.id == claim.trial_id,
        models.Trial.fence == claim.fence,
        models.Trial.state == "running",
    )
    return session.scalar(held.with_for_update()) is not None


def _is_result_of(session: Session, claim: Claim) -> bool:
    """Whether the trial was ended under this very fence, by a transaction whose answer got lost."""
    trial = models.Trial
    ended = (trial.id == claim.trial_id, trial.fence == claim.fence, trial.state.not_in(UNFINISHED))
    return session.scalar(select(trial.id).where(*ended)) is not None


def _left_behind(session: Session, study_id: int, owner: str) -> Iterator[models.Trial]:
    """Go through the trials that nobody works on any more; `owner` asks because it works on
    none.
    """
    trial = models.Trial
    query = select(trial, (func.coalesce(trial.lease_until, 0.0) < now()).label("expired")).where(
        trial.study_id == study_id, trial.state.in_(UNFINISHED)
    )
    for row, expired in session.execute(query.order_by(trial.id)):
        if row.state == "waiting" and _original_runs(session, row):
            continue
        if row.owner is None or row.owner == owner or _has_left(row.owner, row, expired):
            yield row


def _has_left(holder: str, row: models.Trial, expired: bool) -> bool:
    return is_dead(holder) or has_run_out(holder, row.lease_uptime, by_database=expired)


def _gap() -> ColumnElement[float]:
    """Return the seconds since anybody moved a study's clock on; nothing where it stands still.

    Where that was on this machine its uptime tells them, for the database's clock may have been set
    meanwhile.
    """
    study = models.Study
    here = and_(study.active_on == node(), study.active_uptime.is_not(None))
    by_uptime, by_database = literal(uptime()) - study.active_uptime, now() - study.active_at
    return case((study.active_at.is_(None), null()), (here, by_uptime), else_=by_database)


def _touched() -> dict[str, Any]:
    return {"active_at": now(), "active_on": node(), "active_uptime": uptime()}


def _original_runs(session: Session, row: models.Trial) -> bool:
    if row.duplicate_of is None:
        return False
    trial = models.Trial
    query = select(trial.state).where(
        trial.study_id == row.study_id, trial.number == row.duplicate_of
    )
    return session.scalar(query) in UNFINISHED


def _event(session: Session, study_id: int, trial_id: int | None, kind: str, text: str) -> None:
    values = {"study_id": study_id, "trial_id": trial_id, "kind": kind, "text": storable_text(text)}
    session.execute(insert(models.Event).values(**values, at=now()))


def _identity(engine: Engine) -> tuple[int, int] | None:
    path = sqlite_file(engine.url)
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def lock_study(session: Session, study_id: int) -> None:
    """Let transactions that look at several trials of a study take turns; rows that refer to it
    need not wait.
    """
    study = models.Study
    session.execute(select(study.id).where(study.id == study_id).with_for_update(key_share=True))


def _lost(claim: Claim) -> LeaseLostError:
    return LeaseLostError(
        f"Another worker has taken trial {claim.number} over.", "It goes on there; nothing is lost."
    )
