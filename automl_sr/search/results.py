"""What a study has found, as people and scripts read it; needs the store alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.search.front import pareto_front
from automl_sr.search.output import FrontMember, SearchOutput
from automl_sr.study.limits import stored_limits

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import StudyRecord, TrialRecord

FINISHED = ("complete", "pruned")
"""States of trials that left a model."""
ORIGIN = "origin"
"""In a study's environment: which study its first trials come from, how many of them, and why
others do not.
"""
SHOWN_STATES = ("complete", "pruned", "infeasible", "duplicate", "failed", "running")


def front_of(
    study: StudyRecord, trials: Sequence[TrialRecord], metrics: Mapping[str, Metric]
) -> list[TrialRecord]:
    """Return the feasible models that no other one dominates, best first in the first objective.

    A trial that was stopped at a rung left a finished model, measured as it ships, which counts
    like any other.
    """
    objectives = []
    for name in study.objectives:
        objectives.append(metrics[name])
    fit = []
    for trial in trials:
        if trial.state in FINISHED and feasible(study, trial.values):
            fit.append(trial)
    fit = [trial for trial in fit if all(metric.name in trial.values for metric in objectives)]
    front = []
    for index in pareto_front([trial.values for trial in fit], objectives):
        front.append(fit[index])
    first = objectives[0]
    return sorted(front, key=lambda trial: (first.loss(trial.values[first.name]), trial.number))


def numbers_in_front(
    study: StudyRecord, trials: Sequence[TrialRecord], metrics: Mapping[str, Metric]
) -> set[int] | None:
    """Return the numbers of the front, or nothing where an objective's plugin is not installed."""
    if not all(name in metrics for name in study.objectives):
        return None
    found = set()
    for trial in front_of(study, trials, metrics):
        found.add(trial.number)
    return found


def feasible(study: StudyRecord, values: Mapping[str, float]) -> bool:
    """Return whether measured values keep to the study's constraints; what was not measured breaks
    none.
    """
    limits = stored_limits(study.spec)
    return all(limits[name].allow(value) for name, value in values.items() if name in limits)


def own_counts(study: StudyRecord) -> dict[str, int]:
    """Count the trials by state that are the study's own, as its budget does; those that it
    imported are left out.
    """
    imported = study.environment.get(ORIGIN, {}).get("states", {})
    found: dict[str, int] = {}
    for state, count in study.counts.items():
        found[state] = count - imported.get(state, 0)
    return found


def summary(store: Reader, name: str, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Return what `search` prints."""
    study = store.study(name)
    trials = store.trials(study)
    found = SearchOutput(
        study=study.name,
        store=store.name,
        trials={state: study.counts.get(state, 0) for state in SHOWN_STATES},
        front=[FrontMember.of(trial) for trial in front_of(study, trials, metrics)],
        seconds=round(study.seconds, 3),
    )
    return found.model_dump()
