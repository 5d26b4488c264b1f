"""What pages show of a store: kept in memory, and read again only where something has changed."""

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
from automl_sr.presentation.progress import Curve, history, learning_curve
from automl_sr.search.results import FINISHED, feasible, front_of, own_counts
from automl_sr.store import models
from automl_sr.store.database import default_url, masked, parse, sqlite_file
from automl_sr.store.leases import Owner, has_run_out, is_dead
from automl_sr.store.models import now
from automl_sr.store.reading import Reader
from automl_sr.store.records import COUNTED, UNFINISHED, RungRecord, StudyRecord, TrialRecord

if TYPE_CHECKING:
    from sqlalchemy.orm import Session as Database

    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.registry import Registry

Marks = tuple[Any, ...]
"""What tells two states of one trial apart."""
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
    """A study with all its trials, as they were at one moment.

    What follows from them is computed once.
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
        """Take over what was worked out already, if nothing has happened but that trials go on."""
        if self.study.spec != former.study.spec:
            return
        if len(self.finished) != len(former.finished):
            return
        # By identity: a trial that was not read again is the same object.
        for new, old in zip(self.finished, former.finished, strict=True):
            if new is not old:
                return
        self.content = former.content
        # Cached properties lie in the object's dictionary, once they were asked for.
        for name, value in former.__dict__.items():
            if name in WORKED_OUT:
                self.__dict__[name] = value

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
        return tuple(map(self._registry.metric, self.study.objectives))

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Objectives first, then what is constrained."""
        return metrics_of(self.study, self._registry)

    @cached_property
    def front(self) -> tuple[TrialRecord, ...]:
        """Models that no other one dominates, best first in the first objective."""
        metrics = {metric.name: metric for metric in self.objectives}
        return tuple(front_of(self.study, self.trials, metrics))

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
        self._curves: dict[int, tuple[str, Curve]] = {}
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
            # SQLite would go on reading what was removed.
            if self._reader is not None and file != self._file:
                self._reader.close()
                self._reader = None
                self._kept.clear()
                self._curves.clear()
            if self._reader is None:
                self._reader = Reader.open(self.url)
                self._file = file
            return self._reader

    def close(self) -> None:
        """Close the connections to the database."""
        if self._reader is not None:
            self._reader.close()

    def version(self) -> str:
        """Return a name of the store's content, another one where what pages show has changed."""
        try:
            with self.reader.reading() as database:
                return _version(database)
        except StoreError as error:
            # With the reason: a page that is told another one shows it.
            return f"{NOTHING_THERE}: {error}"

    def names(self) -> list[str]:
        """Return the names of the studies, the newest first."""
        names = [study.name for study in self.reader.studies()]
        names.reverse()
        return names

    def summaries(self, version: str) -> list[Summary]:
        """Return the studies with what they are doing, the newest first.

        From memory if they were read at this version.
        """
        # A page asks several times while it is opened, and reading five thousand trials takes a
        # fifth of a second.
        known, found = self._summaries
        if known != version:
            found = self._read_summaries()
            self._summaries = version, found
        return found

    def _read_summaries(self) -> list[Summary]:
        found = []
        for study in reversed(self.reader.studies()):
            work = self._work(study)
            state = _state(study, bool(work))
            found.append(Summary(study, state, self._best(study), work))
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
            # Before the trials: what changes meanwhile is found the next time.
            with reader.reading() as database:
                version = _version(database, name)
            known, former = self._kept.get(name, ("", None))
            if former is not None and known == version:
                return former
            study = reader.study(name)
            made = Snapshot(
                study,
                self._trials(study, former),
                reader,
                self.registry,
            )
            if former is not None:
                made.take_over(former)
            self._kept[name] = (version, made)
            return made

    def _trials(
        self,
        study: StudyRecord,
        former: Snapshot | None,
    ) -> tuple[TrialRecord, ...]:
        """Return the trials; of those that are known already only what has changed is read."""
        there, count = self._marks_there(study)
        known: dict[int, TrialRecord] = {}
        if former is not None and former.study.id == study.id:
            known = {item.id: item for item in former.trials}
        changed = []
        for key, marks in there.items():
            if _marks(known.get(key)) != marks:
                changed.append(key)
        if len(changed) > MOST_CHANGED:
            return tuple(self.reader.trials(study))

        for item in self.reader.trials(study, ids=changed):
            known[item.id] = item
        found = []
        files = 0
        for key in there:
            # One that was removed between the two readings is in none of them.
            if key in known:
                found.append(known[key])
                files += len(known[key].artifacts)
        if files != count:  # `automl-sr gc` removed some, which no mark of a trial tells
            return tuple(self.reader.trials(study))
        found.sort(key=lambda item: item.number)
        return tuple(found)

    def _marks_there(self, study: StudyRecord) -> tuple[dict[int, Marks], int | None]:
        """Return what tells states of trials apart, by the trial's id, and the number of files."""
        trial = models.Trial
        # Claimed ones have no number yet: they are nothing to show.
        marks = select(trial.id, trial.state, trial.finished, trial.fence, trial.stage).where(
            trial.study_id == study.id,
            trial.number.is_not(None),
        )
        files = (
            select(func.count())
            .select_from(models.Artifact)
            .join(trial, trial.id == models.Artifact.trial_id)
            .where(trial.study_id == study.id)
        )
        with self.reader.reading() as database:
            there = {}
            for row in database.execute(marks):
                there[row.id] = tuple(row)
            return there, database.scalar(files)

    def _best(self, study: StudyRecord) -> dict[str, float]:
        """Return the best value of each objective by itself.

        Of models that keep to the constraints.
        """
        trial = models.Trial
        # The values alone: the list needs no more of the trials of all studies.
        query = select(trial.values).where(
            trial.study_id == study.id,
            trial.state.in_(FINISHED),
        )
        reached: dict[str, list[float]] = {}
        with self.reader.reading() as database:
            for values in database.scalars(query):
                if not values or not feasible(study, values):
                    continue
                for name, value in values.items():
                    reached.setdefault(name, []).append(value)
        best = {}
        for name in study.objectives:
            metric = self.registry.metrics.get(name)
            # The list shows studies whose plugins are missing too, without this.
            if metric is not None and name in reached:
                best[name] = metric.best(reached[name])
        return best

    def curve(self, trial: TrialRecord) -> Curve:
        """Return the learning curve that led to a trial's model: step, seconds, phase and loss."""
        key = f"{trial.state} {trial.finished}"
        known, curve = self._curves.get(trial.id, ("", []))
        # That of a trial which goes on grows without another state.
        if known == key and trial.state not in UNFINISHED:
            return curve
        curve = learning_curve(self.reader.curve(trial), trial.params.get("recipe.batch"))
        self._curves[trial.id] = (key, curve)
        return curve

    def _work(self, study: StudyRecord) -> tuple[Work, ...]:
        """Return the trials that living workers have in their hands."""
        trial = models.Trial
        query = (
            select(trial, trial.lease_until > now())
            .where(trial.study_id == study.id, trial.state.in_(UNFINISHED))
            .order_by(trial.number)
        )
        steps = int(study.spec["budget"]["steps"])
        found = []
        with self.reader.reading() as database:
            for row, live in database.execute(query):
                # A killed worker holds its lease until it runs out; on this machine it is known
                # to be dead before.
                if row.owner is None or is_dead(row.owner):
                    continue
                if has_run_out(row.owner, row.lease_uptime, by_database=not live):
                    continue
                work = Work(
                    number=row.number or 0,
                    worker=_worker(row.owner),
                    stage=row.stage or "begins",
                    step=_last_step(database, row.id),
                    steps=steps,
                )
                found.append(work)
        return tuple(found)


