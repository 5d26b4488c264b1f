"""From a finished study in the store to a table.

What trials share (scores, teachers) is made once in a study, by whoever needs it first. Which row
that was says nothing about the row, so that the seconds of making it, or of waiting for it, count
for none. Timing its own graph is a row's own work, judged or not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl_sr import __version__
from automl_sr.errors import UseError, nearest
from automl_sr.evaluation.latency import LATENCY
from automl_sr.search.replay.table import FORMAT, Table, complaint
from automl_sr.space.search_space import SearchSpace

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import RungRecord, StudyRecord, TrialRecord

KEPT = ("complete", "infeasible", "failed")
"""States of trials that become rows: duplicates are there already, and what a stopped trial would
have become is unknown."""
ROOM = 2.0
"""A cost without a limit of its own is compared up to so many times the largest one of the table
(or its limit).
"""
JUDGING = ("branch", "export", "evaluate")
COOLDOWN = "recipe.cooldown"


def record(
    store: Reader, name: str, registry: Registry, reference: Mapping[str, float]
) -> tuple[Table, list[str]]:
    """Make the table of a study, and say in words what was left out; `reference` replaces corners
    of the hypervolume.

    Raises UseError where too little was trained to its end.
    """
    from optuna.distributions import distribution_to_json
    from pydantic import ValidationError

    study = store.study(name)
    unknown = reference.keys() - set(study.objectives)
    if unknown:
        hint = (
            nearest(min(unknown), study.objectives) or f"Objectives: {', '.join(study.objectives)}."
        )
        raise UseError(f"The study {name!r} has no objective {min(unknown)!r}.", hint)
    trials = store.trials(study)
    space = SearchSpace.from_json(study.space, registry)
    rungs: dict[int, list[RungRecord]] = {}
    for rung in store.rungs(study):
        rungs.setdefault(rung.number, []).append(rung)
    objectives = []
    for metric in study.objectives:
        objectives.append(registry.metric(metric))
    rows = []
    for trial in trials:
        if _is_row(trial):
            rows.append(_row(trial, rungs.get(trial.number, []), study, space))
    complete = []
    for row in rows:
        if row["state"] == "complete":
            complete.append(row["values"])
    if not complete:
        raise UseError(f"No trial of {name!r} was trained to its end.", _recipe(name))
    data = {
        "format": FORMAT,
        "made_by": f"automl-sr {__version__}",
        "study": study.name,
        "sampler": study.spec["search"]["sampler"],
        "objectives": [
            {"name": m.name, "direction": m.direction, "level": m.level, "log": m.log}
            for m in objectives
        ],
        "constraints": dict(study.spec["constraints"]),
        "steps": study.spec["budget"]["steps"],
        "reduction": study.spec["search"]["scheduler"]["reduction"],
        "seed": study.spec["search"]["seed"],
        "without_model": dict(study.reference),
        "reference": {m.name: _worst(m, complete, study, reference) for m in objectives},
        "ideal": {m.name: _best(m, complete) for m in objectives},
        "threads": study.environment.get("threads"),
        "environment": dict(study.environment),
        "space": dict(study.space),
        "distributions": {
            stored: json.loads(distribution_to_json(item))
            for stored, item in space.parameters().items()
        },
        "rows": rows,
    }
    try:
        table = Table.model_validate(data)
    except ValidationError as error:
        raise UseError(
            f"The study {name!r} gives no table: {complaint(error)}.", _recipe(name)
        ) from None
    return table, _notes(trials, table)


def _recipe(name: str) -> str:
    return f"See `automl-sr trials {name}`; a table needs trials that no scheduler stopped."


def _is_row(trial: TrialRecord) -> bool:
    return trial.state in KEPT and trial.plan is not None and trial.fingerprint is not None


def _row(
    trial: TrialRecord, rungs: Sequence[RungRecord], study: StudyRecord, space: SearchSpace
) -> dict[str, Any]:
    complete = trial.state == "complete"
    return {
        "number": trial.number,
        "state": trial.state,
        "fingerprint": trial.fingerprint,
        "params": asked_params(space, trial.params),
        "rungs": _times(trial, rungs, study) if complete else [],
        "values": dict(trial.values) if complete else {},
        "costs": dict(trial.costs),
        "seconds": max(trial.seconds - _sharing(trial), 0.0),
    }


def _sharing(trial: TrialRecord) -> float:
    """Return the seconds in which a trial made shared results, or waited for them."""
    shared = []
    for name, entry in trial.shared.items():
        if not _is_timing(name):
            shared.append(entry)
    made = sum(entry.get("seconds", 0.0) for entry in shared if not entry.get("reused"))
    return float(made + sum(entry.get("waited", 0.0) for entry in shared))


def _timing(trial: TrialRecord) -> float:
    """Return the seconds in which a trial timed its graphs, or waited for another one to do so."""
    entries = []
    for name, entry in trial.shared.items():
        if _is_timing(name):
            entries.append(entry)
    return float(
        sum(entry.get("waited" if entry.get("reused") else "seconds", 0.0) for entry in entries)
    )


def _is_timing(name: str) -> bool:
    """Whether a shared result is a graph's times; a second graph of the same trial has a number:
    `latency (2)`.
    """
    return name.partition(" (")[0] == LATENCY


def _times(
    trial: TrialRecord, rungs: Sequence[RungRecord], study: StudyRecord
) -> list[dict[str, Any]]:
    """Return the rungs with their seconds, and how many of these only judging took.

    Stages are timed over the whole trial. Forks are as long as the trunk before them in proportion,
    and the model that is exported and evaluated is the same at each rung, so that its share of
    these stages is known.
    """
    stages, sharing, timing = trial.stage_seconds, _sharing(trial), _timing(trial)
    trunk = study.spec["budget"]["steps"] * (1 - float(trial.params.get(COOLDOWN, 0.1)))
    branched = sum(rung.step for rung in rungs) + trunk
    found = []
    judged, last = 0.0, 0.0
    for rung in rungs:
        judging = stages.get("branch", 0.0) * rung.step / branched
        judging += max(stages.get("export", 0.0) + stages.get("evaluate", 0.0) - timing, 0.0) / (
            len(rungs) + 1
        )
        judged += judging
        # Stores of older versions do not know the time at a rung: every step of training takes the
        # same.
        guess = stages.get("select", 0.0) + stages.get("train", 0.0) * rung.step / trunk + judged
        seconds = (guess if rung.seconds is None else rung.seconds) - sharing
        seconds = min(max(seconds, last), max(trial.seconds - sharing, 0.0))
        found.append(
            {
                "rung": rung.rung,
                "step": rung.step,
                "values": dict(rung.values),
                "seconds": seconds,
                "judging": min(judging, seconds - last),
            }
        )
        last = seconds
    return found


class Answers:
    """Answers a space's questions from a frozen plan, and notes what was asked."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.asked: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return what the plan chose; a slot is asked for by the techniques that are allowed:
        `slot[a|b]`.
        """
        return self._answer(name)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Return the plan's number."""
        return int(self._answer(name))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the plan's number."""
        return float(self._answer(name))

    def _answer(self, name: str) -> Any:
        self.asked[name] = self._params[name.partition("[")[0]]
        return self.asked[name]


