"""Everything that a report says, as one structure of plain JSON; pages are drawn from it and from
nothing else.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl_sr import __version__
from automl_sr.errors import AutomlSRError
from automl_sr.presentation.importance import importance
from automl_sr.presentation.numbers import plain
from automl_sr.presentation.plan_words import plan_words
from automl_sr.presentation.progress import history, learning_curve
from automl_sr.presentation.rungs import rung_summary
from automl_sr.presentation.stored_models import StoredModels
from automl_sr.presentation.trial_details import when
from automl_sr.report.efficiency import efficiency
from automl_sr.report.examples import examples, spread
from automl_sr.report.nets import nets
from automl_sr.search.output import File, TrialRow
from automl_sr.search.results import FINISHED, feasible, front_of
from automl_sr.study.spec import StudySpec

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import RungRecord, StudyRecord, TrialRecord

FORMAT = 1
MOST_CURVES = 6
"""Front members whose learning curves are shown: more colours than this cannot be told apart."""
LONGEST_DETAIL = 4000
"""Characters of a traceback; its end says what went wrong."""
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def collect(reader: Reader, name: str, registry: Registry, *, images: int = 3) -> dict[str, Any]:
    """Read a study. Raises StoreError where there is none of that name, PluginError for a metric
    that is not installed.

    What needs more than the store (images, exported files, plugins) is left out with a sentence
    where it is missing.
    """
    study = reader.study(name)
    trials = reader.trials(study)
    rungs = reader.rungs(study)
    objectives = []
    for objective in study.objectives:
        objectives.append(registry.metric(objective))
    front = front_of(study, trials, registry.metrics)
    in_front = {member.number for member in front}
    metrics = [registry.metric(name) for name in study.metrics]
    with StoredModels() as models:
        found = {
            "format": FORMAT,
            "made": when(datetime.datetime.now(datetime.UTC).timestamp()),
            "made_by": f"automl-sr {__version__}",
            "study": _study(reader, study),
            "metrics": [_metric(metric, study) for metric in metrics],
            "environment": dict(study.environment),
            "front": [_member(trial, rungs, study) for trial in front],
            "trials": [_row(trial, study, in_front) for trial in trials],
            "nets": nets(front, models),
            "images": _or_reason(lambda: examples(_spec(study, registry), front, models, images)),
            "efficiency": _or_reason(
                lambda: efficiency(_spec(study, registry), trials, front, models, registry)
            ),
            "history": history(study, trials, objectives),
            "importance": _or_reason(lambda: importance(study, trials, rungs, registry)),
            "curves": [_curve(reader, trial) for trial in spread(front, MOST_CURVES)],
            "rungs": rung_summary(rungs),
            "judged": [_judged(row) for row in rungs],
            "failures": _failures(reader, study, trials),
            "costs": _costs(study, trials, rungs),
            "shared": _shared(trials),
        }
    document: dict[str, Any] = plain(found)
    return document


def _spec(study: StudyRecord, registry: Registry) -> StudySpec:
    return StudySpec.from_json(study.spec, registry)


def _or_reason(make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Do without a part that cannot be made here, and say why: the rest of the report does not
    depend on it.
    """
    try:
        return make()
    except AutomlSRError as error:
        return {"reason": str(error)}
    except Exception as error:  # noqa: BLE001 - plugins, files of others and damaged images may fail in any way
        return {"reason": f"{type(error).__name__}: {error}."}


def _study(reader: Reader, study: StudyRecord) -> dict[str, Any]:
    spec = study.spec
    return {
        "name": study.name,
        "store": reader.name,
        "artifacts": study.artifacts,
        "created": when(study.created),
        "seconds": round(study.seconds, 3),
        "trials": dict(study.counts),
        "reference": dict(study.reference),
        "source": study.source,
        **{
            key: spec[key]
            for key in ("task", "objectives", "constraints", "device", "budget", "search")
        },
    }


def _metric(metric: Metric, study: StudyRecord) -> dict[str, Any]:
    return {
        "name": metric.name,
        "direction": metric.direction,
        "unit": metric.unit,
        "log": metric.log,
        "help": metric.help,
        "objective": metric.name in study.objectives,
        "limits": {
            key: limit
            for key, limit in study.spec["constraints"].get(metric.name, {}).items()
            if limit is not None
        },
    }


def _row(trial: TrialRecord, study: StudyRecord, front: set[int]) -> dict[str, Any]:
    left_model = trial.state in FINISHED and all(name in trial.values for name in study.objectives)
    return {
        **TrialRow.of(trial).model_dump(),
        "words": plan_words(trial.params),
        "costs": dict(trial.costs),
        "front": trial.number in front,
        "feasible": left_model and feasible(study, trial.values),
        "finished": None if trial.finished is None else when(trial.finished),
    }


