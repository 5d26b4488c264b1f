"""The reading half of the repository: it works while a search writes, and on stores that cannot be
written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from automl_sr.errors import StoreError, nearest
from automl_sr.store import models
from automl_sr.store.database import default_url, explained, masked, open_engine, snapshot
from automl_sr.store.records import (
    STATES,
    ArtifactRecord,
    EventRecord,
    PointRecord,
    RungRecord,
    StudyRecord,
    TrialRecord,
)
from automl_sr.store.schema import check

Counts = dict[str, int]
"""Numbers of trials, by state."""
Files = dict[str, ArtifactRecord]
"""Files of a trial, by kind."""


class Reader:
    """Studies and trials of one store.

    Every method raises StoreError where the database does not answer.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.engine = engine

    @classmethod
    def open(cls, url: str | None = None) -> Reader:
        """Open a store that is there, to read."""
        url = url or default_url()
        engine = open_engine(url, write=False)
        with explained(url):
            check(engine, masked(url))
        return cls(url, engine)

    @property
    def name(self) -> str:
        """The URL without passwords, for people."""
        return masked(self.url)

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Read in one transaction, so that what is read belongs together."""
        with explained(self.url), Session(snapshot(self.engine)) as session:
            yield session

    def studies(self) -> list[StudyRecord]:
        """List all studies, the oldest first."""
        query = select(models.Study).order_by(models.Study.id)
        with self.reading() as session:
            counts = _counts(session)
            found: list[StudyRecord] = []
            for row in session.scalars(query):
                own = counts.get(row.id, {})
                found.append(study_record(row, own))
            return found

    def find_study(self, name: str) -> StudyRecord | None:
        """Return a study, or nothing."""
        query = select(models.Study).where(models.Study.name == name)
        with self.reading() as session:
            row = session.scalars(query).one_or_none()
            if row is None:
                return None
            counts = _counts(session, row.id)
            own = counts.get(row.id, {})
            return study_record(row, own)

    def study(self, name: str) -> StudyRecord:
        """Return a study. Raises StoreError with the nearest name."""
        found = self.find_study(name)
        if found is not None:
            return found
        query = select(models.Study.name).order_by(models.Study.name)
        with self.reading() as session:
            names = list(session.scalars(query))
        there = ", ".join(names) or "none"
        hint = nearest(name, names) or f"Studies there: {there}."
        raise StoreError(f"There is no study {name!r} in {self.name}.", hint)

    def trials(
        self, study: StudyRecord, states: Iterable[str] = (), ids: Sequence[int] | None = None
    ) -> list[TrialRecord]:
        """List the trials of a study by number; `ids` are those of their rows, where not all are
        wanted.
        """
        trial = models.Trial
        wanted = list(states)
        query = select(trial).where(trial.study_id == study.id, trial.number.is_not(None))
        if wanted:
            query = query.where(trial.state.in_(wanted))
        if ids is not None:
            query = query.where(trial.id.in_(ids))
        query = query.order_by(trial.number)
        with self.reading() as session:
            # All files in one query: one for each trial would take as many.
            files = _artifacts(session, study.id, ids)
            found: list[TrialRecord] = []
            for row in session.scalars(query):
                own = files.get(row.id, {})
                found.append(trial_record(row, own))
            return found

    def by_key(self, study: StudyRecord, keys: Iterable[str]) -> dict[str, TrialRecord]:
        """Return the trials with these keys, without their files."""
        trial = models.Trial
        wanted = trial.key.in_(list(keys))
        query = select(trial).where(trial.study_id == study.id, wanted)
        with self.reading() as session:
            found: dict[str, TrialRecord] = {}
            for row in session.scalars(query):
                found[row.key] = trial_record(row, {})
            return found

    def trial(self, study: StudyRecord, number: int) -> TrialRecord:
        """Return one trial. Raises StoreError."""
        trial = models.Trial
        own = trial.study_id == study.id
        with self.reading() as session:
            query = select(trial).where(own, trial.number == number)
            row = session.scalars(query).one_or_none()
            if row is not None:
                files = _artifacts(session, study.id, [row.id])
                return trial_record(row, files.get(row.id, {}))
            last = session.scalar(select(func.max(trial.number)).where(own))
        hint = "It has no trials yet."
        if last is not None:
            hint = f"Numbers go from 0 to {last}."
        raise StoreError(f"The study {study.name!r} has no trial {number}.", hint)

    def curve(self, trial: TrialRecord) -> list[PointRecord]:
        """Return the learning curve of a trial, in the order in which it was learnt."""
        point = models.CurvePoint
        own = select(point).where(point.trial_id == trial.id)
        query = own.order_by(point.at, point.step)
        found = []
        phases: dict[str, int] = {}  # in which order they came
        with self.reading() as session:
            for row in session.scalars(query):
                phases.setdefault(row.phase, len(phases))
                values = row.values or {}
                found.append(
                    PointRecord(
                        row.phase, row.step, row.loss, row.rate, row.images_per_second, values
                    )
                )
        # By step once more: some points were written again, later, by a trial that was resumed.
        return sorted(found, key=lambda item: (phases[item.phase], item.step))

    def rungs(self, study: StudyRecord, number: int | None = None) -> list[RungRecord]:
        """Return the rung rows of a study, or of one trial."""
        trial = models.Trial
        rung = models.Rung
        query = (
            select(trial.number, rung)
            .join(rung, rung.trial_id == trial.id)
            .where(rung.study_id == study.id)
            .order_by(trial.number, rung.rung)
        )
        if number is not None:
            query = query.where(trial.number == number)
        with self.reading() as session:
            result: list[RungRecord] = []
            for found, row in session.execute(query):
                result.append(_rung_record(row, found or 0))
            return result

    def events(self, study: StudyRecord, number: int | None = None) -> list[EventRecord]:
        """Return what happened to a study, or to one trial, the oldest first."""
        trial = models.Trial
        event = models.Event
        # An outer join: what happened to the study as a whole has no trial.
        query = (
            select(trial.number, event)
            .outerjoin(trial, trial.id == event.trial_id)
            .where(event.study_id == study.id)
            .order_by(event.id)
        )
        if number is not None:
            query = query.where(trial.number == number)
        with self.reading() as session:
            result: list[EventRecord] = []
            for found, row in session.execute(query):
                result.append(EventRecord(row.kind, row.text, row.at, found))
            return result


def study_record(row: models.Study, counts: Mapping[str, int]) -> StudyRecord:
    """Freeze a study's row."""
    by_state: dict[str, int] = {}
    for state in STATES:
        by_state[state] = counts.get(state, 0)
    return StudyRecord(
        row.id,
        row.name,
        row.spec,
        row.space,
        row.source,
        row.environment,
        row.reference,
        row.artifacts,
        row.seconds,
        row.created,
        by_state,
    )


