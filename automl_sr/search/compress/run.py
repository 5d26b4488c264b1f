"""One compression from beginning to end: a trial that begins with a finished model, and evidence.

The work is that of any trial (`run_trial`). What it needs to go on lies in a folder of its own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from automl_sr import __version__
from automl_sr.errors import AutomlSRError, StopRequestedError, UseError
from automl_sr.files import write_atomically
from automl_sr.plugin.pretrained import Pretrained
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.plugin.weights import read_weights
from automl_sr.search.compress.given import metrics_of
from automl_sr.search.decide.gate import Gate
from automl_sr.search.environment import environment
from automl_sr.search.open_study import Options
from automl_sr.search.output import LayersShape
from automl_sr.search.setting import make_setting, sharing
from automl_sr.search.workers.reporter import check_finite
from automl_sr.search.workers.stop_signal import Stop
from automl_sr.store.artifacts import Artifacts, sha256
from automl_sr.store.records import LAYERS
from automl_sr.training.run import TrainedModel
from automl_sr.trial.measure import measure
from automl_sr.trial.run import run_trial
from automl_sr.trial.setup import make_context
from automl_sr.trial.ship import export_module

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.search.compress.choice import Techniques
    from automl_sr.search.compress.given import Given
    from automl_sr.space.plan import TrialPlan
    from automl_sr.trial.types import Outcome, Point, Setting

STEPS = 1000
"""Steps of a model that comes from a file, where something is to be trained."""
IDENTITY = "compression.json"


@dataclass(frozen=True)
class Amount:
    """How long, where and from which seed it is trained; None is what suits the model."""

    steps: int | None = None
    seed: int | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Compressed:
    """What came of it: files by kind, and the evidence as JSON."""

    files: Mapping[str, Path]
    evidence: dict[str, Any]


class CompressCallback:
    """Told what happens; by itself it follows nothing."""

    def began(self, plan: TrialPlan, steps: int, *, goes_on: bool) -> None:
        """It begins, or goes on."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def point(self, point: Point) -> None:
        """The model has trained on."""

    def note(self, text: str) -> None:
        """Something to know."""


class _Watched:
    """Passes on what the trial reports; nothing is judged at its rungs."""

    def __init__(self, callback: CompressCallback, stop: Callable[[], bool]) -> None:
        self._callback = callback
        self.stop_requested = stop

    def stage(self, name: str) -> None:
        self._callback.stage(name)

    def point(self, point: Point) -> None:
        self._callback.point(point)

    def saved(self) -> None:
        """Nothing is copied anywhere."""

    def rung(
        self,
        index: int,
        step: int,
        values: Mapping[str, float],
        artifacts: Mapping[str, Path],
    ) -> bool:
        return True


@contextlib.contextmanager
def working_for(output: Path) -> Iterator[Path]:
    """Yield the hidden folder in which the work for a new folder lies, beside that.

    It goes when the work is done, refused or has failed; where it was stopped, the same command
    finds it again. Raises UseError where another process is at work there.
    """
    place = output.resolve()
    work = place.parent / f".{place.name}.compress"
    _make(work)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UseError(
            f"Another process works in {work}.", "Wait for it, or choose another -o."
        ) from error
    keep = False
    try:
        yield work
    except BaseException as error:
        wrong = isinstance(error, AutomlSRError) and not isinstance(error, StopRequestedError)
        begun = (work / IDENTITY).exists()
        # Work of another command, which this one may not go on with, is not its own to remove.
        keep = begun and (not wrong or isinstance(error, OtherWorkError))
        raise
    finally:
        lock.release()
        if not keep:
            shutil.rmtree(work, ignore_errors=True)


def _make(work: Path) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UseError(f"{work} cannot be made: {error.strerror}.", "Choose another -o.") from error


class OtherWorkError(UseError):
    """The folder holds the work of another command."""


def compress(
    given: Given,
    techniques: Techniques,
    amount: Amount,
    registry: Registry,
    work: Path,
    callback: CompressCallback | None = None,
) -> Compressed:
    """Apply techniques to a finished model, and measure it before and after.

    Everything lies in `work` (see `working_for`), from where the same call goes on. Raises
    StopRequestedError after a checkpoint when a signal asks to stop, UseError for what does not
    fit, TrialError and its like where a technique fails.
    """
    following = callback or CompressCallback()
    stop = Stop(None, following.note)
    try:
        with stop.listening():
            return _compress(given, techniques, amount, registry, work, following, stop)
    except StopRequestedError as stopped:
        if stop.signal_number is None:
            raise
        raise StopRequestedError(
            "Stopped; everything done so far is kept.",
            "The same command goes on.",
            signal_number=stop.signal_number,
        ) from stopped


