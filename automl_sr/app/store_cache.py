"""What pages show of a store: read once, kept in memory, and read again only where something has
changed.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from automl_sr.errors import StoreError, UseError
from automl_sr.presentation.importance import importance
from automl_sr.presentation.progress import history, learning_curve
from automl_sr.search.results import FINISHED, feasible, front_of, own_counts
from automl_sr.store import models
from automl_sr.store.database import default_url, masked, parse, sqlite_file
from automl_sr.store.leases import has_run_out, is_dead
from automl_sr.store.models import now
from automl_sr.store.reading import Reader
from automl_sr.store.records import COUNTED, UNFINISHED, RungRecord, StudyRecord, TrialRecord

if TYPE_CHECKING:
    from sqlalchemy.orm import Session as Database

    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.registry import Registry

MOST_CHANGED = 500
"""With more new trials than this everything is read again: databases limit how many one can be
asked for by name.
"""
NOTHING_THERE = "nothing"
"""The version of a store that is not there, or does not answer."""
WORKED_OUT = frozenset({"objectives", "metrics", "front", "front_numbers", "history", "importance"})
"""What a snapshot says of finished trials alone."""
_CONTENTS = itertools.count()


@dataclass(frozen=True)
class Work:
    """A trial that a living worker has in its hands."""

    number: int
    worker: str
    stage: str
    step: int
    steps: int


@dataclass(frozen=True)
class Summary:
    """A study as the list shows it."""

    study: StudyRecord
    state: str
    """running, paused or finished."""
    best: Mapping[str, float]
    """Of each objective by itself, among models that keep to the constraints."""
    work: tuple[Work, ...]


class Snapshot:
    """A study with all its trials, as they were at one moment; what follows from them is computed
    once.
    """

    def __init__(
        self,
        study: StudyRecord,
        trials: tuple[TrialRecord, ...],
        reader: Reader,
        registry: Registry,
    ) -> None:
        self.study = study
        self.trials = trials
        self._reader = reader
        self._registry = registry
        self.by_number = {trial.number: trial for trial in trials}
        self.content = str(next(_CONTENTS))
        """Another text where finished trials are others: what is drawn of them alone need not be
        drawn again.
        """

    def take_over(self, former: Snapshot) -> None:
        """Take over what was worked out already, if nothing has happened but that trials went
        on.
        """
        same = len(self.finished) == len(former.finished) and self.study.spec == former.study.spec
        if same and all(
            new is old for new, old in zip(self.finished, former.finished, strict=True)
        ):
            self.content = former.content
            self.__dict__ |= {
                name: value for name, value in former.__dict__.items() if name in WORKED_OUT
            }

    @cached_property
    def finished(self) -> tuple[TrialRecord, ...]:
        """Trials that nothing more happens to."""
        return tuple(trial for trial in self.trials if trial.state not in UNFINISHED)

    @cached_property
    def rungs(self) -> tuple[RungRecord, ...]:
        """Values at rungs, read when they are first asked for."""
        return tuple(self._reader.rungs(self.study))

    @cached_property
    def objectives(self) -> tuple[Metric, ...]:
        """Metrics that the front trades against each other.

        Raises PluginError where one is not installed.
        """
        return tuple(self._registry.metric(name) for name in self.study.objectives)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Objectives first, then what is constrained."""
        return metrics_of(self.study, self._registry)

    @cached_property
    def front(self) -> tuple[TrialRecord, ...]:
        """Models that no other one dominates, best first in the first objective."""
        return tuple(
            front_of(self.study, self.trials, {metric.name: metric for metric in self.objectives})
        )

    @cached_property
    def front_numbers(self) -> frozenset[int]:
        """Numbers of the front."""
        return frozenset(trial.number for trial in self.front)

    @cached_property
    def history(self) -> dict[str, Any]:
        """The front's volume over trials and time, as a report has it."""
        return history(self.study, self.trials, self.objectives)

    @cached_property
    def importance(self) -> dict[str, Any]:
        """What each parameter decides, as a report has it."""
        return importance(self.study, self.trials, self.rungs, self._registry)

    def trial(self, number: int) -> TrialRecord:
        """Return a trial. Raises UseError."""
        found = self.by_number.get(number)
        if found is None:
            raise UseError(f"{self.study.name} has no trial {number}.")
        return found

    def keeps(self, trial: TrialRecord) -> bool:
        """Whether a trial left a model that keeps to the constraints."""
        return trial.state in FINISHED and feasible(self.study, trial.values)


