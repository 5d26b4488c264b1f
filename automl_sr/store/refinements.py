"""Refinements in the store: asked for, claimed with a lease and a fence, and ended by one fenced
update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import CursorResult, func, insert, select, update
from sqlalchemy.orm import Session

from automl_sr.store import models
from automl_sr.store.fence import change_fenced
from automl_sr.store.leases import GIVEN_BACK, LeaseLostError, has_run_out, held_for, is_dead
from automl_sr.store.models import now
from automl_sr.store.reading import Reader
from automl_sr.store.records import UNFINISHED, ArtifactRecord, StudyRecord
from automl_sr.store.repository import Store
from automl_sr.store.writer import transaction

RefinementState = Literal["complete", "failed", "running", "waiting"]
WORK = "refined"
"""The folder for what refinements need to be resumed, beside the folders of trials."""


@dataclass(frozen=True)
class RefinementRecord:
    """A refinement as stored: what became of a trial's model that was trained so many steps
    longer.
    """

    id: int
    trial_id: int
    number: int
    """The trial's."""
    steps: int
    seed: int
    state: RefinementState
    values: Mapping[str, float]
    tests: Mapping[str, Mapping[str, float]]
    artifacts: Mapping[str, ArtifactRecord]
    reason: str | None
    seconds: float
    owner: str | None
    fence: int
    created: float
    finished: float | None

    @property
    def folder(self) -> str:
        """Its folder, within the study's, in the artifact location."""
        return f"{self.number:05d}/{folder_name(self.steps, self.seed)}"

    @property
    def work(self) -> str:
        """Its folder, within the study's, for what a resume needs."""
        kind = f"{self.steps}-{self.seed}"
        return f"{WORK}/{kind}/{self.number:05d}"


@dataclass(frozen=True)
class RefinementClaim:
    """The right to work on one refinement: only its fence may write the result."""

    id: int
    study_id: int
    trial_id: int
    number: int
    steps: int
    seed: int
    owner: str
    fence: int
    seconds: float
    taken_over: bool
    """Whether another owner, or this one before, had begun with it."""

    @property
    def title(self) -> str:
        """Name it as people read it."""
        return f"trial {self.number}, seed {self.seed}"


@dataclass(frozen=True)
class RefinementResult:
    """What is written when a refinement ends."""

    state: Literal["complete", "failed"]
    values: Mapping[str, float] = field(default_factory=dict)
    tests: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    artifacts: tuple[ArtifactRecord, ...] = ()
    reason: str | None = None
    detail: str = ""
    """A traceback or notes, kept as an event of the trial."""


def folder_name(steps: int, seed: int) -> str:
    """Name the folder of a refinement among the files of its trial."""
    return f"refined-{steps}-{seed}"


def refinements(
    reader: Reader, study: StudyRecord, number: int | None = None
) -> list[RefinementRecord]:
    """List the refinements of a study, or of one trial: by trial, steps and seed."""
    row = models.Refinement
    query = (
        select(row, models.Trial.number)
        .join(models.Trial, models.Trial.id == row.trial_id)
        .where(row.study_id == study.id)
        .order_by(models.Trial.number, row.steps, row.seed)
    )
    if number is not None:
        query = query.where(models.Trial.number == number)
    with reader.reading() as session:
        result: list[RefinementRecord] = []
        for found, trial in session.execute(query):
            result.append(_record(found, trial or 0))
        return result


@transaction
def request(
    store: Store,
    session: Session,
    study: StudyRecord,
    lengths: Mapping[int, int],
    seeds: Sequence[int],
) -> list[int]:
    """Ask for refinements and give their ids, those of the first seed first.

    `lengths` are the steps by trial's id.

    One that is complete, or that somebody works on, stays as it is; one that failed is to be tried
    again.
    """
    row = models.Refinement
    # Two that ask at once take turns: the second one finds the rows of the first.
    own = select(models.Study.id).where(models.Study.id == study.id)
    session.execute(own.with_for_update())
    query = select(row.trial_id, row.steps, row.seed, row.id)
    known: dict[tuple[int, int], int] = {}
    for trial, steps, seed, found in session.execute(query.where(row.trial_id.in_(lengths))):
        if steps == lengths[trial]:
            known[trial, seed] = found

    asked = []
    for seed in seeds:
        for trial, steps in lengths.items():
            if (trial, seed) not in known:
                known[trial, seed] = _asked_for(session, study, trial, steps, seed)
            asked.append(known[trial, seed])

    failed = (row.id.in_(asked), row.state == "failed")
    again = update(row).where(*failed)
    session.execute(again.values(state="waiting", reason=None, finished=None))
    return asked


def _asked_for(session: Session, study: StudyRecord, trial: int, steps: int, seed: int) -> int:
    """Write the row of a refinement that waits, and give its id."""
    row = models.Refinement
    values = {
        "study_id": study.id,
        "trial_id": trial,
        "steps": steps,
        "seed": seed,
        "state": "waiting",
    }
    statement = insert(row).values(**values, fence=0, seconds=0.0, created=now())
    return session.scalar(statement.returning(row.id)) or 0


def claim(
    store: Store, study: StudyRecord, owner: str, ids: Sequence[int]
) -> RefinementClaim | None:
    """Take one of these refinements that nobody works on: asked for, given back, or left by an
    owner that died.
    """
    # Most of the time there is none, and no lock is needed to see that.
    with store.reading() as session:
        if next(_left_behind(session, owner, ids), None) is None:
            return None
    return _claim(store, study, owner, ids)


