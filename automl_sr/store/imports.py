"""Trials that a study takes over from another one when it is created, and files that they share
with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from automl_sr.store import models
from automl_sr.store.models import now
from automl_sr.store.repository import Store
from automl_sr.store.writer import lock_study, transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from automl_sr.store.reading import Reader
    from automl_sr.store.records import RungRecord, State, StudyRecord


@dataclass(frozen=True)
class Import:
    """A trial as it will stand in another study; its files stay where they are."""

    source: int
    """Id of the trial in the old study, of which the files are taken over."""
    origin: Mapping[str, Any]
    state: State
    plan: Mapping[str, Any]
    asked: Mapping[str, Any]
    fingerprint: str
    values: Mapping[str, float]
    costs: Mapping[str, float]
    violations: Mapping[str, float]
    reason: str | None
    seconds: float
    stage_seconds: Mapping[str, float]
    rungs: tuple[RungRecord, ...] = ()


@transaction
def create_study_with(
    store: Store,
    session: Session,
    fields: Mapping[str, Any],
    imports: Sequence[Import],
    baseline: Mapping[str, Any] | None,
    note: str,
) -> None:
    """Store a study together with the trials that it takes over, numbered from 0. An existing one
    is left as it is.

    `baseline` is what the first trial of its own is asked, or nothing where it is among those that
    are taken over. `note` is kept as an event.
    """
    same_name = select(models.Study.id).where(models.Study.name == fields["name"])
    if session.scalar(same_name) is not None:
        return
    _lock_sources(session, imports)
    study = models.Study(**fields)
    session.add(study)
    session.flush()  # the database gives the study its id, which the trials name

    at = session.scalar(select(now()))  # one moment for all, by the database's clock
    rows = []
    for number, item in enumerate(imports):
        rows.append(_row(study.id, number, item, at))
    session.add_all(rows)
    session.flush()  # the same for the trials, which files and rungs name

    _copy_files(session, imports, rows)
    _add_rungs(session, imports, rows, at)
    if baseline is not None:
        first = {
            "number": len(rows),
            "key": uuid.uuid4().hex,
            "state": "waiting",
            "fence": 0,
            "asked": dict(baseline),
        }
        session.add(models.Trial(study_id=study.id, **first))
    session.add(models.Event(study_id=study.id, kind="imported", text=note))


def _copy_files(session: Session, imports: Sequence[Import], rows: Sequence[models.Trial]) -> None:
    """Name the files of the old trials, which stay where they are, for the new ones too."""
    heirs = {}
    for item, row in zip(imports, rows, strict=True):
        heirs[item.source] = row.id
    file = models.Artifact
    copies = []
    for known in session.scalars(select(file).where(file.trial_id.in_(list(heirs)))).all():
        copies.append(
            {
                "trial_id": heirs[known.trial_id],
                "kind": known.kind,
                "url": known.url,
                "sha256": known.sha256,
                "bytes": known.bytes,
            }
        )
    if copies:
        session.execute(insert(file), copies)


def _add_rungs(
    session: Session, imports: Sequence[Import], rows: Sequence[models.Trial], at: float | None
) -> None:
    """Write the rungs of the old trials, so that the new ones are judged by them."""
    rungs = []
    for item, row in zip(imports, rows, strict=True):
        for rung in item.rungs:
            rungs.append(
                {
                    "trial_id": row.id,
                    "rung": rung.rung,
                    "study_id": row.study_id,
                    "step": rung.step,
                    "seconds": rung.seconds,
                    "values": dict(rung.values),
                    "go_on": rung.go_on,
                    "reason": rung.reason,
                    "at": at,
                }
            )
    if rungs:
        session.execute(insert(models.Rung), rungs)


def _lock_sources(session: Session, imports: Sequence[Import]) -> None:
    """Let who removes files of the old study wait until these trials, which name them, can be seen,
    or the reverse.
    """
    # Without that the removal would see neither its own rows, nor those that are about to be
    # written.
    trial = models.Trial
    ids = [item.source for item in imports]
    studies = select(trial.study_id).where(trial.id.in_(ids)).distinct()
    for study_id in session.scalars(studies).all():
        lock_study(session, study_id)


def named_elsewhere(reader: Reader, study: StudyRecord) -> set[str]:
    """Return the URLs of a study's files that trials of other studies name, which were imported
    from it.
    """
    file = models.Artifact
    trial = models.Trial
    of_imports = (
        select(file.url)
        .join(trial, trial.id == file.trial_id)
        .where(trial.study_id != study.id, trial.origin.is_not(None))
    )
    folder = f"/{study.folder}/"
    found: set[str] = set()
    with reader.reading() as session:
        for url in session.scalars(of_imports.distinct()):
            if folder in url:
                found.add(url)
    return found


def _row(study_id: int, number: int, item: Import, at: float | None) -> models.Trial:
    return models.Trial(
        study_id=study_id,
        key=uuid.uuid4().hex,
        number=number,
        state=item.state,
        plan=dict(item.plan),
        asked=dict(item.asked),
        fingerprint=item.fingerprint,
        values=dict(item.values) or None,
        costs=dict(item.costs) or None,
        violations=dict(item.violations) or None,
        reason=item.reason,
        seconds=item.seconds,
        stage_seconds=dict(item.stage_seconds) or None,
        origin=dict(item.origin),
        started=at,
        finished=at,
    )