class StoreCache:
    """The studies of one store.

    Every method but `version` raises StoreError where the database does not answer.
    """

    def __init__(self, url: str | None, registry: Registry) -> None:
        self.url = url or default_url()
        self.registry = registry
        self._reader: Reader | None = None
        self._file: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._kept: dict[str, tuple[str, Snapshot]] = {}
        self._curves: dict[int, tuple[str, list[dict[str, Any]]]] = {}
        self._summaries: tuple[str, list[Summary]] = ("", [])

    @property
    def name(self) -> str:
        """The store's URL without passwords, for people."""
        return masked(self.url)

    @property
    def reader(self) -> Reader:
        """The store, opened when it is first there, and anew where its file was replaced.

        Raises StoreError.
        """
        with self._lock:
            file = _identity(self.url)
            if (
                self._reader is not None and file != self._file
            ):  # SQLite would go on reading what was removed
                self._reader.close()
                self._reader = None
                self._kept.clear()
                self._curves.clear()
            if self._reader is None:
                self._reader, self._file = Reader.open(self.url), file
            return self._reader

    def close(self) -> None:
        """Close the connections to the database."""
        if self._reader is not None:
            self._reader.close()

    def version(self) -> str:
        """Name the present content of the store: another text where anything that pages show has
        changed.
        """
        try:
            with self.reader.reading() as database:
                return _version(database)
        except StoreError as error:
            return f"{NOTHING_THERE}: {error}"

    def names(self) -> list[str]:
        """Name the studies, the newest first."""
        found: list[str] = []
        for study in reversed(self.reader.studies()):
            found.append(study.name)
        return found

    def summaries(self, version: str) -> list[Summary]:
        """List the studies with what they are doing, the newest first; from memory if they were
        read at this version.

        A page asks several times while it is opened, and reading five thousand trials takes a fifth
        of a second.
        """
        known, found = self._summaries
        if known != version:
            found = self._read_summaries()
            self._summaries = version, found
        return found

    def _read_summaries(self) -> list[Summary]:
        found = []
        for study in reversed(self.reader.studies()):
            work = self._work(study)
            found.append(Summary(study, _state(study, bool(work)), self._best(study), work))
        return found

    def study(self, name: str) -> StudyRecord:
        """Return a study without its trials. Raises StoreError for an unknown name."""
        return self.reader.study(name)

    def snapshot(self, name: str) -> Snapshot:
        """Return a study with its trials, from memory if nothing has changed.

        Raises StoreError for an unknown name.
        """
        with self._reading:  # several parts of a page ask at once: one of them reads
            reader = self.reader
            with reader.reading() as database:
                version = _version(database, name)
            kept = self._kept.get(name)
            if kept is not None and kept[0] == version:
                return kept[1]
            study = reader.study(name)
            made = Snapshot(study, self._trials(study, kept and kept[1]), reader, self.registry)
            if kept is not None:
                made.take_over(kept[1])
            self._kept[name] = (version, made)
            return made

    def _trials(self, study: StudyRecord, former: Snapshot | None) -> tuple[TrialRecord, ...]:
        """Read the trials, but of those that are known already only what has changed since."""
        trial = models.Trial
        query = select(trial.id, trial.state, trial.finished, trial.fence, trial.stage).where(
            trial.study_id == study.id, trial.number.is_not(None)
        )
        files = (
            select(func.count())
            .select_from(models.Artifact)
            .join(trial, trial.id == models.Artifact.trial_id)
            .where(trial.study_id == study.id)
        )
        with self.reader.reading() as database:
            there = {}
            for row in database.execute(query):
                there[row.id] = tuple(row)
            count = database.scalar(files)
        if former is None or former.study.id != study.id:
            known = {}
        else:
            known = {item.id: item for item in former.trials}
        changed = []
        for key, marks in there.items():
            if _marks(known.get(key)) != marks:
                changed.append(key)
        if len(changed) > MOST_CHANGED:
            return tuple(self.reader.trials(study))
        known |= {item.id: item for item in self.reader.trials(study, ids=changed)}
        found = []
        for key in there:
            if key in known:
                found.append(known[key])
        if sum(len(item.artifacts) for item in found) != count:  # `automl-sr gc` removed some
            return tuple(self.reader.trials(study))
        return tuple(sorted(found, key=lambda item: item.number))

    def _best(self, study: StudyRecord) -> dict[str, float]:
        """Return the best value of each objective by itself, among models that keep to the
        constraints.
        """
        trial = models.Trial
        query = select(trial.values).where(trial.study_id == study.id, trial.state.in_(FINISHED))
        with self.reader.reading() as database:
            fit = [
                values for values in database.scalars(query) if values and feasible(study, values)
            ]
        best: dict[str, float] = {}
        for metric in (
            self.registry.metrics[name]
            for name in study.objectives
            if name in self.registry.metrics
        ):
            values = []
            for row in fit:
                if metric.name in row:
                    values.append(row[metric.name])
            if values:
                best[metric.name] = metric.best(values)
        return best

    def curve(self, trial: TrialRecord) -> list[dict[str, Any]]:
        """Return the learning curve that led to a trial's model: step, seconds, phase and loss."""
        kept = self._curves.get(trial.id)
        key = f"{trial.state} {trial.finished}"
        if kept is not None and kept[0] == key and trial.state not in UNFINISHED:
            return kept[1]
        curve = learning_curve(self.reader.curve(trial), trial.params.get("recipe.batch"))
        self._curves[trial.id] = (key, curve)
        return curve

    def _work(self, study: StudyRecord) -> tuple[Work, ...]:
        trial, point = models.Trial, models.CurvePoint
        query = (
            select(trial, trial.lease_until > now())
            .where(trial.study_id == study.id, trial.state.in_(UNFINISHED))
            .order_by(trial.number)
        )
        found = []
        with self.reader.reading() as database:
            for row, live in database.execute(query):
                if row.owner is None or is_dead(row.owner):
                    continue
                if has_run_out(row.owner, row.lease_uptime, by_database=not live):
                    continue
                last = (
                    select(point.step)
                    .where(point.trial_id == row.id)
                    .order_by(point.at.desc(), point.step.desc())
                )
                step = database.scalar(last.limit(1)) or 0
                steps = int(study.spec["budget"]["steps"])
                found.append(
                    Work(row.number or 0, _worker(row.owner), row.stage or "begins", step, steps)
                )
        return tuple(found)