def asked_params(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a plan that a sampler was asked for, by stored name."""
    answers = Answers(params)
    space.suggest(answers)
    return answers.asked


def _best(metric: Metric, values: Sequence[Mapping[str, float]]) -> float:
    return metric.best(row[metric.name] for row in values)


def _worst(
    metric: Metric,
    values: Sequence[Mapping[str, float]],
    study: StudyRecord,
    given: Mapping[str, float],
) -> float:
    """Return the corner of the hypervolume: what is given, else what needs no model, else room
    around limit or rows.
    """
    if metric.name in given:
        return given[metric.name]
    if metric.name in study.reference:
        return float(study.reference[metric.name])
    found = [row[metric.name] for row in values]
    if metric.direction == "maximize":
        return min(found) - 0.1 * (max(found) - min(found) or 1.0)
    limit = study.spec["constraints"].get(metric.name, {}).get("max")
    return ROOM * float(max(found) if limit is None else limit)


def _notes(trials: Sequence[TrialRecord], table: Table) -> list[str]:
    stopped = sum(trial.state == "pruned" for trial in trials)
    rungs = max(len(row.rungs) for row in table.complete)
    notes = []
    if stopped:
        notes.append(
            f"{stopped} trials were stopped early and left out: what they would have become is"
            " unknown"
        )
    if not rungs:
        notes.append("no rungs were recorded, so that no scheduler has anything to judge")
    if table.sampler not in ("qmc", "random"):
        notes.append(
            f"{table.sampler} chose the configurations: they are no even draw from the space"
        )
    return notes