def _member(trial: TrialRecord, rungs: Sequence[RungRecord], study: StudyRecord) -> dict[str, Any]:
    stopped = []
    for row in rungs:
        if row.number == trial.number and not row.go_on:
            stopped.append(row.step)
    return {
        **TrialRow.of(trial).model_dump(),
        "words": plan_words(trial.params),
        "planned_params": trial.costs.get("params"),
        "steps": stopped[0] if stopped else study.spec["budget"]["steps"],
        "files": [File.of(file).model_dump() for file in trial.artifacts.values()],
    }


def _curve(reader: Reader, trial: TrialRecord) -> dict[str, Any]:
    points = learning_curve(reader.curve(trial), trial.params.get("recipe.batch"))
    return {"number": trial.number, "points": points}


def _judged(row: RungRecord) -> dict[str, Any]:
    return {
        "number": row.number,
        "rung": row.rung,
        "step": row.step,
        "values": dict(row.values),
        "go_on": row.go_on,
        "reason": row.reason,
    }


def _failures(
    reader: Reader, study: StudyRecord, trials: Sequence[TrialRecord]
) -> list[dict[str, Any]]:
    """Group what came to nothing by its reason, numbers aside; the most frequent first."""
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for trial in trials:
        if trial.state in ("failed", "infeasible"):
            groups.setdefault(
                (trial.state, _NUMBER.sub("…", trial.reason or "no reason")), []
            ).append(trial)
    found = []
    for (state, _), members in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = members[0]
        details = []
        for event in reader.events(study, first.number):
            if event.kind == state and event.text:
                details.append(event.text)
        found.append(
            {
                "state": state,
                "reason": first.reason or "no reason",
                "count": len(members),
                "trials": [trial.number for trial in members],
                "seconds": round(sum(trial.seconds for trial in members), 3),
                "detail": details[-1][-LONGEST_DETAIL:] if details else "",
            }
        )
    return found


def _costs(
    study: StudyRecord, trials: Sequence[TrialRecord], rungs: Sequence[RungRecord]
) -> dict[str, Any]:
    """Add up where time went, and what was not spent."""
    stages: dict[str, float] = {}
    for trial in trials:
        for stage, seconds in trial.stage_seconds.items():
            stages[stage] = stages.get(stage, 0.0) + seconds
    total = sum(trial.seconds for trial in trials)
    states = {}
    for state in dict.fromkeys(trial.state for trial in trials):
        states[state] = {
            "trials": sum(trial.state == state for trial in trials),
            "seconds": sum(trial.seconds for trial in trials if trial.state == state),
        }
    return {
        "seconds": total,
        "stages": stages,
        "states": states,
        "saved_by_stopping": _saved_by_stopping(study, trials, rungs),
        "saved_by_reuse": _saved_by_reuse(trials),
    }


def _saved_by_stopping(
    study: StudyRecord, trials: Sequence[TrialRecord], rungs: Sequence[RungRecord]
) -> dict[str, Any] | None:
    """Estimate what stopped trials would have taken to the end: their own seconds for each step,
    times all steps.
    """
    steps = study.spec["budget"]["steps"]
    stopped_at = {}
    for row in rungs:
        if not row.go_on:
            stopped_at[row.number] = row.step
    saved = []
    for trial in trials:
        training = trial.stage_seconds.get("train", 0.0)
        if trial.state == "pruned" and trial.number in stopped_at and training > 0:
            whole = training * steps / stopped_at[trial.number]
            saved.append(max(0.0, whole - training - trial.stage_seconds.get("branch", 0.0)))
    if saved:
        return {"trials": len(saved), "seconds": sum(saved)}
    return None


def _saved_by_reuse(trials: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """Add up the seconds of results that were copied from a trial with the same plan."""
    seconds = {}
    for trial in trials:
        seconds[trial.number] = trial.seconds
    twins = []
    for trial in trials:
        if trial.state == "duplicate" and trial.duplicate_of in seconds:
            twins.append(trial)
    if not twins:
        return None
    saved = sum(max(0.0, seconds[twin.duplicate_of or 0] - twin.seconds) for twin in twins)
    return {"trials": len(twins), "seconds": saved}


def _shared(trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """List what trials made once for all: who made it, who reused it, and the seconds that this
    saved.
    """
    uses: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for trial in trials:
        for name, use in trial.shared.items():
            uses.setdefault(name, []).append((trial.number, use))
    return [
        {
            "name": name,
            "made_by": [number for number, use in rows if not use["reused"]],
            "reused_by": [number for number, use in rows if use["reused"]],
            "saved": sum(use["seconds"] for _, use in rows if use["reused"]),
        }
        for name, rows in sorted(uses.items())
    ]
