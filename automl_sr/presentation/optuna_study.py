"""A study as Optuna's evaluators and plots read one, in memory.

Optuna's storage is not opened, because opening it writes: its trials are rebuilt from our rows, as
samplers see them, so that a trial that was stopped counts with its corrected values.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from automl_sr.search.optuna.sampler_view import RUNGS_ATTRIBUTE, corrected
from automl_sr.search.optuna.samplers import quiet_optuna
from automl_sr.search.results import FINISHED
from automl_sr.space.search_space import SearchSpace

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.records import RungRecord, StudyRecord, TrialRecord

NAME = "in memory"


class RememberedStudy(optuna.study.Study):
    """Trials that left a model, with our numbers and corrected values; nothing is stored or read
    anew.
    """

    def __init__(
        self,
        trials: Sequence[FrozenTrial],
        directions: Sequence[StudyDirection],
    ) -> None:
        storage = InMemoryStorage()
        storage.create_new_study(list(directions), NAME)
        super().__init__(NAME, storage)
        self.remembered = list(trials)

    def only(self, numbers: Container[int]) -> RememberedStudy:
        """Return the study with some of its trials."""
        kept = [trial for trial in self.remembered if trial.number in numbers]
        return RememberedStudy(kept, self.directions)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        # Optuna's evaluators and plots read a study through this method alone.
        chosen = []
        for trial in self.remembered:
            if states is None or trial.state in states:
                chosen.append(trial)
        if deepcopy:
            return copy.deepcopy(chosen)
        return chosen


def remember(
    study: StudyRecord,
    trials: Sequence[TrialRecord],
    rungs: Sequence[RungRecord],
    registry: Registry,
) -> RememberedStudy:
    """Return the trials that were measured as a study of Optuna's.

    Raises PluginError without the plugins of the study.
    """
    quiet_optuna()
    ranges = SearchSpace.from_json(study.space, registry).parameters()
    judged: dict[int, list[RungRecord]] = {}
    for row in rungs:
        judged.setdefault(row.number, []).append(row)
    frozen = []
    for trial in trials:
        if _usable(trial, study, ranges):
            frozen.append(_frozen(trial, study, judged.get(trial.number, []), ranges))

    directions = []
    for name in study.objectives:
        if registry.metric(name).direction == "maximize":
            directions.append(StudyDirection.MAXIMIZE)
        else:
            directions.append(StudyDirection.MINIMIZE)
    return RememberedStudy(corrected(frozen), directions)


def _usable(
    trial: TrialRecord,
    study: StudyRecord,
    ranges: dict[str, BaseDistribution],
) -> bool:
    if trial.state not in FINISHED:
        return False
    if not trial.values.keys() >= set(study.objectives):
        return False
    asked = (trial.asked or {}).get("params")
    if asked is None:
        return False
    # `_frozen` takes the distribution of each parameter from the ranges.
    return set(asked) <= set(ranges)


def _frozen(
    trial: TrialRecord,
    study: StudyRecord,
    rungs: Sequence[RungRecord],
    ranges: dict[str, BaseDistribution],
) -> FrozenTrial:
    """Return our row as Optuna was told of it."""
    params = dict((trial.asked or {})["params"])
    distributions = {name: ranges[name] for name in params}
    rows = {}
    for row in rungs:
        rows[str(row.rung)] = [row.values[name] for name in study.objectives]
    attributes = {}
    if rows:
        attributes[RUNGS_ATTRIBUTE] = rows

    # The values of a stopped trial are those of its last rung, which `corrected` reads from there.
    state = TrialState.COMPLETE
    values: list[float] | None = [trial.values[name] for name in study.objectives]
    if trial.state == "pruned" and rows:
        state = TrialState.PRUNED
        values = None
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=state,
        value=None,
        values=values,
        datetime_start=None,
        datetime_complete=None,
        params=params,
        distributions=distributions,
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={},
    )