@transaction
def _claim(
    store: Store, session: Session, study: StudyRecord, owner: str, ids: Sequence[int]
) -> RefinementClaim | None:
    row = models.Refinement
    for found, number in _left_behind(session, owner, ids):
        fence = found.fence + 1
        # Only with the fence that was read: somebody may have been faster.
        as_read = (
            row.id == found.id,
            row.fence == found.fence,
            row.state.in_(UNFINISHED),
        )
        statement = (
            update(row)
            .where(*as_read)
            .values(owner=owner, fence=fence, state="running", **held_for(store.lease))
            .execution_options(synchronize_session=False)
        )
        result: CursorResult[Any] = session.execute(statement)  # type: ignore[assignment]
        if result.rowcount == 1:
            return RefinementClaim(
                found.id,
                study.id,
                found.trial_id,
                number,
                found.steps,
                found.seed,
                owner,
                fence,
                found.seconds,
                taken_over=found.state == "running",
            )
    return None


def unfinished(store: Store, ids: Sequence[int]) -> int:
    """Count those that have not ended, with whoever."""
    row = models.Refinement
    query = select(func.count()).where(row.id.in_(ids), row.state.in_(UNFINISHED))
    with store.reading() as session:
        return session.scalar(query) or 0


def renew(store: Store, held: RefinementClaim, seconds: float) -> bool:
    """Extend a lease; False where another owner has taken over."""
    # Once, however silent the database is: the heartbeat asks again by itself.
    with store.writing() as session:
        return _fenced(session, held, **held_for(store.lease), seconds=seconds)


@transaction
def release(store: Store, session: Session, held: RefinementClaim, seconds: float) -> None:
    """Release a refinement half-way, so that anybody may go on with it at once."""
    _fenced(session, held, **GIVEN_BACK, seconds=seconds)


@transaction
def finish(
    store: Store, session: Session, held: RefinementClaim, result: RefinementResult, seconds: float
) -> None:
    """Write the result; the trial's own row stays as it is.

    Raises LeaseLostError where another owner has taken over.
    """
    row = models.Refinement
    files = {}
    for file in result.artifacts:
        files[file.kind] = {"url": file.url, "sha256": file.sha256, "bytes": file.bytes}
    tests = {}
    for name, values in result.tests.items():
        tests[name] = dict(values)
    reason = result.reason
    if reason:
        reason = reason.replace("\x00", "")  # PostgreSQL holds no zero bytes
    written = _fenced(
        session,
        held,
        state=result.state,
        values=dict(result.values) or None,
        tests=tests or None,
        artifacts=files or None,
        reason=reason,
        seconds=seconds,
        **GIVEN_BACK,
        finished=now(),
    )
    if not written:
        ended = (
            row.id == held.id,
            row.fence == held.fence,
            row.state.not_in(UNFINISHED),
        )
        if session.scalar(select(row.id).where(*ended)) is not None:
            return  # by a transaction of this very call, whose answer got lost
        raise lost(held)
    if not result.detail:
        return
    text = f"{held.steps} steps, seed {held.seed}:\n{result.detail}"
    event = {
        "study_id": held.study_id,
        "trial_id": held.trial_id,
        "kind": f"refinement {result.state}",
        "text": text.replace("\x00", ""),
    }
    session.execute(insert(models.Event).values(**event, at=now()))


def lost(held: RefinementClaim) -> LeaseLostError:
    """Say that somebody else goes on."""
    return LeaseLostError(
        f"Another process has taken the refinement of {held.title} over.", "It goes on there."
    )


def _fenced(session: Session, held: RefinementClaim, **fields: Any) -> bool:
    """Change a refinement's row if the claim still holds it."""
    return change_fenced(session, models.Refinement, held.id, held.fence, **fields)


def _left_behind(
    session: Session, owner: str, ids: Sequence[int]
) -> Iterator[tuple[models.Refinement, int]]:
    """Go through those that nobody works on, in the order in which they were asked for; those of
    owners that died come last.
    """
    row = models.Refinement
    expired = (func.coalesce(row.lease_until, 0.0) < now()).label("expired")
    query = (
        select(row, models.Trial.number, expired)
        .join(models.Trial, models.Trial.id == row.trial_id)
        .where(row.id.in_(ids), row.state.in_(UNFINISHED))
    )
    rows = {}
    for found, number, late in session.execute(query):
        rows[found.id] = (found, number or 0, late)

    with_others = []
    for known in ids:
        if known not in rows:
            continue
        found, number, late = rows[known]
        holder = found.owner
        if holder is None or holder == owner:
            yield found, number
        else:
            with_others.append((found, number, holder, late))
    # Last: what killed one owner may kill the next, and the others are to be made all the same.
    for found, number, holder, late in with_others:
        if is_dead(holder) or has_run_out(holder, found.lease_uptime, by_database=late):
            yield found, number


def _record(row: models.Refinement, number: int) -> RefinementRecord:
    """Freeze a row."""
    state: Any = row.state
    files = {}
    for kind, file in (row.artifacts or {}).items():
        files[kind] = ArtifactRecord(kind, file["url"], file["sha256"], file["bytes"])
    return RefinementRecord(
        id=row.id,
        trial_id=row.trial_id,
        number=number,
        steps=row.steps,
        seed=row.seed,
        state=state,
        values=row.values or {},
        tests=row.tests or {},
        artifacts=files,
        reason=row.reason,
        seconds=row.seconds,
        owner=row.owner,
        fence=row.fence,
        created=row.created,
        finished=row.finished,
    )
