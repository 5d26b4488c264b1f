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

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from optuna.samplers.nsgaii._constraints_evaluation import _constrained_dominates
from optuna.samplers.nsgaii._crossover import _select_parents
from optuna.search_space.group_decomposed import _SearchSpaceGroup
from optuna.study import Study
from optuna.study._constrained_optimization import _is_constrained_optimization
from optuna.study._multi_objective import _dominates
from optuna.trial import FrozenTrial, TrialState

from automl_sr.errors import UseError, nearest
from automl_sr.search.optuna.samplers import ReproducibleSampler, make_sampler

if TYPE_CHECKING:
    from automl_sr.search.replay.table import Row, Table

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]
Space = Mapping[str, BaseDistribution]

CELLS = 10
"""A parameter with more values than this is inherited by tenths of its range."""
TIED = 1e-9
"""Scores that differ by less are equal: the same sums, rounded in another order."""
ROW = "row"
"""User attribute of a trial: the index of its row."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Chooser(Protocol):
    """Chooses the next row of one study."""

    def choose(
        self,
        study: Study,
        trial: FrozenTrial,
        untried: Indices,
    ) -> int:
        """Return one of the untried rows for a trial that has just begun."""


class Domain:
    """The rows of a table as samplers see them: numbers, NaN where a row lacks the parameter."""

    def __init__(self, table: Table) -> None:
        self.space: dict[str, BaseDistribution] = {}
        for name, item in table.parameters.items():
            # What has a single value tells no rows apart, and Optuna's samplers leave it out.
            if not item.single():
                self.space[name] = item

        self.numbers = self._numbers(table.rows)
        self.prior: dict[str, Numbers] = {}
        """Logarithm of the density of a random draw at each row."""
        self.cell: dict[str, Indices] = {}
        """Where a row counts as equal to a parent: values, or tenths of a range; -1 where it lacks
        the parameter.
        """
        self.cell_mass: dict[str, Numbers] = {}
        """Probability that a random draw falls into the row's cell."""
        for name, item in self.space.items():
            numbers = self.numbers[name]
            self.prior[name] = _log_prior(item, numbers)
            self.cell[name], self.cell_mass[name] = _cells(item, numbers)

    def _numbers(self, rows: Sequence[Row]) -> dict[str, Numbers]:
        """Return the numbers by which Optuna's densities know the values of rows."""
        found: dict[str, Numbers] = {}
        for name in self.space:
            found[name] = np.full(len(rows), np.nan)
        for index, row in enumerate(rows):
            for name in row.params.keys() & self.space.keys():
                item = self.space[name]
                found[name][index] = item.to_internal_repr(row.params[name])
        return found

    def has(self, name: str, rows: Indices) -> NDArray[np.bool_]:
        """Return for each row whether it has a parameter."""
        numbers = self.numbers[name]
        found: NDArray[np.bool_] = ~np.isnan(numbers[rows])
        return found

    def have(self, names: Iterable[str], rows: Indices) -> NDArray[np.bool_]:
        """Return for each row whether it has all of some parameters."""
        found = np.ones(len(rows), dtype=bool)
        for name in names:
            found &= self.has(name, rows)
        return found


