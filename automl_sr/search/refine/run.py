"""One refinement, in the order in which it happens: a trial's model trained on, shipped, measured
and tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from automl_sr.errors import CheckpointError, DataError
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.plugin.technique import Slot
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import finish_branch, save, train
from automl_sr.training.randomness import derive
from automl_sr.training.run import Run, continued
from automl_sr.trial.layers_file import with_layers
from automl_sr.trial.measure import measure
from automl_sr.trial.observer import CurveObserver, StageClock
from automl_sr.trial.setup import make_context, make_setup, training_data
from automl_sr.trial.ship import artifacts_of, ship

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.task import Task
    from automl_sr.space.plan import TrialPlan
    from automl_sr.trial.observer import TrialObserver
    from automl_sr.trial.types import Setting


SHIPPED = "rung-0"
"""The folder of the exported model: of that name, the next owner of an attempt leaves it behind."""


@dataclass(frozen=True)
class Job:
    """What is asked of one refinement."""

    steps: int
    """In all, its tail included."""
    seed: int
    """Which of several: 0, 1, 2, ..."""
    base: Path
    """Folder with the trial's last checkpoint."""


@dataclass(frozen=True)
class Refined:
    """What came of a refinement: values by metric on the validation set, and by test set; files by
    kind.
    """

    values: dict[str, float]
    tests: dict[str, dict[str, float]]
    artifacts: dict[str, Path]
    untested: tuple[str, ...] = ()
    """Why test sets are missing, one entry for each."""
    notes: tuple[str, ...] = ()


def run_refinement(
    plan: TrialPlan, setting: Setting, job: Job, observer: TrialObserver, folder: Path
) -> Refined:
    """Train a plan's model on from a checkpoint; what a resume needs is kept in `folder`.

    All samples of the task are trained on, without selection or distillation, but for those held
    out for scores. The rate is the recipe's, constant after a short warm-up, with the tail of the
    search.

    Raises StopRequestedError (after a checkpoint) when the observer asks to stop.
    """
    with StageClock(observer, folder / "seconds.json") as clock:
        clock.stage("train")
        base = Checkpoints(job.base).latest()
        if base is None:
            raise CheckpointError("The checkpoint of the search is damaged.")
        context = make_context(plan, setting, folder, CurveObserver(observer, job.steps))
        seed = derive(setting.seed, plan.fingerprint, "refine", job.seed)
        context = replace(context, seed=seed)
        data = training_data(plan, setting)

        # The trunk of the search was trained at a constant rate, and goes on so: this is the trunk
        # of a longer search.
        setup = continued(make_setup(plan, setting, context, data), base, job.steps)
        checkpoints = Checkpoints(folder / "trunk")
        kept = checkpoints.latest()
        if kept is None:
            trunk = Run.go_on(setup, base)
        else:
            trunk = Run.restore(setup, kept)
        train(trunk, trunk.end, context.observer, checkpoints)
        trunk.leave_phase()
        # Saved once more: a resume finds a trunk whose last phase was left, and leaves it once.
        save(trunk, context.observer, checkpoints)

        clock.stage("branch")
        tail = Checkpoints(folder / "branch")
        branch = finish_branch(trunk, context.observer, tail)
        finished = branch.finish(folder / SHIPPED)

        clock.stage("export")
        pipeline = list(plan.techniques.values())
        finished = ship(finished, pipeline, context)
        architecture = plan.techniques[Slot.ARCHITECTURE]
        finished, layers = with_layers(finished, architecture, context)
        artifacts = {**artifacts_of(finished), **layers}

        clock.stage("evaluate")
        values = measure(finished, pipeline, setting, context, clock.seconds())
        tests, untested = test(artifacts["onnx"], setting, clock.stage)
        return Refined(values, tests, artifacts, tuple(untested), finished.notes)


def test(
    path: Path, setting: Setting, begin: Callable[[str], None]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Measure an exported file on each test set of the task, whole images, as it measures on the
    validation set.

    Gives values by set and metric, and why sets that are missing here, or single values, are not
    among them.
    """
    found: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    metrics = _quality_metrics(setting)
    for name in setting.task.test_sets:
        begin(f"test on {name}")
        try:
            # In the place of the validation set, so that it is measured in the very same way.
            data = replace(setting.data, valid=setting.task.load_test(name))
            model = OnnxModel(path, threads=setting.threads or 1)
            values = setting.task.measure_quality(model, data, metrics)
        except DataError as error:
            notes.append(f"test set {name}: {error.message}")
            continue
        finite = {}
        for metric, value in values.items():
            if math.isfinite(value):
                finite[metric] = float(value)
            else:
                said = f"{metric} is no number (an image of one flat colour?)"
                notes.append(f"test set {name}: {said}")
        found[name] = finite
    return found, notes


def missing_test_sets(task: Task) -> list[str]:
    """Say before the training which test sets are not there; none is read for that."""
    said = []
    for name in task.test_sets:
        try:
            task.find_test(name)
        except DataError as error:
            said.append(f"test set {name} will be left out: {error}")
    return said


def _quality_metrics(setting: Setting) -> Sequence[Metric]:
    """Return all that is measured on outputs: the task's metrics, and those that the study took
    from plugins.
    """
    asked = []
    for name in setting.metrics:
        asked.append(setting.registry.metric(name))
    named = {}
    for metric in (*setting.task.metrics, *asked):
        if metric.level == "quality":
            named[metric.name] = metric
    return list(named.values())
