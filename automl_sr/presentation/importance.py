"""How much each parameter decides about each objective: PED-ANOVA on the study's own trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.records import RungRecord, StudyRecord, TrialRecord

FEWEST_TRIALS = 20
FEWEST_BEST = 5
"""Optuna's advice: at least five trials have to be among the best for a stable result."""
QUANTILE = 0.1


def importance(
    study: StudyRecord,
    trials: Sequence[TrialRecord],
    rungs: Sequence[RungRecord],
    registry: Registry,
) -> dict[str, Any]:
    """Return each objective's parameters with their shares, the largest first.

    Raises PluginError without the study's plugins.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from automl_sr.presentation.optuna_study import remember

    memory = remember(study, trials, rungs, registry)
    count = len(memory.remembered)
    if count < FEWEST_TRIALS:
        return {"reason": _too_few(count)}
    quantile = max(QUANTILE, FEWEST_BEST / count)
    shares = {}
    with warnings.catch_warnings():
        # Optuna warns that small values count as good, which the sign below takes care of.
        warnings.simplefilter("ignore")
        for index, name in enumerate(study.objectives):
            sign = float(registry.metric(name).sign)
            shares[name] = get_param_importances(
                memory,
                evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile),
                # Bound as defaults: a closure would read the loop's last values.
                target=lambda trial, index=index, sign=sign: sign * trial.values[index],  # type: ignore[misc]
            )
    return {"trials": count, "quantile": quantile, "objectives": shares}


def _too_few(count: int) -> str:
    left = f"{count} trials have"
    if count == 1:
        left = "1 trial has"
    return f"{left} left a model, which is too few to tell: it takes {FEWEST_TRIALS}."
