"""One study in simulated time: workers that take the rows of a table instead of training."""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.pruners import MedianPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from automl_sr.errors import UseError, nearest
from automl_sr.search.decide.scheduler import scheduler_of
from automl_sr.search.front import hypervolume
from automl_sr.search.optuna.sampler_view import RUNGS_ATTRIBUTE, corrected
from automl_sr.search.replay.choosers import ROW, Domain, sampler_of
from automl_sr.study.limits import broken

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from automl_sr.search.front import Points
    from automl_sr.search.replay.table import Row, RungRow, Table

OPTUNA_MEDIAN = "optuna-median"
SCHEDULERS = ("pareto-asha", "median", "none", OPTUNA_MEDIAN)
"""Ours judge with the code that judges real trials; Optuna's pruner works for a single objective
alone.
"""


@dataclass(frozen=True)
class Combination:
    """A sampler and a scheduler."""

    sampler: str
    scheduler: str

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.sampler}+{self.scheduler}"

    @property
    def possible(self) -> bool:
        """Whether Optuna has it: its pruners take one objective."""
        if self.scheduler != OPTUNA_MEDIAN:
            return True
        return sampler_of(self.sampler).first_alone

    def check(self) -> None:
        """Raise UseError for unknown names."""
        sampler_of(self.sampler)
        if self.scheduler in SCHEDULERS:
            return
        hint = nearest(self.scheduler, SCHEDULERS) or f"Known: {', '.join(SCHEDULERS)}."
        raise UseError(f"Unknown scheduler {self.scheduler!r}.", hint)


@dataclass
class Trace:
    """What one simulated study reached, and when."""

    times: list[float] = field(default_factory=lambda: [0.0])
    shares: list[float] = field(default_factory=lambda: [0.0])
    """The hypervolume from each of the times on."""
    tried: int = 0
    complete: int = 0

    def at(self, times: Points) -> Points:
        """Return the hypervolume at times."""
        # From the moment itself on, hence the right side.
        positions = np.searchsorted(self.times, times, side="right") - 1
        shares = np.asarray(self.shares)
        found: Points = shares[positions]
        return found


class SimulatedStudy(Study):
    """What samplers ask a study for, kept in memory: trials with their rows."""

    def __init__(self, directions: Sequence[str], *, sees_stopped: bool) -> None:
        """Begin without trials."""
        # Optuna's own __init__ is left out: it asks a storage for a study, and there is none.
        self._directions = [StudyDirection[direction.upper()] for direction in directions]
        self._study_id = 0
        self._storage: Any = _Attributes(self)
        self.kept: list[FrozenTrial] = []
        self._sees_stopped = sees_stopped
        self._seen: list[FrozenTrial] | None = None

    def look(self) -> None:
        """Take a new look, as a sampler does once for each trial."""
        self._seen = None

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        # A sampler asks several times for one trial; what it sees is corrected once.
        if self._seen is None:
            self._seen = self._look_again()
        if states is None:
            return list(self._seen)
        return [trial for trial in self._seen if trial.state in states]

    def _look_again(self) -> list[FrozenTrial]:
        if self._sees_stopped:
            return corrected(self.kept)
        return list(self.kept)


