"""Studies and trials for tests of the app, made up without a store."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from automl_sr.app.store_cache import Snapshot
from automl_sr.errors import PluginError
from automl_sr.plugin.metric import BUILTIN_METRICS, Metric
from automl_sr.store.records import RungRecord, StudyRecord, TrialRecord
from automl_sr.tasks.image_sr.metrics import IMAGE_METRICS

SCRIPT = "<script>alert('x')</script>"
PLAN = {
    "selection": "none",
    "architecture": "espcn",
    "architecture.espcn.width": 16,
    "quantization": "none",
    "recipe.lr": 0.001,
}


class Known:
    """The metrics of core, and no plugins."""

    metrics: ClassVar = {metric.name: metric for metric in (*IMAGE_METRICS, *BUILTIN_METRICS)}

    def metric(self, name: str) -> Metric:
        if name not in self.metrics:
            raise PluginError(f"There is no metric {name!r}.")
        return self.metrics[name]


def study(**fields: Any) -> StudyRecord:
    """A study that trades psnr_y against params."""
    spec = {
        "objectives": ["psnr_y", "params"],
        "constraints": {"params": {"max": 5000}},
        "budget": {"steps": 600},
    }
    given = {
        "name": "made",
        "spec": spec,
        "space": {},
        "source": "",
        "environment": {},
        "reference": {},
    }
    return StudyRecord(
        **{"id": 1, **given, "artifacts": "files", "seconds": 60.0, "created": 1.7e9, **fields}
    )


def trial(
    number: int, state: Any = "complete", *, plan: dict[str, Any] | None = PLAN, **fields: Any
) -> TrialRecord:
    """A trial; one that is complete gets better and larger with its number."""
    values = {"psnr_y": 30.0 + number, "params": 1000.0 + number} if state == "complete" else {}
    given = {
        "id": number + 100,
        "study_id": 1,
        "plan": None if plan is None else {"params": plan},
        "fingerprint": f"print-{number}",
        "values": values,
        "costs": {"params": 1000.0 + number} if plan else {},
        "reason": None,
        "seconds": 12.34 + number,
        "stage_seconds": {"train": 10.0 + number, "evaluate": 2.0},
        "stage": None,
        "duplicate_of": None,
        "owner": None,
        "key": str(number),
        "asked": None,
        "violations": {},
        "fence": 1,
        "kept": None,
        "created": 1.7e9,
        "started": 1.7e9,
        "finished": 1.7e9 + number,
    }
    return TrialRecord(number=number, state=state, **{**given, **fields})


def snapshot(
    trials: Sequence[TrialRecord], rungs: Sequence[RungRecord] = (), of: StudyRecord | None = None
) -> Snapshot:
    """These trials as a study at one moment."""
    reader: Any = SimpleNamespace(rungs=lambda study: list(rungs))
    known: Any = Known()
    return Snapshot(of or study(), tuple(trials), reader, known)


def everything(found: TrialRecord, **fields: Any) -> dict[str, Any]:
    """What `automl_sr.cli.trials.details` says of a trial that has no curve, rungs, files or events
    unless named.
    """
    empty: dict[str, Any] = {
        "rungs": [],
        "curve": [],
        "refinements": [],
        "artifacts": [],
        "events": [],
    }
    return {
        "state": found.state,
        "values": dict(found.values),
        "costs": dict(found.costs),
        "plan": found.params,
        "seconds": found.seconds,
        "reason": found.reason,
        "stage_seconds": dict(found.stage_seconds),
        "shared": dict(found.shared),
        "stage": found.stage,
        "duplicate_of": found.duplicate_of,
        "origin": found.origin,
        **empty,
        **fields,
    }
