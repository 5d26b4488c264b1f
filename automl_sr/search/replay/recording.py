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
COOLDOWN = "recipe.cooldown"


def record(
    store: Reader, name: str, registry: Registry, reference: Mapping[str, float]
) -> tuple[Table, list[str]]:
    """Make the table of a study, and say in words what was left out.

    `reference` replaces corners of the hypervolume. Raises UseError where too little was trained
    to its end.
    """
    from pydantic import ValidationError

    study = store.study(name)
    _check_corners(study, reference)
    trials = store.trials(study)
    space = SearchSpace.from_json(study.space, registry)
    rungs: dict[int, list[RungRecord]] = {}
    for rung in store.rungs(study):
        rungs.setdefault(rung.number, []).append(rung)

    rows: list[dict[str, Any]] = []
    complete: list[Mapping[str, float]] = []
    for trial in trials:
        if not _is_row(trial):
            continue
        row = _row(
            trial,
            rungs.get(trial.number, []),
            study,
            space,
        )
        rows.append(row)
        if trial.state == "complete":
            complete.append(row["values"])
    if not complete:
        raise UseError(f"No trial of {name!r} was trained to its end.", _recipe(name))

    data = _head(study)
    data |= _objectives(
        study,
        registry,
        complete,
        reference,
    )
    data["distributions"] = _distributions(space)
    data["rows"] = rows
    try:
        table = Table.model_validate(data)
    except ValidationError as error:
        raise UseError(
            f"The study {name!r} gives no table: {complaint(error)}.", _recipe(name)
        ) from None
    return table, _notes(trials, table)


def _check_corners(study: StudyRecord, reference: Mapping[str, float]) -> None:
    """Refuse a corner for what the study does not search for."""
    unknown = reference.keys() - set(study.objectives)
    if not unknown:
        return
    first = min(unknown)
    hint = nearest(first, study.objectives) or f"Objectives: {', '.join(study.objectives)}."
    raise UseError(f"The study {study.name!r} has no objective {first!r}.", hint)


def _head(study: StudyRecord) -> dict[str, Any]:
    """Return what a table says of its study as a whole."""
    search = study.spec["search"]
    return {
        "format": FORMAT,
        "made_by": f"automl-sr {__version__}",
        "study": study.name,
        "sampler": search["sampler"],
        "constraints": dict(study.spec["constraints"]),
        "steps": study.spec["budget"]["steps"],
        "reduction": search["scheduler"]["reduction"],
        "seed": search["seed"],
        "without_model": dict(study.reference),
        "threads": study.environment.get("threads"),
        "environment": dict(study.environment),
        "space": dict(study.space),
    }


def _objectives(
    study: StudyRecord,
    registry: Registry,
    complete: Sequence[Mapping[str, float]],
    reference: Mapping[str, float],
) -> dict[str, Any]:
    """Return the objectives of a table, and the two corners of the box that they span."""
    objectives: list[dict[str, Any]] = []
    worst: dict[str, float] = {}
    best: dict[str, float] = {}
    for name in study.objectives:
        metric = registry.metric(name)
        objectives.append(
            {
                "name": metric.name,
                "direction": metric.direction,
                "level": metric.level,
                "log": metric.log,
            }
        )
        worst[metric.name] = _worst(
            metric,
            complete,
            study,
            reference,
        )
        best[metric.name] = metric.best(values[metric.name] for values in complete)
    return {"objectives": objectives, "reference": worst, "ideal": best}


def _distributions(space: SearchSpace) -> dict[str, Any]:
    """Return what every parameter is drawn from, as Optuna writes it: no plugin is needed then."""
    from optuna.distributions import distribution_to_json

    found: dict[str, Any] = {}
    for stored, item in space.parameters().items():
        found[stored] = json.loads(distribution_to_json(item))
    return found


def _recipe(name: str) -> str:
    return f"See `automl-sr trials {name}`; a table needs trials that no scheduler stopped."


def _is_row(trial: TrialRecord) -> bool:
    if trial.plan is None or trial.fingerprint is None:
        return False
    return trial.state in KEPT


def _row(
    trial: TrialRecord, rungs: Sequence[RungRecord], study: StudyRecord, space: SearchSpace
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state,
        "fingerprint": trial.fingerprint,
        "params": asked_params(space, trial.params),
        "rungs": [],
        "values": {},
        "costs": dict(trial.costs),
        "seconds": max(trial.seconds - _sharing(trial), 0.0),
    }
    # Rungs of a trial without an end foretell nothing, so that complete rows alone have them.
    if trial.state == "complete":
        row["rungs"] = _times(trial, rungs, study)
        row["values"] = dict(trial.values)
    return row


