"""Samplers that choose among the rows of a table.

A sampler draws from a density over the space. Here it draws from the same density with only the
untried rows left to choose from. The rows are themselves a draw from the space, so that a row's
weight is the density that the sampler gives to its configuration, divided by the density with which
the space is drawn from at random (sampling by importance). The idea is the same for all:

- `random` has the density of the space: all untried rows are equally likely.
- `tpe` draws its 24 candidates with the density l of the good trials, here from the untried rows,
  and takes the one with the largest l / g. Both are Optuna's own Parzen estimators of Optuna's own
  division into good and bad trials; the densities of the groups of a conditional space (or of
  single parameters, where the sampler is not multivariate) are multiplied for the parameters that a
  row has.
- `nsga2` draws generation and parents as Optuna does; crossover and mutation then give every
  configuration a probability, from which the child is drawn. A number of a continuous (or long)
  range counts as inherited if it lies in the same tenth of the range as the parent's: no row would
  ever be a child otherwise.
- `qmc` goes through the rows as the Sobol sequence did that recorded them, from a random place on.

Ties are broken at random. Before a sampler has seen anything, and wherever its densities are level,
every untried row is equally likely. The nearest neighbour of a proposal would not do: rows that
stand alone would be chosen most.

The `optuna-` forms have Optuna's defaults and see stopped trials as Optuna does; ours see them as
`view` shows them. This module touches private parts of Optuna's samplers (checked with Optuna 5.0).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import NSGAIISampler, TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_gamma_multiobjective
from optuna.samplers.nsgaii._crossover import _select_parents
from optuna.search_space.group_decomposed import _SearchSpaceGroup
from optuna.study import Study
from optuna.study._constrained_optimization import _is_constrained_optimization
from optuna.study._multi_objective import _dominates
from optuna.trial import FrozenTrial, TrialState

from automl_sr.errors import UseError, nearest
from automl_sr.search.optuna.samplers import ReproducibleSampler, make_sampler

if TYPE_CHECKING:
    from automl_sr.search.replay.table import Table

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]
Space = Mapping[str, BaseDistribution]

CELLS = 10
"""A parameter with more values than this is inherited by tenths of its range."""
ROW = "row"
"""User attribute of a trial: the index of its row."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Chooser(Protocol):
    """Chooses the next row of one study."""

    def choose(self, study: Study, trial: FrozenTrial, untried: Indices) -> int:
        """Return one of the untried rows for a trial that has just begun."""


class Domain:
    """The rows of a table as samplers see them: numbers, NaN where a row does not have the
    parameter.
    """

    def __init__(self, table: Table) -> None:
        self.space: dict[str, BaseDistribution] = {
            name: item for name, item in table.parameters.items() if not item.single()
        }
        rows = table.rows
        self.numbers = {name: np.full(len(rows), np.nan) for name in self.space}
        for index, row in enumerate(rows):
            for name in row.params.keys() & self.space.keys():
                self.numbers[name][index] = self.space[name].to_internal_repr(row.params[name])
        self.prior = {
            name: _log_prior(item, self.numbers[name]) for name, item in self.space.items()
        }
        """Logarithm of the density of a random draw at each row."""
        cells = {name: _cells(item, self.numbers[name]) for name, item in self.space.items()}
        self.cell = {name: found for name, (found, _) in cells.items()}
        """Where a row counts as equal to a parent: values, or tenths of a range; -1 where it lacks
        the parameter.
        """
        self.cell_mass = {name: mass for name, (_, mass) in cells.items()}
        """Probability that a random draw falls into the row's cell."""

    def has(self, name: str, rows: Indices) -> NDArray[np.bool_]:
        """Say which rows have a parameter."""
        found: NDArray[np.bool_] = ~np.isnan(self.numbers[name][rows])
        return found


