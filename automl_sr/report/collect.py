"""Everything that a report says, as one structure of plain JSON.

Pages are drawn from it and from nothing else.
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
from automl_sr.report.compressed import compressed
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
SETTINGS = ("task", "objectives", "constraints", "device", "budget", "search")
"""Parts of the study file that a report shows one by one."""
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def collect(
    reader: Reader,
    name: str,
    registry: Registry,
    *,
    images: int = 3,
) -> dict[str, Any]:
    """Return what there is to say of a study.

    What needs more than the store (images, exported files, plugins) is left out with a sentence
    where it is missing. Raises StoreError where there is no study of that name, PluginError for a
    metric that is not installed.
    """
    study = reader.study(name)
    trials = reader.trials(study)
    rungs = reader.rungs(study)
    objectives = list(map(registry.metric, study.objectives))
    metrics = list(map(registry.metric, study.metrics))
    front = front_of(study, trials, registry.metrics)
    in_front = {member.number for member in front}
    # Images and scores read the same files, which lie on a server perhaps: each is fetched once.
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
            "layers": compressed(front),
            "images": _or_reason(lambda: examples(_spec(study, registry), front, models, images)),
            "efficiency": _or_reason(
                lambda: efficiency(_spec(study, registry), trials, front, models, registry)
            ),
            "history": history(study, trials, objectives),
            "importance": _or_reason(lambda: importance(study, trials, rungs, registry)),
            "curves": [_curve(reader, trial) for trial in spread(front, MOST_CURVES)],
            "rungs": rung_summary(rungs),
            "judged": list(map(_judged, rungs)),
            "failures": _failures(reader, study, trials),
            "costs": _costs(study, trials, rungs),
            "shared": _shared(trials),
        }
    document: dict[str, Any] = plain(found)
    return document


def _spec(study: StudyRecord, registry: Registry) -> StudySpec:
    # Read within the parts that need it: a study whose techniques are not installed here has a
    # report all the same.
    return StudySpec.from_json(study.spec, registry)


def _or_reason(make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return a part, or why it cannot be made here.

    The rest of the report does not depend on it.
    """
    try:
        return make()
    except AutomlSRError as error:
        return {"reason": str(error)}
    except Exception as error:  # noqa: BLE001 - plugins, files of others and damaged images may fail in any way
        return {"reason": f"{type(error).__name__}: {error}."}


def _study(reader: Reader, study: StudyRecord) -> dict[str, Any]:
    settings = {key: study.spec[key] for key in SETTINGS}
    return {
        "name": study.name,
        "store": reader.name,
        "artifacts": study.artifacts,
        "created": when(study.created),
        "seconds": round(study.seconds, 3),
        "trials": dict(study.counts),
        "reference": dict(study.reference),
        "source": study.source,
        **settings,
    }


def _metric(metric: Metric, study: StudyRecord) -> dict[str, Any]:
    limits = {}
    asked = study.spec["constraints"].get(metric.name, {})
    for key, limit in asked.items():
        if limit is not None:  # the study file named the other one alone
            limits[key] = limit
    return {
        "name": metric.name,
        "direction": metric.direction,
        "unit": metric.unit,
        "log": metric.log,
        "help": metric.help,
        "objective": metric.name in study.objectives,
        "limits": limits,
    }


def _row(trial: TrialRecord, study: StudyRecord, front: set[int]) -> dict[str, Any]:
    measured = trial.values.keys() >= set(study.objectives)
    left_model = trial.state in FINISHED and measured
    finished = None
    if trial.finished is not None:
        finished = when(trial.finished)
    return {
        **TrialRow.of(trial).model_dump(),
        "words": plan_words(trial.params),
        "costs": dict(trial.costs),
        "front": trial.number in front,
        "feasible": left_model and feasible(study, trial.values),
        "finished": finished,
    }


