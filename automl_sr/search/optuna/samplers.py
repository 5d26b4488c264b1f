"""Optuna's samplers by name, made reproducible: every draw is seeded by study, trial number and
parameter.

This is the one place that touches the private random states of Optuna's samplers (checked with
Optuna 5.0).
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from automl_sr.errors import UseError, nearest
from automl_sr.search.optuna.sampler_view import StudyView

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLERS = ("tpe", "nsga2", "gp", "random", "qmc")
Ranges = dict[str, BaseDistribution]
"""What parameters are drawn from, by stored name."""
Point = np.ndarray[Any, Any]
POPULATION = 20
"""NSGA-II with Optuna's 50 does not get past random search in the tens of trials that a study here
has.
"""
MOST_DIMENSIONS = 21_201
"""As many as SciPy has Sobol direction numbers for."""


def make_sampler(name: str, seed: int, parameters: Mapping[str, BaseDistribution]) -> BaseSampler:
    """Make a sampler whose proposals follow from the seed and the finished trials, not from the
    process.

    `parameters` are all that the space can ask, by stored name. Raises UseError for an unknown
    name.
    """
    quiet_optuna()
    # Their own seeds mean nothing: each draw is seeded anew. TPE samples the parameters of one
    # branch of the space jointly only with both `multivariate` and `group`.
    makers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: TPESampler(
            multivariate=True,
            group=True,
            constant_liar=True,
            warn_independent_sampling=False,
            seed=0,
        ),
        "nsga2": lambda: NSGAIISampler(population_size=POPULATION, seed=0),
        "gp": lambda: GPSampler(seed=0, warn_independent_sampling=False),
        "random": lambda: RandomSampler(seed=0),
        "qmc": lambda: SobolSampler(seed, parameters),
    }
    if name not in makers:
        known = ", ".join(makers)
        hint = nearest(name, makers) or f"Known: {known}."
        raise UseError(f"Unknown sampler {name!r}.", hint)
    with warnings.catch_warnings():
        # `group` is experimental, `warn_independent_sampling` deprecated: both are meant.
        warnings.simplefilter("ignore")
        sampler = makers[name]()
    return ReproducibleSampler(sampler, seed)


def quiet_optuna() -> None:
    """Keep Optuna's own log off the terminal; errors are raised anyway."""
    optuna.logging.set_verbosity(logging.ERROR)


def draw_seed(*what: Any) -> int:
    """Return a seed of 32 bits that depends on everything that is given, and on nothing else."""
    # A separator that is in no name: "1", "23" is not "12", "3".
    text = "\x1f".join(str(item) for item in what)
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big")


def reseed(sampler: BaseSampler, seed: int) -> None:
    """Put every random state of one of Optuna's samplers to a seed, and forget what it keeps
    between trials.
    """
    inner = getattr(sampler, "_random_sampler", None)
    independent = getattr(sampler, "_independent_sampler", None)
    for owner in (sampler, inner, independent):
        state = getattr(owner, "_rng", None)
        if state is not None:
            state.rng.seed(seed)
    # A Gaussian process keeps its last fits as starting points of the next one.
    for cache in ("_gprs_cache_list", "_constraints_gprs_cache_list"):
        if hasattr(sampler, cache):
            setattr(sampler, cache, None)


class ReproducibleSampler(BaseSampler):
    """Seeds each draw of another sampler from (study seed, trial number, what is drawn).

    A trial that is taken over gets the values that it would have had, and random search proposes
    the same for any number of workers. The sampler sees stopped trials as `StudyView` shows them.
    """

    def __init__(self, inner: BaseSampler, seed: int) -> None:
        self.inner = inner
        self.seed = seed
        self._view: StudyView | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take a new look at the study."""
        self._view = self._new_look(study)
        self._reseed(trial, "before")
        self.inner.before_trial(self._view, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Ranges:
        """Ask the inner sampler what it samples jointly."""
        return self.inner.infer_relative_search_space(self._look(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Ranges
    ) -> dict[str, Any]:
        """Sample jointly."""
        self._reseed(trial, "relative")
        return self.inner.sample_relative(self._look(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample one parameter."""
        self._reseed(trial, f"parameter {param_name}")
        return self.inner.sample_independent(
            self._look(study), trial, param_name, param_distribution
        )

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the inner sampler what came of a trial."""
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Change nothing: the seed of each draw does not depend on the process."""

    def _look(self, study: Study) -> StudyView:
        if self._view is None:
            self._view = self._new_look(study)
        return self._view

    def _new_look(self, study: Study) -> StudyView:
        # A Gaussian process looks at complete trials alone, and would repeat what is rejected for
        # ever.
        alone = isinstance(self.inner, GPSampler)
        return StudyView(study, rejected=alone)

    def _reseed(self, trial: FrozenTrial, what: str) -> None:
        reseed(self.inner, draw_seed(self.seed, trial.number, what))