def _worker(owner: str) -> str:
    """Name a worker as people know it: host and process."""
    host, _, rest = owner.partition(":")
    return f"{host.partition('.')[0]} (pid {rest.partition(':')[0]})"


def _identity(url: str) -> tuple[int, int] | None:
    """Tell one file from another that takes its place; nothing for a server, or where there is no
    file.
    """
    path = sqlite_file(parse(url))
    try:
        found = path and path.stat()
    except OSError:
        return None
    if found:
        return (found.st_dev, found.st_ino)
    return None


def _version(database: Database, name: str | None = None) -> str:
    """Read what tells one content from another: of what is finished numbers of rows and the last
    moments.
    """
    study, trial, rung = models.Study, models.Trial, models.Rung
    refinement, event = models.Refinement, models.Event
    marks = (
        func.count(trial.id),
        func.max(trial.finished),
        func.max(trial.started),
        func.sum(trial.fence),
    )
    alive = trial.lease_until > now()
    parts: tuple[Any, ...] = (
        select(study.id, study.name, study.seconds, study.spec).order_by(study.id),
        select(study.id, trial.state, *marks)
        .join(trial, trial.study_id == study.id)
        .group_by(study.id, trial.state)
        .order_by(study.id, trial.state),
        select(trial.id, trial.fingerprint, trial.stage, trial.position, alive, trial.owner)
        .join(study, study.id == trial.study_id)
        .where(trial.state.in_(UNFINISHED))
        .order_by(trial.id),
        select(func.count(), func.max(rung.at)).join(study, study.id == rung.study_id),
        select(refinement.state, func.count(), func.max(refinement.finished))
        .join(study, study.id == refinement.study_id)
        .group_by(refinement.state)
        .order_by(refinement.state),
        select(func.max(event.id)).join(study, study.id == event.study_id),
    )
    if name is not None:
        parts = tuple(part.where(study.name == name) for part in parts)
    found = []
    for part in parts:
        found.append(list(map(tuple, database.execute(part).all())))
    dead = [row[-1] is not None and is_dead(row[-1]) for row in found[2]]  # of that no row tells
    return hashlib.sha256(repr((found, dead)).encode()).hexdigest()


def _state(study: StudyRecord, working: bool) -> str:
    if working:
        return "running"
    budget = study.spec["budget"]
    counts = own_counts(study)
    trials, minutes = budget.get("trials"), budget.get("minutes")
    spent = trials is not None and sum(counts[state] for state in COUNTED) >= trials
    over = minutes is not None and study.seconds >= 60 * minutes
    if spent or over:
        return "finished"
    return "paused"


def _marks(trial: TrialRecord | None) -> tuple[Any, ...]:
    """Return what differs between two states of one trial; in a trial that is not finished anything
    may.
    """
    if trial is None or trial.state in UNFINISHED:
        return ()
    return (trial.id, trial.state, trial.finished, trial.fence, trial.stage)


def metrics_of(study: StudyRecord, registry: Registry) -> tuple[Metric, ...]:
    """Name what a study measures: objectives first, then what is constrained.

    Raises PluginError.
    """
    return tuple(registry.metric(name) for name in study.metrics)
