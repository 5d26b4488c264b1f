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

    def __init__(self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> None:
        storage = InMemoryStorage()
        storage.create_new_study(list(directions), NAME)
        super().__init__(NAME, storage)
        self.remembered = list(trials)

    def only(self, numbers: Container[int]) -> RememberedStudy:
        """Return the study with some of its trials."""
        return RememberedStudy(
            [trial for trial in self.remembered if trial.number in numbers], self.directions
        )

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
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
    """Rebuild the trials that were measured.

    Raises PluginError without the plugins of the study.
    """
    quiet_optuna()
    ranges = SearchSpace.from_json(study.space, registry).parameters()
    judged: dict[int, list[RungRecord]] = {}
    for row in rungs:
        judged.setdefault(row.number, []).append(row)
    usable = []
    for trial in trials:
        if _usable(trial, study, ranges):
            usable.append(trial)
    frozen = []
    for trial in usable:
        frozen.append(_frozen(trial, study, judged.get(trial.number, []), ranges))
    directions = []
    for name in study.objectives:
        if registry.metric(name).direction == "maximize":
            directions.append(StudyDirection.MAXIMIZE)
        else:
            directions.append(StudyDirection.MINIMIZE)
    return RememberedStudy(corrected(frozen), directions)


def _usable(trial: TrialRecord, study: StudyRecord, ranges: dict[str, BaseDistribution]) -> bool:
    asked = (trial.asked or {}).get("params")
    measured = all(name in trial.values for name in study.objectives)
    return trial.state in FINISHED and measured and asked is not None and set(asked) <= set(ranges)


def _frozen(
    trial: TrialRecord,
    study: StudyRecord,
    rungs: Sequence[RungRecord],
    ranges: dict[str, BaseDistribution],
) -> FrozenTrial:
    """Make of our row what Optuna was told of it."""
    params = dict((trial.asked or {})["params"])
    rows = {}
    for row in rungs:
        rows[str(row.rung)] = [row.values[name] for name in study.objectives]
    stopped = trial.state == "pruned" and rows
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
        value=None,
        values=None if stopped else [trial.values[name] for name in study.objectives],
        datetime_start=None,
        datetime_complete=None,
        params=params,
        distributions={name: ranges[name] for name in params},
        user_attrs={RUNGS_ATTRIBUTE: rows} if rows else {},
        system_attrs={},
        intermediate_values={},
    )