def _sharing(trial: TrialRecord) -> float:
    """Return the seconds in which a trial made shared results, or waited for them."""
    made = 0.0
    waited = 0.0
    for name, entry in trial.shared.items():
        if _is_timing(name):
            continue
        # The seconds of a reused result are those of the trial that made it.
        if not entry.get("reused"):
            made += entry.get("seconds", 0.0)
        waited += entry.get("waited", 0.0)
    return made + waited


def _timing(trial: TrialRecord) -> float:
    """Return the seconds in which a trial timed its graphs, or waited for another one to do so."""
    seconds = 0.0
    for name, entry in trial.shared.items():
        if not _is_timing(name):
            continue
        key = "seconds"
        if entry.get("reused"):
            key = "waited"
        seconds += entry.get(key, 0.0)
    return seconds


def _is_timing(name: str) -> bool:
    """Whether a shared result is a graph's times."""
    # A second graph of the same trial has a number: `latency (2)`.
    return name.partition(" (")[0] == LATENCY


def _times(
    trial: TrialRecord, rungs: Sequence[RungRecord], study: StudyRecord
) -> list[dict[str, Any]]:
    """Return the rungs with their seconds, and how many of these only judging took."""
    stages = trial.stage_seconds
    sharing = _sharing(trial)
    trunk = study.spec["budget"]["steps"] * (1 - float(trial.params.get(COOLDOWN, 0.1)))

    # Stages are timed over the whole trial. Branches are as long as the trunk before them in
    # proportion, so that each has its share of that stage by its step.
    steps = sum(rung.step for rung in rungs) + trunk
    branching = stages.get("branch", 0.0)
    # The model that is exported and evaluated is as large at each rung as at the end. Its graph is
    # timed once for all of them, judged or not, which is no part of judging.
    shipping = stages.get("export", 0.0) + stages.get("evaluate", 0.0) - _timing(trial)
    each = max(shipping, 0.0) / (len(rungs) + 1)

    found: list[dict[str, Any]] = []
    judged = 0.0
    last = 0.0
    for rung in rungs:
        judging = branching * rung.step / steps + each
        judged += judging
        until = rung.seconds
        if until is None:
            # Stores of older versions do not know the time at a rung: every step of training
            # takes the same.
            training = stages.get("train", 0.0) * rung.step / trunk
            until = stages.get("select", 0.0) + training + judged
        # Neither guesses nor sharing may put a rung before the last one, or after the end.
        seconds = max(until - sharing, last)
        seconds = min(seconds, max(trial.seconds - sharing, 0.0))
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
        """Return what the plan chose."""
        return self._answer(name)

    def suggest_int(
        self,
        name: str,
        low: int,
        high: int,
        *,
        step: int = 1,
        log: bool = False,
    ) -> int:
        """Return the plan's number."""
        return int(self._answer(name))

    def suggest_float(
        self,
        name: str,
        low: float,
        high: float,
        *,
        step: float | None = None,
        log: bool = False,
    ) -> float:
        """Return the plan's number."""
        return float(self._answer(name))

    def _answer(self, name: str) -> Any:
        # A slot is asked for by the techniques that are allowed (`slot[a|b]`), a plan holds `slot`.
        stored, _, _ = name.partition("[")
        value = self._params[stored]
        self.asked[name] = value
        return value


def asked_params(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a plan that a sampler was asked for, by stored name."""
    answers = Answers(params)
    space.suggest(answers)
    return answers.asked


def _worst(
    metric: Metric,
    values: Sequence[Mapping[str, float]],
    study: StudyRecord,
    given: Mapping[str, float],
) -> float:
    """Return the corner of the hypervolume.

    It is what is given, else what needs no model, else room around limit or rows.
    """
    name = metric.name
    if name in given:
        return given[name]
    if name in study.reference:
        return float(study.reference[name])

    found = [row[name] for row in values]
    highest = max(found)
    if metric.direction == "maximize":
        lowest = min(found)
        # The corner has to be worse than every row, also where all are equal.
        span = highest - lowest or 1.0
        return lowest - 0.1 * span
    limits = study.spec["constraints"].get(name, {})
    limit = limits.get("max")
    if limit is None:
        limit = highest
    return ROOM * float(limit)


def _notes(trials: Sequence[TrialRecord], table: Table) -> list[str]:
    """Say what whoever reads a comparison has to know of its table."""
    notes: list[str] = []
    stopped = sum(trial.state == "pruned" for trial in trials)
    if stopped:
        notes.append(
            f"{stopped} trials were stopped early and left out: what they would have become is"
            " unknown"
        )
    if not any(row.rungs for row in table.complete):
        notes.append("no rungs were recorded, so that no scheduler has anything to judge")
    if table.sampler not in ("qmc", "random"):
        notes.append(
            f"{table.sampler} chose the configurations: they are no even draw from the space"
        )
    return notes
