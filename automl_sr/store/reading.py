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
        with self.reading() as session:
            counts = _counts(session)
            rows = session.scalars(select(models.Study).order_by(models.Study.id))
            found: list[StudyRecord] = []
            for row in rows:
                found.append(study_record(row, counts.get(row.id, {})))
            return found

    def find_study(self, name: str) -> StudyRecord | None:
        """Return a study, or nothing."""
        with self.reading() as session:
            row = session.scalars(
                select(models.Study).where(models.Study.name == name)
            ).one_or_none()
            if row is None:
                return None
            return study_record(row, _counts(session, row.id).get(row.id, {}))

    def study(self, name: str) -> StudyRecord:
        """Return a study. Raises StoreError with the nearest name."""
        found = self.find_study(name)
        if found is None:
            with self.reading() as session:
                names = list(session.scalars(select(models.Study.name).order_by(models.Study.name)))
            hint = nearest(name, names) or f"Studies there: {', '.join(names) or 'none'}."
            raise StoreError(f"There is no study {name!r} in {self.name}.", hint)
        return found

    def trials(
        self, study: StudyRecord, states: Iterable[str] = (), ids: Sequence[int] | None = None
    ) -> list[TrialRecord]:
        """List the trials of a study by number; `ids` are those of their rows, where not all are
        wanted.
        """
        wanted = list(states)
        query = select(models.Trial).where(
            models.Trial.study_id == study.id, models.Trial.number.is_not(None)
        )
        if wanted:
            query = query.where(models.Trial.state.in_(wanted))
        if ids is not None:
            query = query.where(models.Trial.id.in_(ids))
        with self.reading() as session:
            files = _artifacts(session, study.id, ids)
            found: list[TrialRecord] = []
            for row in session.scalars(query.order_by(models.Trial.number)):
                found.append(trial_record(row, files.get(row.id, {})))
            return found

    def by_key(self, study: StudyRecord, keys: Iterable[str]) -> dict[str, TrialRecord]:
        """Return the trials with these keys, without their files."""
        trial = models.Trial
        query = select(trial).where(trial.study_id == study.id, trial.key.in_(list(keys)))
        with self.reading() as session:
            found: dict[str, TrialRecord] = {}
            for row in session.scalars(query):
                found[row.key] = trial_record(row, {})
            return found

    def trial(self, study: StudyRecord, number: int) -> TrialRecord:
        """Return one trial. Raises StoreError."""
        query = select(models.Trial).where(
            models.Trial.study_id == study.id, models.Trial.number == number
        )
        with self.reading() as session:
            row = session.scalars(query).one_or_none()
            if row is None:
                last = session.scalar(
                    select(func.max(models.Trial.number)).where(models.Trial.study_id == study.id)
                )
                hint = "It has no trials yet."
                if last is not None:
                    hint = f"Numbers go from 0 to {last}."
                raise StoreError(f"The study {study.name!r} has no trial {number}.", hint)
            return trial_record(row, _artifacts(session, study.id, [row.id]).get(row.id, {}))

    def curve(self, trial: TrialRecord) -> list[PointRecord]:
        """Return the learning curve of a trial, in the order in which it was learnt."""
        point = models.CurvePoint
        query = select(point).where(point.trial_id == trial.id).order_by(point.at, point.step)
        with self.reading() as session:
            found = []
            for row in session.scalars(query):
                found.append(
                    PointRecord(
                        row.phase,
                        row.step,
                        row.loss,
                        row.rate,
                        row.images_per_second,
                        row.values or {},
                    )
                )
        phases = list(dict.fromkeys(point.phase for point in found))
        return sorted(
            found, key=lambda item: (phases.index(item.phase), item.step)
        )  # some were written again, later

    def rungs(self, study: StudyRecord, number: int | None = None) -> list[RungRecord]:
        """Return the rung rows of a study, or of one trial."""
        query = (
            select(models.Trial.number, models.Rung)
            .join(models.Rung, models.Rung.trial_id == models.Trial.id)
            .where(models.Rung.study_id == study.id)
            .order_by(models.Trial.number, models.Rung.rung)
        )
        if number is not None:
            query = query.where(models.Trial.number == number)
        with self.reading() as session:
            result: list[RungRecord] = []
            for found, row in session.execute(query):
                result.append(
                    RungRecord(
                        found or 0,
                        row.rung,
                        row.step,
                        row.values,
                        row.go_on,
                        row.seconds,
                        row.reason or "",
                    )
                )
            return result

    def events(self, study: StudyRecord, number: int | None = None) -> list[EventRecord]:
        """Return what happened to a study, or to one trial, the oldest first."""
        query = (
            select(models.Trial.number, models.Event)
            .outerjoin(models.Trial, models.Trial.id == models.Event.trial_id)
            .where(models.Event.study_id == study.id)
            .order_by(models.Event.id)
        )
        if number is not None:
            query = query.where(models.Trial.number == number)
        with self.reading() as session:
            result: list[EventRecord] = []
            for found, row in session.execute(query):
                result.append(EventRecord(row.kind, row.text, row.at, found))
            return result


def study_record(row: models.Study, counts: Mapping[str, int]) -> StudyRecord:
    """Freeze a study's row."""
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
        {state: counts.get(state, 0) for state in STATES},
    )


def trial_record(row: models.Trial, files: Mapping[str, ArtifactRecord]) -> TrialRecord:
    """Freeze a trial's row."""
    state: Any = row.state
    return TrialRecord(
        id=row.id,
        study_id=row.study_id,
        number=-1 if row.number is None else row.number,
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


def _counts(session: Session, study_id: int | None = None) -> dict[int, dict[str, int]]:
    query = select(models.Trial.study_id, models.Trial.state, func.count()).group_by(
        models.Trial.study_id, models.Trial.state
    )
    if study_id is not None:
        query = query.where(models.Trial.study_id == study_id)
    found: dict[int, dict[str, int]] = {}
    rows: Sequence[tuple[int, str, int]] = session.execute(query).all()
    for study, state, count in rows:
        found.setdefault(study, {})[state] = count
    return found


def _artifacts(
    session: Session, study_id: int, ids: Sequence[int] | None = None
) -> dict[int, dict[str, ArtifactRecord]]:
    query = (
        select(models.Artifact)
        .join(models.Trial, models.Trial.id == models.Artifact.trial_id)
        .where(models.Trial.study_id == study_id)
        .order_by(models.Artifact.trial_id, models.Artifact.kind)
    )
    if ids is not None:
        query = query.where(models.Trial.id.in_(ids))
    found: dict[int, dict[str, ArtifactRecord]] = {}
    for row in session.scalars(query):
        found.setdefault(row.trial_id, {})[row.kind] = ArtifactRecord(
            row.kind, row.url, row.sha256, row.bytes
        )
    return found