class RandomChooser:
    """Every untried row is equally likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def choose(self, study: Study, trial: FrozenTrial, untried: Indices) -> int:
        """Draw one."""
        return int(self.rng.choice(untried))


class SobolChooser:
    """The rows in the order in which they were recorded, from a random place on."""

    def __init__(self, table: Table, rng: np.random.Generator) -> None:
        if table.sampler != "qmc":
            raise UseError(
                f"The table of {table.study!r} was recorded with {table.sampler}: its order is no"
                " Sobol sequence.",
                "Leave qmc out.",
            )
        numbers = np.array([row.number for row in table.rows])
        self._place = np.empty(len(numbers), dtype=np.int64)
        self._place[np.argsort(numbers)] = (
            np.arange(len(numbers)) - rng.integers(len(numbers))
        ) % len(numbers)

    def choose(self, study: Study, trial: FrozenTrial, untried: Indices) -> int:
        """Take the next."""
        return int(untried[np.argmin(self._place[untried])])


class TPEChooser:
    """The tree-structured Parzen estimator, with the settings of one of Optuna's samplers."""

    def __init__(self, sampler: TPESampler, domain: Domain, rng: np.random.Generator) -> None:
        self.sampler = sampler
        self.domain = domain
        self.rng = rng
        self._groups = _SearchSpaceGroup()
        self._known: set[frozenset[str]] = set()
        self._spaces: list[dict[str, BaseDistribution]] = []

    def choose(self, study: Study, trial: FrozenTrial, untried: Indices) -> int:
        """Draw candidates by l and take the best by l / g; as long as little is known, draw at
        random.
        """
        trials = []
        for other in study._get_trials(deepcopy=False):
            if self._counts(other) and other is not trial:
                trials.append(other)
        finished = []
        for other in trials:
            if other.state in FINISHED:
                finished.append(other)
        if len(finished) < self.sampler._n_startup_trials:
            return int(self.rng.choice(untried))
        multi = study._is_multi_objective()
        if multi:
            gamma = default_gamma_multiobjective
        else:
            gamma = default_gamma
        below, above = _split_trials(study, trials, gamma(len(finished)))
        spaces = self.spaces(study, finished)
        good = self.log_ratio(spaces, below, level=multi)(untried)
        drawn = np.unique(
            self.rng.choice(len(untried), size=self.sampler._n_ei_candidates, p=_shares(good))
        )
        bad = self.log_ratio(spaces, above, level=False)(untried[drawn])
        return _best(untried[drawn], good[drawn] - bad, self.rng)

    def spaces(
        self, study: Study, finished: Sequence[FrozenTrial]
    ) -> list[dict[str, BaseDistribution]]:
        """Divide the space into what the sampler proposes jointly: groups, what all trials have, or
        each by itself.
        """
        keys = set()
        for trial in finished:
            keys.add(frozenset(trial.distributions))
        if keys <= self._known and self._spaces:
            return self._spaces
        self._known |= keys
        joint: list[set[str]] = []
        if self.sampler._is_multivariate(study):
            if self.sampler._group:
                for names in sorted(keys, key=sorted):
                    self._groups.add_distributions(
                        {name: self.domain.space[name] for name in self._open(names)}
                    )
                joint = []
                for space in self._groups.search_spaces:
                    joint.append(set(space))
            else:
                joint = [self._open(frozenset.intersection(*self._known))]
        left = self.domain.space.keys() - set().union(*joint)
        self._spaces = [
            {name: self.domain.space[name] for name in sorted(names)}
            for names in [*joint, *({n} for n in left)]
            if names
        ]
        return self._spaces

    def log_ratio(
        self, spaces: Sequence[Space], trials: Sequence[FrozenTrial], *, level: bool
    ) -> Callable[[Indices], Numbers]:
        """Fit a density to trials; the function gives its logarithm at rows, relative to that of a
        random draw.

        With `level`, all trials weigh the same, as Optuna has it for the good ones of several
        objectives.
        """
        seen = np.array([trial.user_attrs[ROW] for trial in trials], dtype=np.int64)
        fitted = [(space, self._fitted(space, seen, level=level)) for space in spaces]

        def at(rows: Indices) -> Numbers:
            found = np.zeros(len(rows))
            for space, density in fitted:
                names = list(space)
                there = self.domain.has(names[0], rows)
                if not there.all() and len(names) > 1:
                    there = functools.reduce(
                        np.logical_and, (self.domain.has(name, rows) for name in names)
                    )
                some = rows[there]
                if len(some):
                    values = density.log_pdf(
                        {name: self.domain.numbers[name][some] for name in names}
                    )
                    found[there] += values - sum(self.domain.prior[name][some] for name in names)
            return found

        return at

    def _fitted(self, space: Space, seen: Indices, *, level: bool) -> _ParzenEstimator:
        """Do what `TPESampler._build_parzen_estimator` does, with numbers that are looked up."""
        have = functools.reduce(np.logical_and, (self.domain.has(name, seen) for name in space))
        rows = seen[have]
        observed = {}
        for name in space:
            observed[name] = self.domain.numbers[name][rows]
        weights = None
        if level:
            weights = np.ones(len(rows))
        return _ParzenEstimator(
            observed, dict(space), self.sampler._parzen_estimator_parameters, weights
        )

    def _counts(self, trial: FrozenTrial) -> bool:
        return trial.state in FINISHED or (
            self.sampler._constant_liar and trial.state == TrialState.RUNNING
        )

    def _open(self, names: frozenset[str]) -> set[str]:
        return set(names & self.domain.space.keys())