def trial_record(row: models.Trial, files: Mapping[str, ArtifactRecord]) -> TrialRecord:
    """Freeze a trial's row."""
    state: Any = row.state
    number = row.number
    if number is None:
        number = -1  # rows of version 0.1.0 had none until a worker asked for a plan
    return TrialRecord(
        id=row.id,
        study_id=row.study_id,
        number=number,
        state=state,
        plan=row.plan,
        fingerprint=row.fingerprint,
        values=row.values or {},
        costs=row.costs or {},
        reason=row.reason,
        seconds=row.seconds,
        stage_seconds=row.stage_seconds or {},
        stage=row.stage,
        duplicate_of=row.duplicate_of,
        owner=row.owner,
        key=row.key,
        asked=row.asked,
        violations=row.violations or {},
        fence=row.fence,
        kept=row.kept,
        created=row.created,
        started=row.started,
        finished=row.finished,
        artifacts=files,
        shared=row.shared or {},
        origin=row.origin,
    )


def _rung_record(row: models.Rung, number: int) -> RungRecord:
    """Freeze the row of a trial at a rung."""
    return RungRecord(
        number,
        row.rung,
        row.step,
        row.values,
        row.go_on,
        row.seconds,
        row.reason or "",
    )


def _counts(session: Session, study_id: int | None = None) -> dict[int, Counts]:
    """Count trials, by study and state."""
    trial = models.Trial
    query = select(trial.study_id, trial.state, func.count())
    query = query.group_by(trial.study_id, trial.state)
    if study_id is not None:
        query = query.where(trial.study_id == study_id)
    found: dict[int, Counts] = {}
    for study, state, count in session.execute(query):
        own = found.setdefault(study, {})
        own[state] = count
    return found


def _artifacts(
    session: Session, study_id: int, ids: Sequence[int] | None = None
) -> dict[int, Files]:
    """Return the files of a study's trials, by id of the trial and kind."""
    trial = models.Trial
    file = models.Artifact
    query = (
        select(file)
        .join(trial, trial.id == file.trial_id)
        .where(trial.study_id == study_id)
        .order_by(file.trial_id, file.kind)
    )
    if ids is not None:
        query = query.where(trial.id.in_(ids))
    found: dict[int, Files] = {}
    for row in session.scalars(query):
        own = found.setdefault(row.trial_id, {})
        own[row.kind] = ArtifactRecord(row.kind, row.url, row.sha256, row.bytes)
    return found