class SobolSampler(BaseSampler):
    """Quasi-random search: the point of a trial is the Sobol point with its number (scrambled, Owen
    1998).

    Optuna's own QMC sampler counts points in the study's attributes and gives other ones in
    parallel.
    """

    def __init__(self, seed: int, parameters: Mapping[str, BaseDistribution]) -> None:
        self.seed = seed
        # Sorted, so that a parameter has the same dimension in each process.
        self._dimensions: dict[str, int] = {}
        for index, name in enumerate(sorted(parameters)[:MOST_DIMENSIONS]):
            self._dimensions[name] = index
        self._fallback = RandomSampler(seed=0)
        self._points: dict[int, Point] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Ranges:
        """Sample nothing jointly: which parameters a trial asks is known only while it asks."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Ranges
    ) -> dict[str, Any]:
        """Sample nothing jointly."""
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the trial's coordinate in the parameter's dimension."""
        dimension = self._dimensions.get(param_name)
        if dimension is None:
            reseed(self._fallback, draw_seed(self.seed, trial.number, param_name))
            return self._fallback.sample_independent(study, trial, param_name, param_distribution)
        coordinate = self._point(trial.number)[dimension]
        return at_share(param_distribution, float(coordinate))

    def _point(self, number: int) -> Point:
        """Return the point of a trial; that of the last one is kept for its next parameter."""
        if number in self._points:
            return self._points[number]
        from scipy.stats import qmc

        engine = qmc.Sobol(
            len(self._dimensions), scramble=True, rng=np.random.default_rng(self.seed)
        )
        if number:
            engine.fast_forward(number)
        with warnings.catch_warnings():
            # SciPy prefers powers of two; a study has as many trials as it has.
            warnings.simplefilter("ignore")
            [point] = engine.random(1)
        self._points = {number: point}
        return self._points[number]


def at_share(distribution: BaseDistribution, share: float) -> Any:
    """Return the value that lies at a share (0 to 1) of a distribution."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[_step_at(share, len(choices))]
        case IntDistribution(low=low, high=high, log=True):
            # From half a unit below to half a unit above: rounding then treats the ends alike.
            value = _between_logs(low - 0.5, high + 0.5, share)
            return int(np.clip(round(value), low, high))
        case IntDistribution(low=low, high=high, step=step):
            steps = (high - low) // step
            chosen = _step_at(share, steps + 1)
            return low + step * chosen
        case FloatDistribution(low=low, high=high, log=True):
            value = _between_logs(low, high, share)
            return float(np.clip(value, low, high))
        case FloatDistribution(low=low, high=high, step=None):
            return low + share * (high - low)
        case FloatDistribution(low=low, high=high, step=step) if step is not None:
            steps = round((high - low) / step)
            chosen = _step_at(share, steps + 1)
            return min(low + step * chosen, high)
    raise UseError(f"Quasi-random search cannot draw from {type(distribution).__name__}.")


def _step_at(share: float, count: int) -> int:
    """Return in which of so many equal parts of 0 to 1 a share lies; 1 is in the last one."""
    return min(int(share * count), count - 1)


def _between_logs(low: float, high: float, share: float) -> float:
    """Return what lies at a share of the way from one number to another, by ratio."""
    start = np.log(low)
    end = np.log(high)
    value = np.exp(start + share * (end - start))
    return float(value)