class RandomChooser:
    """Every untried row is equally likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def choose(
        self,
        study: Study,
        trial: FrozenTrial,
        untried: Indices,
    ) -> int:
        """Return any of them."""
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
        count = len(numbers)

        # The place of each row in the sequence, counted from where this study begins. Trials have
        # gaps in their numbers, so that the order alone counts.
        begin = rng.integers(count)
        self._place = np.empty(count, dtype=np.int64)
        self._place[np.argsort(numbers)] = (np.arange(count) - begin) % count

    def choose(
        self,
        study: Study,
        trial: FrozenTrial,
        untried: Indices,
    ) -> int:
        """Return the next."""
        places = self._place[untried]
        return int(untried[np.argmin(places)])


class TPEChooser:
    """The tree-structured Parzen estimator, with the settings of one of Optuna's samplers."""

    def __init__(
        self,
        sampler: TPESampler,
        domain: Domain,
        rng: np.random.Generator,
    ) -> None:
        self.sampler = sampler
        self.domain = domain
        self.rng = rng
        self._groups = _SearchSpaceGroup()
        self._known: set[frozenset[str]] = set()
        self._spaces: list[dict[str, BaseDistribution]] = []

    def choose(
        self,
        study: Study,
        trial: FrozenTrial,
        untried: Indices,
    ) -> int:
        """Return the best by l / g of candidates drawn by l; any row while little is known."""
        trials: list[FrozenTrial] = []
        finished: list[FrozenTrial] = []
        for other in study._get_trials(deepcopy=False):
            # The liar counts what is running, but the trial that asks knows nothing yet.
            if other is trial or not self._counts(other):
                continue
            trials.append(other)
            if other.state in FINISHED:
                finished.append(other)
        if len(finished) < self.sampler._n_startup_trials:
            return int(self.rng.choice(untried))

        multi = study._is_multi_objective()
        gamma = default_gamma
        if multi:
            gamma = default_gamma_multiobjective
        # As in Optuna, running trials are divided too, but how many are good does not grow by them.
        below, above = _split_trials(
            study,
            trials,
            gamma(len(finished)),
        )
        spaces = self.spaces(study, finished)

        good = self.log_ratio(spaces, below, level=multi)(untried)
        candidates = self.rng.choice(
            len(untried),
            size=self.sampler._n_ei_candidates,
            p=_shares(good),
        )
        # A row that was drawn twice must not win the tie with another one twice as often.
        drawn = np.unique(candidates)
        rows = untried[drawn]
        bad = self.log_ratio(spaces, above, level=False)(rows)
        return _best(rows, good[drawn] - bad, self.rng)

    def spaces(
        self, study: Study, finished: Sequence[FrozenTrial]
    ) -> list[dict[str, BaseDistribution]]:
        """Return the parts of the space that the sampler proposes jointly.

        They are groups, what all trials have, or each parameter by itself.
        """
        keys = set()
        for trial in finished:
            keys.add(frozenset(trial.distributions))
        # Parts change only where a trial has parameters that no trial before it had together.
        if keys <= self._known and self._spaces:
            return self._spaces
        self._known |= keys

        parts = self._joint(study, keys)
        grouped: set[str] = set().union(*parts)
        for name in self.domain.space:
            if name not in grouped:
                parts.append({name})

        self._spaces = []
        for names in parts:
            if names:
                self._spaces.append(self._space(sorted(names)))
        return self._spaces

    def _joint(self, study: Study, keys: set[frozenset[str]]) -> list[set[str]]:
        """Return the parameters that are proposed together, `keys` being those of new trials."""
        if not self.sampler._is_multivariate(study):
            return []
        if not self.sampler._group:
            return [self._open(frozenset.intersection(*self._known))]
        # Sorted, since groups come in the order in which they were split, and a set has none.
        for names in sorted(keys, key=sorted):
            self._groups.add_distributions(self._space(self._open(names)))
        return [set(space) for space in self._groups.search_spaces]

    def _space(self, names: Iterable[str]) -> dict[str, BaseDistribution]:
        return {name: self.domain.space[name] for name in names}

    def log_ratio(
        self, spaces: Sequence[Space], trials: Sequence[FrozenTrial], *, level: bool
    ) -> Callable[[Indices], Numbers]:
        """Fit a density to trials, and return the function that looks it up.

        It gives the logarithm of the density at rows, relative to that of a random draw. With
        `level`, all trials weigh the same, as Optuna has it for the good ones of several
        objectives.
        """
        seen = np.array([trial.user_attrs[ROW] for trial in trials], dtype=np.int64)
        fitted: list[tuple[Space, _ParzenEstimator]] = []
        for space in spaces:
            fitted.append((space, self._fitted(space, seen, level=level)))

        def at(rows: Indices) -> Numbers:
            found = np.zeros(len(rows))
            for space, density in fitted:
                there = self.domain.have(space, rows)
                some = rows[there]
                if len(some):
                    found[there] += self._against_a_draw(
                        density,
                        space,
                        some,
                    )
            return found

        return at

    def _against_a_draw(
        self,
        density: _ParzenEstimator,
        space: Space,
        rows: Indices,
    ) -> Numbers:
        """Return the logarithm of a density over that of a random draw, at rows that have all."""
        numbers = {}
        prior = np.zeros(len(rows))
        for name in space:
            numbers[name] = self.domain.numbers[name][rows]
            prior += self.domain.prior[name][rows]
        found: Numbers = density.log_pdf(numbers) - prior
        return found

    def _fitted(
        self,
        space: Space,
        seen: Indices,
        *,
        level: bool,
    ) -> _ParzenEstimator:
        """Do what `TPESampler._build_parzen_estimator` does, with numbers that are looked up."""
        rows = seen[self.domain.have(space, seen)]
        observed = {}
        for name in space:
            observed[name] = self.domain.numbers[name][rows]
        weights = None
        if level:
            weights = np.ones(len(rows))
        return _ParzenEstimator(
            observed,
            dict(space),
            self.sampler._parzen_estimator_parameters,
            weights,
        )

    def _counts(self, trial: FrozenTrial) -> bool:
        if trial.state == TrialState.RUNNING:
            return self.sampler._constant_liar
        return trial.state in FINISHED

    def _open(self, names: frozenset[str]) -> set[str]:
        """Return those of some parameters that have more than one value."""
        return set(names & self.domain.space.keys())