class NSGA2Chooser:
    """The genetic algorithm: Optuna's generations and parents, and a child among the untried
    rows.
    """

    def __init__(self, sampler: NSGAIISampler, domain: Domain, rng: np.random.Generator) -> None:
        self.sampler = sampler
        self.domain = domain
        self.rng = rng
        sampler._rng.rng.seed(int(rng.integers(2**32)))

    def choose(self, study: Study, trial: FrozenTrial, untried: Indices) -> int:
        """Draw a child of drawn parents; in the first generation, draw at random."""
        generation = self.sampler.get_trial_generation(study, trial)
        population = self.sampler.get_parent_population(study, generation)
        if not population:
            return int(self.rng.choice(untried))
        space = self.sampler.infer_relative_search_space(study, trial)
        parents = self._parents(study, population)
        return int(self.rng.choice(untried, p=_shares(self.log_ratio(space, parents, untried))))

    def log_ratio(self, space: Space, parents: Sequence[FrozenTrial], rows: Indices) -> Numbers:
        """Return the logarithm of the probability that parents have a child like a row, relative to
        a random draw.

        Parameters outside the space are drawn at random, and so is one that mutates.
        """
        mutation = 1 / max(1, len(space))
        found = np.zeros(len(rows))
        for name in space:
            cell, mass = self.domain.cell[name][rows], self.domain.cell_mass[name][rows]
            alike = np.mean(
                [cell == self.domain.cell[name][parent.user_attrs[ROW]] for parent in parents],
                axis=0,
            )
            found += np.log((1 - mutation) * alike / mass + mutation)
        return found

    def _parents(self, study: Study, population: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return two that won their tournaments, or one that is copied."""
        strategy: Any = self.sampler._child_generation_strategy
        if (
            self.rng.random() >= strategy._crossover_prob
            or len(population) < strategy._crossover.n_parents
        ):
            return [population[self.rng.integers(len(population))]]
        dominates: Any = _dominates
        if _is_constrained_optimization(population):
            from optuna.samplers.nsgaii._constraints_evaluation import (
                _constrained_dominates as dominates,
            )
        return _select_parents(
            strategy._crossover, study, population, self.sampler._rng.rng, dominates
        )


def _log_prior(item: BaseDistribution, numbers: Numbers) -> Numbers:
    """Return the logarithm of the density of a random draw, with respect to what Parzen estimators
    take theirs to.
    """
    found: Numbers = np.where(np.isnan(numbers), np.nan, 0.0)
    match item:
        case CategoricalDistribution(choices=choices):
            return found - math.log(len(choices))
        case IntDistribution(low=low, high=high, log=True):
            share = np.log((numbers + 0.5) / (numbers - 0.5)) / math.log((high + 0.5) / (low - 0.5))
            return np.asarray(np.log(share))
        case FloatDistribution(low=low, high=high, log=True):
            return found - math.log(math.log(high / low))
        case IntDistribution(low=low, high=high, step=step):
            return found - math.log((high - low) // step + 1)
        case FloatDistribution(low=low, high=high, step=None):
            return found - math.log(high - low)
        case FloatDistribution(low=low, high=high, step=step) if step is not None:
            return found - math.log(round((high - low) / step) + 1)
    raise UseError(f"Replay cannot choose by {type(item).__name__}.")


def _cells(item: BaseDistribution, numbers: Numbers) -> tuple[Indices, Numbers]:
    """Divide the values of a parameter into what counts as equal, and say how likely a random draw
    falls in there.
    """
    there = ~np.isnan(numbers)
    cells, masses = np.full(len(numbers), -1, dtype=np.int64), np.ones(len(numbers))
    if isinstance(item, CategoricalDistribution):
        cells[there] = numbers[there].astype(np.int64)
        masses[there] = 1 / len(item.choices)
        return cells, masses
    assert isinstance(item, IntDistribution | FloatDistribution)  # noqa: S101 - Optuna has no others
    if item.step is None:
        cells[there] = _tenth(item, numbers[there])
        masses[there] = 1 / CELLS
        return cells, masses
    count = round((item.high - item.low) / item.step) + 1
    values: Numbers = item.low + float(item.step) * np.arange(count, dtype=np.float64)
    if count > CELLS:
        own = _tenth(item, values)
    else:
        own = np.arange(count)
    mass = np.bincount(own, weights=np.exp(_log_prior(item, values)))
    cells[there] = own[np.rint((numbers[there] - item.low) / item.step).astype(np.int64)]
    masses[there] = mass[cells[there]]
    return cells, masses


def _tenth(item: IntDistribution | FloatDistribution, numbers: Numbers) -> Indices:
    """Say in which tenth of its range a number lies, on the scale on which it is drawn."""
    half = 0.5 * (item.step or 0.0)
    scale: Callable[[Any], Any] = np.log if item.log else np.asarray
    low, high = scale(item.low - half), scale(item.high + half)
    found: Indices = np.clip((scale(numbers) - low) / (high - low) * CELLS, 0, CELLS - 1).astype(
        np.int64
    )
    return found


def _shares(log_weights: Numbers) -> Numbers:
    weights = np.exp(log_weights - log_weights.max())
    shares: Numbers = weights / weights.sum()
    return shares


def _best(rows: Indices, scores: Numbers, rng: np.random.Generator) -> int:
    """Return the row with the largest score; rounding apart, ties are drawn."""
    return int(rng.choice(rows[scores >= scores.max() - 1e-9]))


@dataclass(frozen=True)
class Sampler:
    """A sampler by name: how its chooser is made, and what it knows of a study."""

    make: Callable[[Table, Domain, np.random.Generator], Chooser]
    sees_stopped: bool = True
    """Whether it sees stopped trials as our `view` shows them; they are just pruned otherwise."""
    first_alone: bool = False
    """Whether its study has the first objective alone."""


def _ours(name: str) -> Callable[[Table, Domain, np.random.Generator], Chooser]:
    def make(table: Table, domain: Domain, rng: np.random.Generator) -> Chooser:
        wrapped = make_sampler(name, 0, table.parameters)
        if isinstance(wrapped, ReproducibleSampler):
            inner = wrapped.inner
        else:
            inner = wrapped
        if isinstance(inner, TPESampler):
            return TPEChooser(inner, domain, rng)
        if isinstance(inner, NSGAIISampler):
            return NSGA2Chooser(inner, domain, rng)
        raise UseError(
            f"Replay cannot choose rows as {name!r} does.", f"Known: {', '.join(SAMPLERS)}."
        )

    return make


SAMPLERS: dict[str, Sampler] = {
    "tpe": Sampler(_ours("tpe")),
    "nsga2": Sampler(_ours("nsga2")),
    "random": Sampler(lambda table, domain, rng: RandomChooser(rng)),
    "qmc": Sampler(lambda table, domain, rng: SobolChooser(table, rng)),
    "optuna-tpe": Sampler(
        lambda table, domain, rng: TPEChooser(TPESampler(), domain, rng), sees_stopped=False
    ),
    "optuna-nsga2": Sampler(
        lambda table, domain, rng: NSGA2Chooser(NSGAIISampler(), domain, rng), sees_stopped=False
    ),
    "optuna-tpe-first": Sampler(
        lambda table, domain, rng: TPEChooser(TPESampler(), domain, rng),
        sees_stopped=False,
        first_alone=True,
    ),
}
"""`optuna-` forms have Optuna's defaults; `-first` searches for the first objective alone."""


def sampler_of(name: str) -> Sampler:
    """Return a sampler by name. Raises UseError."""
    if name not in SAMPLERS:
        raise UseError(
            f"Unknown sampler {name!r}.",
            nearest(name, SAMPLERS) or f"Known: {', '.join(SAMPLERS)}.",
        )
    return SAMPLERS[name]
