"""Asking a sampler for one plan without writing anything: what it draws is kept in memory until the
plan is frozen.

Optuna writes each parameter in a transaction of its own, and gives numbers that a worker may burn
by dying. Here the number is known before, the plan is drawn from it, frozen in our row, and only
then made known to Optuna as a whole.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import optuna

PENDING = -1
"""Stands for the identity of a trial that Optuna does not know yet."""


class Proposal:
    """What `SearchSpace.suggest` asks, in the place of an Optuna trial."""

    def __init__(self, study: optuna.study.Study, number: int, fixed: Mapping[str, Any]) -> None:
        """Begin to ask for the trial with this number; `fixed` are values by stored name that are
        not drawn.
        """
        self._trial = FrozenTrial(
            number=number,
            trial_id=PENDING,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.datetime.now(),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        self._fixed = fixed
        # The sampler gets a study whose storage keeps notes on this trial in memory.
        self._study = copy.copy(study)
        self._study._storage = _Pending(study._storage, self._trial)  # type: ignore[assignment]

        # In the order in which Optuna itself asks a sampler for a trial.
        sampler = study.sampler
        sampler.before_trial(self._study, self._trial)
        self._joint = sampler.infer_relative_search_space(self._study, self._trial)
        self._drawn = sampler.sample_relative(self._study, self._trial, self._joint)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Choose one of several values."""
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Choose a whole number."""
        distribution = IntDistribution(low, high, log=log, step=step)
        return int(self._suggest(name, distribution))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Choose a number."""
        distribution = FloatDistribution(low, high, log=log, step=step)
        return float(self._suggest(name, distribution))

    def asked(self) -> dict[str, Any]:
        """Return everything that was drawn, as JSON: parameters by stored name, and what the
        sampler noted.
        """
        params = dict(self._trial.params)
        notes = dict(self._trial.system_attrs)
        return {"params": params, "notes": notes}

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        """Return what was drawn for a parameter; asked again it is the same."""
        params = self._trial.params
        if name not in params:
            params[name] = self._draw(name, distribution)
            self._trial.distributions[name] = distribution
        return params[name]

    def _draw(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._fixed:
            return self._fixed[name]
        # What was sampled jointly fits only where the range is still that of former trials.
        if name in self._drawn and self._joint[name] == distribution:
            return self._drawn[name]
        return self._study.sampler.sample_independent(self._study, self._trial, name, distribution)


class _Pending:
    """Optuna's storage as samplers see it, in which the asked trial can be noted upon before it is
    there.
    """

    def __init__(self, storage: Any, trial: FrozenTrial) -> None:
        self._storage = storage
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep a note on the asked trial (NSGA-II counts generations so)."""
        if trial_id == PENDING:
            self._trial.system_attrs[key] = value
        else:
            self._storage.set_trial_system_attr(trial_id, key, value)
