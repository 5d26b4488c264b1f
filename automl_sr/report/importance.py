"""How much each parameter decides about each objective: PED-ANOVA on the study's own trials.

Optuna's storage is not opened, because opening it writes: its trials are rebuilt in memory from our rows, as samplers
see them, so that a trial that was stopped counts with its corrected values.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.search.results import FINISHED
from automl_sr.space import SearchSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from automl_sr.plugins import Registry
    from automl_sr.store.records import RungRecord, StudyRecord, TrialRecord

FEWEST_TRIALS = 20
FEWEST_BEST = 5
"""Optuna's advice: at least five trials have to be among the best for a stable result."""
QUANTILE = 0.1


def importance(
    study: StudyRecord, trials: Sequence[TrialRecord], rungs: Sequence[RungRecord], registry: Registry
) -> dict[str, Any]:
    """Give each objective's parameters with their shares, the largest first. Raises PluginError without the plugins."""
    ranges = SearchSpace.from_json(study.space, registry).parameters()
    usable = [trial for trial in trials if _usable(trial, study, ranges)]
    if len(usable) < FEWEST_TRIALS:
        found = f"{len(usable)} {'trial has' if len(usable) == 1 else 'trials have'}"
        return {"reason": f"{found} left a model, which is too few to tell: it takes {FEWEST_TRIALS}."}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from automl_sr.search.samplers import quiet_optuna
    from automl_sr.search.view import corrected

    quiet_optuna()
    frozen = corrected([_frozen(trial, study, rungs, ranges) for trial in usable])
    quantile = max(QUANTILE, FEWEST_BEST / len(frozen))
    shares = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that small values count as good is what the sign below takes care of
        memory = optuna.study.Study("report", _in_memory(frozen, len(study.objectives)))
        for index, name in enumerate(study.objectives):
            sign = -1.0 if registry.metric(name).direction == "maximize" else 1.0
            shares[name] = get_param_importances(
                memory,
                evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile),
                target=lambda trial, index=index, sign=sign: sign * trial.values[index],  # type: ignore[misc]
            )
    return {"trials": len(frozen), "quantile": quantile, "objectives": shares}


def _usable(trial: TrialRecord, study: StudyRecord, ranges: dict[str, BaseDistribution]) -> bool:
    asked = (trial.asked or {}).get("params")
    measured = all(name in trial.values for name in study.objectives)
    return trial.state in FINISHED and measured and asked is not None and set(asked) <= set(ranges)


def _frozen(
    trial: TrialRecord, study: StudyRecord, rungs: Sequence[RungRecord], ranges: dict[str, BaseDistribution]
) -> FrozenTrial:
    """Make of our row what Optuna was told of it."""
    from optuna.trial import TrialState, create_trial

    from automl_sr.search.view import RUNGS_ATTRIBUTE

    params = dict((trial.asked or {})["params"])
    rows = {
        str(row.rung): [row.values[name] for name in study.objectives] for row in rungs if row.number == trial.number
    }
    stopped = trial.state == "pruned" and rows
    return create_trial(
        state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
        values=None if stopped else [trial.values[name] for name in study.objectives],
        params=params,
        distributions={name: ranges[name] for name in params},
        user_attrs={RUNGS_ATTRIBUTE: rows} if rows else {},
    )


def _in_memory(trials: Sequence[FrozenTrial], objectives: int) -> Any:
    """Keep trials where Optuna's evaluator looks for them."""
    from optuna.storages import InMemoryStorage
    from optuna.study import StudyDirection

    storage = InMemoryStorage()
    study = storage.create_new_study([StudyDirection.MINIMIZE] * objectives, "report")
    for trial in trials:
        storage.create_new_trial(study, template_trial=trial)
    return storage