def _compress(
    given: Given,
    techniques: Techniques,
    amount: Amount,
    registry: Registry,
    work: Path,
    callback: CompressCallback,
    stop: Stop,
) -> Compressed:
    stored = read_weights(given.weights)
    if stored.blueprint is None:
        raise UseError(f"{given.weights} does not say which net it holds.")
    original = Pretrained(stored.blueprint, stored.tensors)
    wrong = original.misfit(registry)
    if wrong:
        raise UseError(f"{given.weights} does not hold the net that it says ({wrong}).")

    kind = given.spec.task.kind
    plan = techniques.plan(given.weights, original.blueprint, kind, registry)
    steps = _steps(given, plan, amount)
    setting = _setting(given, amount, steps, registry, work, callback)
    identity = _identity(plan, setting)
    goes_on = _has_begun(work, identity)

    folder = work / "trial"
    # What cannot be exported as it is, is told before anything is trained.
    before = _exported(original, setting, work / "before", registry)
    if not goes_on:
        verdict = Gate(setting, {}, work).check(plan, folder)
        if verdict.reason is not None:
            raise UseError(f"This cannot be done here: {verdict.reason}.")
        write_atomically(work / IDENTITY, json.dumps(identity).encode())
    callback.began(plan, steps, goes_on=goes_on)
    outcome = run_trial(plan, setting, _Watched(callback, stop.requested), folder)
    check_finite(outcome.values)
    if stop.requested():
        raise StopRequestedError("Stopped before the model was measured as it was.")

    callback.stage("evaluate the model as it was")
    context = make_context(plan, setting, work / "before")
    values = measure(before, [], setting, context, {})
    evidence = _evidence(given, plan, setting, values, outcome)
    return Compressed(outcome.artifacts, evidence)


def _steps(given: Given, plan: TrialPlan, amount: Amount) -> int:
    """Return for how many steps to train. Raises UseError for a teacher that teaches nothing."""
    steps = amount.steps
    if steps is None:
        steps = 0
        if any(_trains(technique) for technique in plan.techniques.values()):
            steps = given.steps or STEPS
    teacher = plan.techniques.get(Slot.TEACHER)
    if steps == 0 and teacher is not None and _trains(teacher):
        raise UseError(
            f"Without training there is nothing that the teacher {teacher.name!r} could teach.",
            "Write --steps N, or leave --teacher out.",
        )
    return steps


def _trains(technique: Technique) -> bool:
    """Return whether a technique does something in training."""
    cls = type(technique)
    own_phases = cls.phases is not Technique.phases
    own_steps = cls.wrap_step is not Technique.wrap_step
    return own_phases or own_steps


def _setting(
    given: Given,
    amount: Amount,
    steps: int,
    registry: Registry,
    work: Path,
    callback: CompressCallback,
) -> Setting:
    spec = given.spec
    seed = spec.search.seed
    if amount.seed is not None:
        seed = amount.seed
    options = Options(device=amount.device, threads=amount.threads)
    data = spec.task.load(seed, sharing(options))
    for text in data.notes:
        callback.note(text)
    setting = make_setting(spec, registry, Artifacts(str(work)), options, data)
    # One rung, the end: nobody is compared with anybody.
    return replace(setting, metrics=metrics_of(spec), seed=seed, steps=steps, rungs=1)


def _identity(plan: TrialPlan, setting: Setting) -> dict[str, Any]:
    """Return what has to be the same where work goes on, as it is read back from JSON."""
    identity = {
        "made_by": __version__,
        "plan": plan.fingerprint,
        "steps": setting.steps,
        "seed": setting.seed,
        "data": setting.data.fingerprint,
        "task": setting.task.model_dump(mode="json"),
        "device": setting.train_device,
    }
    found: dict[str, Any] = json.loads(json.dumps(identity))
    return found


def _has_begun(work: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether the work in a folder was begun. Raises UseError where it is another one."""
    path = work / IDENTITY
    if not path.exists():
        return False
    begun = json.loads(path.read_text(encoding="utf-8"))
    differing = [name for name, value in identity.items() if begun.get(name) != value]
    if differing:
        raise OtherWorkError(
            f"{work} holds the work of a compression that differs ({', '.join(differing)}).",
            "Repeat its command, remove that folder, or choose another -o.",
        )
    return True


def _exported(
    original: Pretrained, setting: Setting, folder: Path, registry: Registry
) -> TrainedModel:
    """Export the model as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    module = original.model(registry)
    path = folder / "model.onnx"
    export_module(module, original.blueprint, setting.task, path)
    return TrainedModel(
        module=module,
        blueprint=original.blueprint,
        task=setting.task,
        data=setting.data.train,
        state={},
        folder=folder,
        onnx=path,
    )


def _layers(outcome: Outcome) -> dict[str, Any] | None:
    """Return what became of the layers, where they could be told."""
    path = outcome.artifacts.get(LAYERS)
    if path is None:
        return None
    table = json.loads(path.read_text(encoding="utf-8"))
    found = LayersShape.of(table)
    if found is None:
        return None
    return found.model_dump()


def _evidence(
    given: Given,
    plan: TrialPlan,
    setting: Setting,
    before: Mapping[str, float],
    outcome: Outcome,
) -> dict[str, Any]:
    """Return what was done and measured, as JSON."""
    names = {}
    for slot, technique in plan.techniques.items():
        names[slot.value] = technique.name
    params = {}
    for name, value in plan.params.items():
        # Where the weights lay is of no interest: `model` says where they come from.
        if not name.startswith(Slot.ARCHITECTURE.value):
            params[name] = value
    files = {}
    for kind in ("onnx", "weights"):
        files[kind] = sha256(outcome.artifacts[kind])[0]
    device = setting.device
    return {
        "made_by": f"automl-sr {__version__}",
        "model": dict(given.about),
        "task": {"kind": setting.task.kind, **setting.task.model_dump(mode="json")},
        "data": setting.data.fingerprint,
        "techniques": names,
        "plan": params,
        "fingerprint": plan.fingerprint,
        "steps": setting.steps,
        "seed": setting.seed,
        "device": {
            "provider": device.provider,
            "threads": device.threads,
            "input": list(device.input),
        },
        "environment": environment(setting),
        "before": dict(before),
        "after": dict(outcome.values),
        "layers": _layers(outcome),
        "seconds": dict(outcome.seconds),
        "notes": list(outcome.notes),
        "sha256": files,
    }
