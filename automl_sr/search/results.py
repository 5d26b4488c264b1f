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
    """Return the feasible models that no other one dominates, best first in the first objective."""
    objectives = []
    for name in study.objectives:
        objectives.append(metrics[name])

    fit = []
    for trial in trials:
        # A trial that was stopped at a rung left a finished model, measured as it ships, which
        # counts like any other.
        if trial.state not in FINISHED or not feasible(study, trial.values):
            continue
        if _has_all(trial, study.objectives):
            fit.append(trial)

    values = [trial.values for trial in fit]
    front = []
    for index in pareto_front(values, objectives):
        front.append(fit[index])

    first = objectives[0]

    def place(trial: TrialRecord) -> tuple[float, int]:
        return first.loss(trial.values[first.name]), trial.number

    return sorted(front, key=place)


def _has_all(trial: TrialRecord, names: Sequence[str]) -> bool:
    return all(name in trial.values for name in names)


def numbers_in_front(
    study: StudyRecord, trials: Sequence[TrialRecord], metrics: Mapping[str, Metric]
) -> set[int] | None:
    """Return the numbers of the front, or nothing where an objective's plugin is not installed."""
    for name in study.objectives:
        if name not in metrics:
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
    for name, value in values.items():
        if name in limits and not limits[name].allow(value):
            return False
    return True


def own_counts(study: StudyRecord) -> dict[str, int]:
    """Count the trials by state that are the study's own, as its budget does; those that it
    imported are left out.
    """
    origin = study.environment.get(ORIGIN, {})
    imported = origin.get("states", {})
    found: dict[str, int] = {}
    for state, count in study.counts.items():
        found[state] = count - imported.get(state, 0)
    return found


def summary(store: Reader, name: str, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Return what `search` prints."""
    study = store.study(name)
    trials = store.trials(study)
    counts = {}
    for state in SHOWN_STATES:
        counts[state] = study.counts.get(state, 0)
    front = []
    for trial in front_of(study, trials, metrics):
        front.append(FrontMember.of(trial))

    found = SearchOutput(
        study=study.name,
        store=store.name,
        trials=counts,
        front=front,
        seconds=round(study.seconds, 3),
    )
    return found.model_dump()