class _Attributes:
    """The part of a storage that NSGA-II uses.

    It notes generations in trials and parents in the study.
    """

    def __init__(self, study: SimulatedStudy) -> None:
        self._study = study
        self._of_study: dict[str, Any] = {}

    def set_trial_system_attr(
        self,
        trial_id: int,
        key: str,
        value: Any,
    ) -> None:
        self._study.kept[trial_id].system_attrs[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._of_study

    def set_study_system_attr(
        self,
        study_id: int,
        key: str,
        value: Any,
    ) -> None:
        self._of_study[key] = value


@dataclass
class _Running:
    """A trial on its way: the moments at which it is judged, then its end."""

    trial: FrozenTrial
    row: int
    begun: float
    rungs: tuple[RungRow, ...]
    end: float
    judged: int = 0

    def next(self) -> float:
        """Return the time of what comes next."""
        if self.judged < len(self.rungs):
            return self.begun + self.rungs[self.judged].seconds
        return self.begun + self.end


class Simulation:
    """One combination on one table with one seed."""

    def __init__(
        self,
        table: Table,
        domain: Domain,
        combination: Combination,
        *,
        seed: int,
        seconds: float,
        workers: int = 1,
    ) -> None:
        self.table = table
        self.domain = domain
        self.combination = combination
        self.seconds = seconds
        self.workers = workers

        known = sampler_of(combination.sampler)
        self._names = table.names
        if known.first_alone:
            self._names = table.names[:1]
        directions: list[str] = []
        for objective in table.objectives[: len(self._names)]:
            directions.append(objective.direction)
        self.study = SimulatedStudy(directions, sees_stopped=known.sees_stopped)
        # The name is part of the seed, so that combinations do not share their luck.
        rng = np.random.default_rng([seed, *combination.name.encode()])
        self._chooser = known.make(table, domain, rng)

        self._pruner: MedianPruner | None = None
        kind = combination.scheduler
        if kind == OPTUNA_MEDIAN:
            self._pruner = MedianPruner()
            kind = "none"
        self._scheduler = scheduler_of(
            kind,
            table.reduction,
            table.metrics,
        )
        self._reached: dict[int, list[Mapping[str, float]]] = {}

        self._untried = np.ones(len(table.rows), dtype=bool)
        self._front = np.empty((0, len(table.objectives)))
        self.trace = Trace()

    def run(self) -> Trace:
        """Let the workers run until the time is up or no row is left."""
        # Trials by the time of their next event. Numbers break ties, so that the same seed gives
        # the same study; they differ, so that two trials are never compared.
        under_way: list[tuple[float, int, _Running]] = []
        for _ in range(self.workers):
            self._begin(0.0, under_way)
        while under_way:
            now, _, running = heapq.heappop(under_way)
            if now > self.seconds:
                break
            if self._goes_on(running):
                _wait(under_way, running)
                continue
            self._note_front(now, running)
            self._begin(now, under_way)
        return self.trace

    def _begin(self, now: float, under_way: list[tuple[float, int, _Running]]) -> None:
        """Ask the sampler for one of the rows that are left, and start it."""
        left = np.flatnonzero(self._untried)
        if len(left) == 0:
            return
        trial = _new_trial(len(self.study.kept))
        # A sampler that lies about running trials counts this one too, so it is there already.
        self.study.kept.append(trial)
        self.study.look()
        index = self._chooser.choose(
            self.study,
            trial,
            left,
        )
        self._untried[index] = False

        row = self.table.rows[index]
        trial.params = dict(row.params)
        distributions: dict[str, BaseDistribution] = {}
        for name in row.params:
            distributions[name] = self.table.parameters[name]
        trial.distributions = distributions
        trial.user_attrs[ROW] = index
        _wait(under_way, self._started(trial, index, row, now))
        self.trace.tried += 1

    def _started(
        self,
        trial: FrozenTrial,
        index: int,
        row: Row,
        now: float,
    ) -> _Running:
        """Return a trial with the time that it takes: judging costs nothing where nobody judges."""
        if row.state != "complete":
            return _Running(
                trial,
                index,
                now,
                (),
                row.seconds,
            )
        if self.combination.scheduler == "none":
            return _Running(
                trial,
                index,
                now,
                (),
                row.unjudged_seconds,
            )
        return _Running(
            trial,
            index,
            now,
            row.rungs,
            row.seconds,
        )

    def _goes_on(self, running: _Running) -> bool:
        """Judge a trial that reached a rung; one that is stopped or at its end is told."""
        if running.judged < len(running.rungs):
            rung = running.rungs[running.judged]
            running.judged += 1
            if self._judged(running.trial, rung):
                return True
            self._tell(
                running,
                TrialState.PRUNED,
                rung.values,
            )
            return False

        row = self.table.rows[running.row]
        if row.state == "complete":
            self.trace.complete += 1
            self._tell(
                running,
                TrialState.COMPLETE,
                row.values,
            )
        elif row.state == "infeasible":
            # As in a search: it has the costs that were known before training.
            self._tell(
                running,
                TrialState.PRUNED,
                row.costs,
            )
        else:
            self._tell(running, TrialState.FAIL, {})
        return False

    def _judged(self, trial: FrozenTrial, rung: RungRow) -> bool:
        """Return whether a trial goes on after a rung."""
        first = rung.values[self._names[0]]
        if self._pruner is not None:
            trial.intermediate_values[rung.step] = first
            # The pruner compares with what other trials reported since the sampler looked.
            self.study.look()
            return not self._pruner.prune(self.study, trial)

        reached = self._reached.setdefault(rung.rung, [])
        verdict = self._scheduler.decide(
            rung.rung,
            rung.values,
            reached,
        )
        reached.append(rung.values)
        # Optuna has reports for one objective alone; its samplers order stopped trials by them.
        if len(self._names) == 1:
            trial.intermediate_values[rung.step] = first
        return verdict.go_on

    def _tell(
        self,
        running: _Running,
        state: TrialState,
        values: Mapping[str, float],
    ) -> None:
        """End a trial as the search tells Optuna."""
        trial = running.trial
        for name, limits in self.table.constraints.items():
            if name in values:
                trial.system_attrs[f"constraints:{name}"] = limits.violation(values[name])
        if running.judged:
            trial.user_attrs[RUNGS_ATTRIBUTE] = self._rungs(running)
        trial.state = state
        if state == TrialState.COMPLETE:
            trial.values = self._ordered(values)

    def _rungs(self, running: _Running) -> dict[str, list[float]]:
        """Return the values at the rungs that a trial reached, as a search notes them."""
        found: dict[str, list[float]] = {}
        for rung in running.rungs[: running.judged]:
            found[str(rung.rung)] = self._ordered(rung.values)
        return found

    def _ordered(self, values: Mapping[str, float]) -> list[float]:
        """Return the values of the objectives, in their order."""
        return [values[name] for name in self._names]

    def _note_front(self, now: float, running: _Running) -> None:
        """Add the model that a trial left to the front, if it keeps to the constraints."""
        values = self._left(running)
        if values is None or broken(self.table.constraints, values):
            return
        point = self.table.box.scaled([values])
        no_worse = (self._front <= point).all(axis=1)
        if no_worse.any():
            return
        dominated = (point <= self._front).all(axis=1)
        self._front = np.vstack([self._front[~dominated], point])
        corner = np.ones(self._front.shape[1])
        self.trace.times.append(now)
        self.trace.shares.append(hypervolume(self._front, corner))

    def _left(self, running: _Running) -> Mapping[str, float] | None:
        """Return the values of the model that a trial left, stopped or not."""
        row = self.table.rows[running.row]
        if running.trial.state == TrialState.COMPLETE:
            return row.values
        if running.judged:
            last = row.rungs[running.judged - 1]
            return last.values
        return None


def _wait(under_way: list[tuple[float, int, _Running]], running: _Running) -> None:
    """Put a trial in line for its next event."""
    heapq.heappush(under_way, (running.next(), running.trial.number, running))


def _new_trial(number: int) -> FrozenTrial:
    """Return a trial that runs and knows nothing yet; its number is its identity too."""
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )
