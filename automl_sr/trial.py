"""One trial, from plan to measured artefact, in the order in which it happens."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args

import onnxruntime
import torch

from automl_sr import __version__
from automl_sr.cache import Cache
from automl_sr.compression.export import export_onnx
from automl_sr.compression.onnx_file import graph_digest
from automl_sr.context import Context
from automl_sr.errors import ExportError, Interrupted, PluginError
from automl_sr.evaluation.cost import on_meta
from automl_sr.evaluation.latency import LATENCY, Latency, timed_in_turns
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.files import save_tensors, write_atomically
from automl_sr.plugin.metric import Level, Metric
from automl_sr.plugin.technique import Slot
from automl_sr.store.leases import node
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import Observer, Silent, finish_fork, save, start_or_resume, train
from automl_sr.training.phases import Phase, Timetable
from automl_sr.training.randomness import derive
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Setup

if TYPE_CHECKING:
    from torch import Tensor, nn

    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.task import Samples, Task, TaskData
    from automl_sr.plugin.technique import Technique
    from automl_sr.space.plan import TrialPlan
    from automl_sr.training.run import Finished, Run


@dataclass(frozen=True)
class DeviceSpec:
    """Where shipped models are measured: provider, threads and input size (height, width)."""

    provider: str = "cpu"
    threads: int = 1
    input: tuple[int, int] = (360, 640)


@dataclass(frozen=True)
class Setting:
    """What all trials of a study share; made once per worker."""

    registry: Registry
    task: Task
    data: TaskData
    metrics: tuple[str, ...]
    """Objectives and constrained metrics: what is measured on every exported model."""
    objectives: tuple[str, ...]
    steps: int
    rungs: int
    reduction: int
    seed: int
    train_device: str
    device: DeviceSpec
    cache: Path | None
    """Folder of results shared between trials and workers; None lets every trial make all of them in its own folder."""
    threads: int | None = None
    first_rung: int | None = None
    """No rung lies before this step; None leaves that to the timetable."""


@dataclass(frozen=True)
class Point:
    """One point of a learning curve."""

    step: int
    steps: int
    phase: str
    loss: float
    rate: float
    images_per_second: float
    values: Mapping[str, float] = field(default_factory=dict)


class Journal(Protocol):
    """Where a trial reports; the store's implementation is the only one that search uses."""

    def stage(self, name: str) -> None:
        """A stage begins: select, train, fork, export, evaluate."""

    def point(self, point: Point) -> None:
        """Add a point to the learning curve."""

    def saved(self) -> None:
        """A checkpoint was written."""

    def stop_requested(self) -> bool:
        """Say whether the trial should checkpoint and raise Interrupted as soon as possible."""

    def rung(self, index: int, step: int, values: Mapping[str, float], artifacts: Mapping[str, Path]) -> bool:
        """Record the values of a finished fork; True if the trial may go on."""


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: values by metric, files by kind, seconds by stage."""

    state: Literal["complete", "pruned"]
    values: dict[str, float]
    artifacts: dict[str, Path]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Results that trials share, by name: {"seconds": what making it took, "reused": whether another trial did}.

    `waited` is there where the trial waited for another worker to make it: so much less was saved.
    """


def run_trial(plan: TrialPlan, setting: Setting, journal: Journal, folder: Path) -> Outcome:
    """Train, compress, export and measure one plan; what a resume needs is kept in `folder`.

    Raises Interrupted (after a checkpoint) when the journal asks to stop, TrialError and its like when the trial fails.
    """
    with Clock(journal, folder / "seconds.json") as clock:
        return _run(plan, setting, journal, folder, clock)


def _run(plan: TrialPlan, setting: Setting, journal: Journal, folder: Path, clock: Clock) -> Outcome:
    context = make_context(plan, setting, folder, Watch(journal, setting.steps))
    pipeline = list(plan.techniques.values())
    architecture = plan.techniques[Slot.ARCHITECTURE]
    blueprint = architecture.blueprint(setting.task, context.for_technique(architecture))
    clock.stage("select")
    data = setting.data.train
    for technique in pipeline:
        data = technique.select_data(data, context.for_technique(technique, data.fingerprint))
    setup = make_setup(plan, setting, replace(context, data_fingerprint=data.fingerprint), data)
    clock.stage("train")
    checkpoints = Checkpoints(folder / "trunk")
    trunk = start_or_resume(setup, blueprint, checkpoints)
    rungs = setup.timetable.rungs(setting.rungs, setting.reduction, setting.first_rung)
    end = setup.timetable.trunk_steps
    for index, step in rungs.items():
        if step < trunk.step:
            continue  # decided before this trial was interrupted
        clock.stage("train")
        train(trunk, step, setup.context.observer, checkpoints)
        if step == end:
            trunk.leave_trunk()
        save(trunk, setup.context.observer, checkpoints)
        clock.stage("fork")
        tail = Checkpoints(folder / f"fork-{index}")
        finished = finish_fork(trunk, setup.context.observer, tail).finish(folder / f"rung-{index}")
        clock.stage("export")
        finished = ship(finished, pipeline, setup.context)
        clock.stage("evaluate")
        values = measure(finished, pipeline, setting, setup.context)
        tail.clear()
        if step != end and not journal.rung(index, step, values, artifacts_of(finished)):
            break
    state: Literal["complete", "pruned"] = "complete" if step == end else "pruned"
    files = {**artifacts_of(finished), **checkpoints.files()}
    return Outcome(state, values, files, clock.seconds(), finished.notes, context.cache.shared())


class Clock:
    """Adds up the seconds of each stage over all attempts, and tells the journal where the trial is."""

    def __init__(self, journal: Journal, kept: Path) -> None:
        self._journal = journal
        self._kept = kept
        self._seconds: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
        self._stage, self._since = "", time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep the seconds for the attempt that goes on, if this one was stopped."""
        write_atomically(self._kept, json.dumps(self.seconds()).encode())

    def stage(self, name: str) -> None:
        """Begin a stage; the one before ends."""
        now = time.monotonic()
        if self._stage:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = name, now
        self._journal.stage(name)
        if self._journal.stop_requested():
            raise Interrupted(f"Stopped before {name!r}; the work up to here is kept.")

    def seconds(self) -> dict[str, float]:
        """End the last stage and give all of them."""
        now = time.monotonic()
        running = {self._stage: self._seconds.get(self._stage, 0.0) + now - self._since} if self._stage else {}
        return {**self._seconds, **running}


class Watch:
    """Passes a run's progress on to the journal, as points of a learning curve."""

    def __init__(self, journal: Journal, steps: int) -> None:
        self._journal = journal
        self._steps = steps

    def progress(self, run: Run, images_per_second: float) -> None:
        """Add a point to the curve."""
        phase = run.span.phase.name if run.span else ""
        rate = run.recipe.lr * run.rate()
        self._journal.point(Point(run.step, self._steps, phase, float(run.last_loss), rate, images_per_second))

    def saved(self) -> None:
        """Pass on that a checkpoint was written."""
        self._journal.saved()

    def stop_requested(self) -> bool:
        """Ask the journal whether to stop."""
        return self._journal.stop_requested()


def make_context(plan: TrialPlan, setting: Setting, folder: Path, observer: Observer | None = None) -> Context:
    """Make the surroundings of one trial, or of its check at the gate, which nobody watches.

    The seed depends on the study's and on the plan, not on the trial's number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return Context(
        registry=setting.registry,
        task=setting.task,
        seed=derive(setting.seed, plan.fingerprint),
        device=setting.train_device,
        scratch=folder,
        cache=Cache(setting.cache or folder / "cache", record=folder / "shared.json"),
        data_fingerprint=setting.data.train.fingerprint,
        observer=observer or Silent(),
    )


def make_setup(plan: TrialPlan, setting: Setting, context: Context, data: Samples) -> Setup:
    """Lay out the training of a plan: every technique adds its phases, in the order of the slots."""
    recipe = plan.techniques[Slot.RECIPE]
    if not isinstance(recipe, Recipe):
        raise PluginError(f"The recipe is a {type(recipe).__name__}, not core's Recipe.")
    pipeline = list(plan.techniques.values())
    phases = [Phase("train", 1.0)]
    for technique in pipeline:
        phases = technique.phases(phases, context.for_technique(technique))
    setting.task.check_training(data, patch=recipe.patch)
    return Setup(
        context=context,
        task=setting.task,
        data=data.to(setting.train_device),
        recipe=recipe,
        techniques=tuple(pipeline),
        timetable=Timetable.of(phases, setting.steps, recipe.cooldown),
        seed=context.seed,
        device=setting.train_device,
    )


def ship(finished: Finished, pipeline: Sequence[Technique], context: Context) -> Finished:
    """Compress and export a trained model; the float file is checked against the model on two sizes."""
    for technique in pipeline:
        finished = technique.compress(finished, context.for_technique(technique))
    finished.folder.mkdir(parents=True, exist_ok=True)
    path = finished.folder / "model.onnx"
    metadata = export_module(finished.module, finished.blueprint, finished.task, path)
    finished = replace(finished, onnx=path)
    for technique in pipeline:
        finished = technique.export(finished, context.for_technique(technique))
    save_tensors(finished.folder / "model.safetensors", finished.module.state_dict(), metadata)
    return finished


def export_module(module: nn.Module, blueprint: Blueprint, task: Task, path: Path) -> dict[str, str]:
    """Write a module as ONNX, checked on the task's examples, and give the metadata that went into the file."""
    interface = task.interface()
    first, *others = task.examples()
    metadata = {
        "made_by": f"automl-sr {__version__}",
        "task": task.kind,
        "blueprint": json.dumps(blueprint.to_json(), sort_keys=True),
        **{key: str(value) for key, value in task.dims().items()},
        **task.metadata(),
    }
    checks = [[example] for example in others]
    names = (interface.inputs, interface.outputs, interface.dynamic_axes)
    export_onnx(module, path, [first], *names, metadata=metadata, check_inputs=checks)
    return metadata


def artifacts_of(finished: Finished) -> dict[str, Path]:
    """Name the files of a shipped model by kind."""
    if finished.onnx is None:
        raise ExportError("The model was not exported.")
    return {"onnx": finished.onnx, "weights": finished.folder / "model.safetensors"}


def measure(finished: Finished, pipeline: Sequence[Technique], setting: Setting, context: Context) -> dict[str, float]:
    """Measure every metric of the study on the exported file, as it ships."""
    path = artifacts_of(finished)["onnx"]
    metrics = [setting.registry.metric(name) for name in setting.metrics]
    by_level = {level: [metric for metric in metrics if metric.level == level] for level in get_args(Level)}
    values: dict[str, float] = {}
    if by_level["quality"]:
        # Every core for quality: the number of threads changes the time that this takes, not the outputs.
        model = OnnxModel(path, threads=setting.threads or 1)
        values |= setting.task.measure_quality(model, setting.data, by_level["quality"])
    meta = on_meta(finished.module)
    values |= {metric.name: metric.function()(meta, [setting.task.cost_example()]) for metric in by_level["blueprint"]}
    values |= {metric.name: metric.function()(path) for metric in by_level["artifact"]}
    if by_level["device"]:
        values |= measure_device(path, setting, by_level["device"], context)
    for technique in pipeline:
        values = technique.evaluate(values, finished, context.for_technique(technique))
    return {name: float(value) for name, value in values.items()}


def measure_device(path: Path, setting: Setting, metrics: Sequence[Metric], context: Context) -> dict[str, float]:
    """Time an exported file on the study's device, in turns with the reference net.

    Times do not depend on weights: files of one graph are timed once on a machine, so that rungs cost less, and noise
    does not tell equal models apart.
    """
    device, task = setting.device, setting.task
    files = {"own": path, "reference": task.reference_net()}

    def make(_: Path) -> dict[str, Tensor]:
        example = task.latency_example(device.input)
        runners = {name: OnnxModel(file, device.threads, device.provider) for name, file in files.items()}
        timed = timed_in_turns({name: functools.partial(runner, example) for name, runner in runners.items()})
        return {name: torch.tensor(astuple(found), dtype=torch.float64) for name, found in timed.items()}

    parts = {
        "graphs": {name: graph_digest(file) for name, file in files.items()},
        "device": asdict(device),
        "machine": node(),
        "onnxruntime": onnxruntime.__version__,
    }
    kept = context.cache.get(LATENCY, parts, make, context.observer.stop_requested)
    timed = {name: _latency(found.tolist()) for name, found in kept.items()}
    return {metric.name: metric.function()(timed["own"], timed["reference"]) for metric in metrics}


def _latency(kept: Sequence[float]) -> Latency:
    median, fastest, p90, runs = kept
    return Latency(median, fastest, p90, int(runs))