def _last_step(database: Database, trial: int) -> int:
    """Return the last step of a learning curve."""
    point = models.CurvePoint
    # By time first: after a resume or a branch smaller steps come again.
    query = (
        select(point.step)
        .where(point.trial_id == trial)
        .order_by(point.at.desc(), point.step.desc())
        .limit(1)
    )
    return database.scalar(query) or 0


def _worker(owner: str) -> str:
    """Name a worker as people know it: host and process."""
    known = Owner.parse(owner)
    if known is None:
        return owner
    return f"{known.host} (pid {known.pid})"


def _identity(url: str) -> tuple[int, int] | None:
    """Return what tells one file from another that takes its place.

    None for a server, or where there is no file.
    """
    path = sqlite_file(parse(url))
    if not path:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _version(database: Database, name: str | None = None) -> str:
    """Return what tells one content of the store, or of one study, from another."""
    # Of what is finished, numbers of rows and the last moments tell enough.
    study, trial, rung = models.Study, models.Trial, models.Rung
    refinement, event = models.Refinement, models.Event
    counts = (
        func.count(trial.id),
        func.max(trial.finished),
        func.max(trial.started),
        func.sum(trial.fence),
    )
    alive = trial.lease_until > now()
    unfinished = (
        select(trial.id, trial.fingerprint, trial.stage, trial.position, alive, trial.owner)
        .join(study, study.id == trial.study_id)
        .where(trial.state.in_(UNFINISHED))
        .order_by(trial.id)
    )
    # Everything is ordered: databases may give the same rows in another order the next time.
    parts: tuple[Any, ...] = (
        select(study.id, study.name, study.seconds, study.spec).order_by(study.id),
        select(study.id, trial.state, *counts)
        .join(trial, trial.study_id == study.id)
        .group_by(study.id, trial.state)
        .order_by(study.id, trial.state),
        unfinished,
        select(func.count(), func.max(rung.at)).join(study, study.id == rung.study_id),
        select(refinement.state, func.count(), func.max(refinement.finished))
        .join(study, study.id == refinement.study_id)
        .group_by(refinement.state)
        .order_by(refinement.state),
        select(func.max(event.id)).join(study, study.id == event.study_id),
    )
    found = []
    dead = []
    for part in parts:
        asked = part
        if name is not None:
            asked = part.where(study.name == name)
        rows = list(map(tuple, database.execute(asked).all()))
        found.append(rows)
        if part is unfinished:
            # That a worker on this machine has died no row tells.
            dead = [row[-1] is not None and is_dead(row[-1]) for row in rows]
    return hashlib.sha256(repr((found, dead)).encode()).hexdigest()


def _state(study: StudyRecord, working: bool) -> str:
    if working:
        return "running"
    budget = study.spec["budget"]
    trials = budget.get("trials")
    minutes = budget.get("minutes")
    if trials is not None:
        counts = own_counts(study)
        if sum(map(counts.__getitem__, COUNTED)) >= trials:
            return "finished"
    if minutes is not None and study.seconds >= 60 * minutes:
        return "finished"
    return "paused"


def _marks(trial: TrialRecord | None) -> Marks:
    """Return what differs between two states of one trial."""
    # In a trial that is not finished anything may: it is always read again.
    if trial is None or trial.state in UNFINISHED:
        return ()
    return (trial.id, trial.state, trial.finished, trial.fence, trial.stage)


def metrics_of(study: StudyRecord, registry: Registry) -> tuple[Metric, ...]:
    """Return what a study measures: objectives first, then what is constrained.

    Raises PluginError.
    """
    return tuple(map(registry.metric, study.metrics))