class NSGA2Chooser:
    """The genetic algorithm: Optuna's generations and parents, a child among the untried rows."""

    def __init__(
        self,
        sampler: NSGAIISampler,
        domain: Domain,
        rng: np.random.Generator,
    ) -> None:
        self.sampler = sampler
        self.domain = domain
        self.rng = rng
        # Optuna draws the parents of a generation with its own generator.
        seed = rng.integers(2**32)
        sampler._rng.rng.seed(int(seed))

    def choose(
        self,
        study: Study,
        trial: FrozenTrial,
        untried: Indices,
    ) -> int:
        """Return a child of drawn parents; in the first generation, any row."""
        generation = self.sampler.get_trial_generation(study, trial)
        population = self.sampler.get_parent_population(study, generation)
        if not population:
            return int(self.rng.choice(untried))
        space = self.sampler.infer_relative_search_space(study, trial)
        parents = self._parents(study, population)
        shares = _shares(self.log_ratio(space, parents, untried))
        return int(self.rng.choice(untried, p=shares))

    def log_ratio(
        self,
        space: Space,
        parents: Sequence[FrozenTrial],
        rows: Indices,
    ) -> Numbers:
        """Return the logarithm of the probability that parents have a child like a row.

        It is relative to a random draw. Parameters outside the space are drawn at random, and so
        is one that mutates.
        """
        mutation = 1 / max(1, len(space))
        of_parents = [parent.user_attrs[ROW] for parent in parents]
        found = np.zeros(len(rows))
        for name in space:
            cells = self.domain.cell[name]
            alike = np.zeros(len(rows))
            for parent in of_parents:
                alike += cells[rows] == cells[parent]
            alike /= len(of_parents)
            inherited = (1 - mutation) * alike / self.domain.cell_mass[name][rows]
            found += np.log(inherited + mutation)
        return found

    def _parents(self, study: Study, population: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return two that won their tournaments, or one that is copied."""
        strategy: Any = self.sampler._child_generation_strategy
        copied = self.rng.random() >= strategy._crossover_prob
        # A crossover that needs more parents than there are raises in Optuna.
        if copied or len(population) < strategy._crossover.n_parents:
            index = self.rng.integers(len(population))
            return [population[index]]

        dominates: Any = _dominates
        if _is_constrained_optimization(population):
            dominates = _constrained_dominates
        return _select_parents(
            strategy._crossover,
            study,
            population,
            self.sampler._rng.rng,
            dominates,
        )


def _log_prior(item: BaseDistribution, numbers: Numbers) -> Numbers:
    """Return the logarithm of the density of a random draw.

    It is taken with respect to what Parzen estimators take theirs to: lengths for a number of a
    range, counts for everything else, as Optuna integrates a density over each step.
    """
    found: Numbers = np.where(
        np.isnan(numbers),
        np.nan,
        0.0,
    )
    match item:
        case CategoricalDistribution(choices=choices):
            return found - math.log(len(choices))
        case IntDistribution(low=low, high=high, log=True):
            # A whole number stands for the range half a step to each side of it.
            own = np.log((numbers + 0.5) / (numbers - 0.5))
            whole = math.log((high + 0.5) / (low - 0.5))
            return np.asarray(np.log(own / whole))
        case FloatDistribution(low=low, high=high, log=True):
            # Of the number's logarithm, which is what the estimator sees.
            return found - math.log(math.log(high / low))
        case IntDistribution(low=low, high=high, step=step):
            count = (high - low) // step + 1
            return found - math.log(count)
        case FloatDistribution(low=low, high=high, step=None):
            return found - math.log(high - low)
        case FloatDistribution(low=low, high=high, step=step) if step is not None:
            count = round((high - low) / step) + 1
            return found - math.log(count)
    raise UseError(f"Replay cannot choose by {type(item).__name__}.")


def _cells(item: BaseDistribution, numbers: Numbers) -> tuple[Indices, Numbers]:
    """Divide the values of a parameter into cells that count as equal.

    Return for each row its cell, and how likely a random draw falls into it.
    """
    there = ~np.isnan(numbers)
    known = numbers[there]
    cells = np.full(len(numbers), -1, dtype=np.int64)
    masses = np.ones(len(numbers))
    if isinstance(item, CategoricalDistribution):
        cells[there] = known.astype(np.int64)
        masses[there] = 1 / len(item.choices)
        return cells, masses

    assert isinstance(item, IntDistribution | FloatDistribution)  # noqa: S101 - Optuna has no others
    if item.step is None:
        cells[there] = _tenth(item, known)
        masses[there] = 1 / CELLS
        return cells, masses

    count = round((item.high - item.low) / item.step) + 1
    steps = np.arange(count)
    values: Numbers = item.low + float(item.step) * steps.astype(np.float64)
    own: Indices = steps
    if count > CELLS:
        own = _tenth(item, values)
    # Tenths of a stepped range are not equally likely: the steps do not divide evenly.
    mass = np.bincount(own, weights=np.exp(_log_prior(item, values)))
    place = np.rint((known - item.low) / item.step)
    cells[there] = own[place.astype(np.int64)]
    masses[there] = mass[cells[there]]
    return cells, masses


def _tenth(item: IntDistribution | FloatDistribution, numbers: Numbers) -> Indices:
    """Return the tenth of its range in which a number lies, on the scale on which it is drawn."""
    scale: Callable[[Any], Any] = np.asarray
    if item.log:
        scale = np.log
    # With half a step at both ends, the first and the last value have as much room as the others.
    half = 0.5 * (item.step or 0.0)
    low = scale(item.low - half)
    high = scale(item.high + half)
    tenths = (scale(numbers) - low) / (high - low) * CELLS
    found: Indices = np.clip(tenths, 0, CELLS - 1).astype(np.int64)
    return found


def _shares(log_weights: Numbers) -> Numbers:
    """Return probabilities in proportion to weights of which the logarithms are given."""
    # Relative to the largest: exp would overflow where a density is far above a random draw's.
    weights = np.exp(log_weights - log_weights.max())
    shares: Numbers = weights / weights.sum()
    return shares


def _best(
    rows: Indices,
    scores: Numbers,
    rng: np.random.Generator,
) -> int:
    """Return the row with the largest score; rounding apart, ties are drawn."""
    winners = rows[scores >= scores.max() - TIED]
    return int(rng.choice(winners))


Make = Callable[["Table", Domain, np.random.Generator], Chooser]


@dataclass(frozen=True)
class Sampler:
    """A sampler by name: how its chooser is made, and what it knows of a study."""

    make: Make
    sees_stopped: bool = True
    """Whether it sees stopped trials as our `view` shows them; they are just pruned otherwise."""
    first_alone: bool = False
    """Whether its study has the first objective alone."""


def _ours(name: str) -> Make:
    """Return what makes the chooser of one of our samplers, with the settings of a search."""

    def make(
        table: Table,
        domain: Domain,
        rng: np.random.Generator,
    ) -> Chooser:
        inner = make_sampler(name, 0, table.parameters)
        if isinstance(inner, ReproducibleSampler):
            inner = inner.inner
        if isinstance(inner, TPESampler):
            return TPEChooser(inner, domain, rng)
        if isinstance(inner, NSGAIISampler):
            return NSGA2Chooser(inner, domain, rng)
        raise UseError(
            f"Replay cannot choose rows as {name!r} does.", f"Known: {', '.join(SAMPLERS)}."
        )

    return make


def _random(
    table: Table,
    domain: Domain,
    rng: np.random.Generator,
) -> Chooser:
    return RandomChooser(rng)


def _sobol(
    table: Table,
    domain: Domain,
    rng: np.random.Generator,
) -> Chooser:
    return SobolChooser(table, rng)


def _optuna_tpe(
    table: Table,
    domain: Domain,
    rng: np.random.Generator,
) -> Chooser:
    return TPEChooser(TPESampler(), domain, rng)


def _optuna_nsga2(
    table: Table,
    domain: Domain,
    rng: np.random.Generator,
) -> Chooser:
    return NSGA2Chooser(NSGAIISampler(), domain, rng)


SAMPLERS: dict[str, Sampler] = {
    "tpe": Sampler(_ours("tpe")),
    "nsga2": Sampler(_ours("nsga2")),
    "random": Sampler(_random),
    "qmc": Sampler(_sobol),
    "optuna-tpe": Sampler(_optuna_tpe, sees_stopped=False),
    "optuna-nsga2": Sampler(_optuna_nsga2, sees_stopped=False),
    "optuna-tpe-first": Sampler(_optuna_tpe, sees_stopped=False, first_alone=True),
}
"""`optuna-` forms have Optuna's defaults; `-first` searches for the first objective alone."""


def sampler_of(name: str) -> Sampler:
    """Return a sampler by name. Raises UseError."""
    if name in SAMPLERS:
        return SAMPLERS[name]
    hint = nearest(name, SAMPLERS) or f"Known: {', '.join(SAMPLERS)}."
    raise UseError(f"Unknown sampler {name!r}.", hint)