def _member(
    trial: TrialRecord,
    rungs: Sequence[RungRecord],
    study: StudyRecord,
) -> dict[str, Any]:
    steps = study.spec["budget"]["steps"]
    for row in rungs:
        if row.number == trial.number and not row.go_on:
            steps = row.step  # a trial that was stopped may be in the front
            break
    return {
        **TrialRow.of(trial).model_dump(),
        "words": plan_words(trial.params),
        "planned_params": trial.costs.get("params"),
        "steps": steps,
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
    reader: Reader,
    study: StudyRecord,
    trials: Sequence[TrialRecord],
) -> list[dict[str, Any]]:
    """Return what came to nothing, grouped by its reason; the most frequent first."""
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for trial in trials:
        if trial.state in ("failed", "infeasible"):
            # Numbers aside: each trial breaks a limit by another amount.
            reason = _NUMBER.sub("…", trial.reason or "no reason")
            groups.setdefault((trial.state, reason), []).append(trial)

    found = []
    for (state, _), members in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = members[0]
        group = {
            "state": state,
            "reason": first.reason or "no reason",
            "count": len(members),
            "trials": [trial.number for trial in members],
            "seconds": round(sum(trial.seconds for trial in members), 3),
            "detail": _detail(reader, study, first),
        }
        found.append(group)
    return found


def _detail(reader: Reader, study: StudyRecord, trial: TrialRecord) -> str:
    """Return the end of what was written when a trial came to nothing."""
    text = ""
    for event in reader.events(study, trial.number):
        if event.kind == trial.state and event.text:
            text = event.text  # the last one is what ended it
    return text[-LONGEST_DETAIL:]


def _costs(
    study: StudyRecord,
    trials: Sequence[TrialRecord],
    rungs: Sequence[RungRecord],
) -> dict[str, Any]:
    """Return where time went, and what was not spent."""
    total: float = 0
    stages: dict[str, float] = {}
    states: dict[str, dict[str, float]] = {}
    for trial in trials:
        total += trial.seconds
        state = states.setdefault(trial.state, {"trials": 0, "seconds": 0})
        state["trials"] += 1
        state["seconds"] += trial.seconds
        for stage, seconds in trial.stage_seconds.items():
            stages[stage] = stages.get(stage, 0.0) + seconds
    return {
        "seconds": total,
        "stages": stages,
        "states": states,
        "saved_by_stopping": _saved_by_stopping(study, trials, rungs),
        "saved_by_reuse": _saved_by_reuse(trials),
    }


def _saved_by_stopping(
    study: StudyRecord,
    trials: Sequence[TrialRecord],
    rungs: Sequence[RungRecord],
) -> dict[str, Any] | None:
    """Return an estimate of what stopped trials would have taken to the end."""
    steps = study.spec["budget"]["steps"]
    stopped_at = {}
    for row in rungs:
        if not row.go_on:
            stopped_at[row.number] = row.step
    saved = []
    for trial in trials:
        training = trial.stage_seconds.get("train", 0.0)
        if trial.state != "pruned" or trial.number not in stopped_at or training <= 0:
            continue
        # Their own seconds for each step, times all steps. What the branch took was spent on the
        # judgement: it is not saved.
        whole = training * steps / stopped_at[trial.number]
        branch = trial.stage_seconds.get("branch", 0.0)
        saved.append(max(0.0, whole - training - branch))
    if not saved:
        return None
    return {"trials": len(saved), "seconds": sum(saved)}


def _saved_by_reuse(trials: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """Return the seconds of results that were copied from a trial with the same plan."""
    seconds = {trial.number: trial.seconds for trial in trials}
    count = 0
    saved = 0.0
    for trial in trials:
        twin = trial.duplicate_of
        if trial.state == "duplicate" and twin in seconds:
            count += 1
            saved += max(0.0, seconds[twin] - trial.seconds)
    if not count:
        return None
    return {"trials": count, "seconds": saved}


def _shared(trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Return what trials made once for all.

    Who made it, who reused it, and the seconds that this saved.
    """
    uses: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for trial in trials:
        for name, use in trial.shared.items():
            uses.setdefault(name, []).append((trial.number, use))

    found = []
    for name, rows in sorted(uses.items()):
        made_by = []
        reused_by = []
        saved = 0
        for number, use in rows:
            if use["reused"]:
                reused_by.append(number)
                saved += use["seconds"]
            else:
                made_by.append(number)
        row = {
            "name": name,
            "made_by": made_by,
            "reused_by": reused_by,
            "saved": saved,
        }
        found.append(row)
    return found
