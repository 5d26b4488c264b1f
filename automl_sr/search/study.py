"""A study that is open for searching: created with everything frozen, or resumed as it was frozen."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage, get_storage
from optuna.trial import TrialState, create_trial

from automl_sr import __version__
from automl_sr.errors import StoreError, UseError
from automl_sr.search.samplers import make_sampler, quiet_optuna
from automl_sr.space import SearchSpace
from automl_sr.store.artifacts import Artifacts, default_location
from automl_sr.store.database import creating, explained, optuna_storage
from automl_sr.store.repository import BASELINE_SLOT, Store
from automl_sr.study import StudySpec
from automl_sr.trial import DeviceSpec, Setting

if TYPE_CHECKING:
    from automl_sr.metric import Metric
    from automl_sr.plugins import Registry
    from automl_sr.store.records import StudyRecord
    from automl_sr.study import LoadedStudy
    from automl_sr.task import TaskData

SLOT_ATTRIBUTE = "automl_sr:slot"
FREE_TO_CHANGE = ("budget.trials", "budget.minutes", "budget.trial_minutes")
"""What may differ from the stored study when it is resumed."""


@dataclass(frozen=True)
class OpenStudy:
    """A study with everything that a worker needs."""

    record: StudyRecord
    spec: StudySpec
    space: SearchSpace
    registry: Registry
    store: Store
    optuna: optuna.study.Study
    storage: BaseStorage
    setting: Setting
    artifacts: Artifacts
    folder: Path
    """Where trials keep what a resume needs: one folder for each number."""
    resumed: bool
    notes: tuple[str, ...] = ()

    @property
    def objectives(self) -> list[Metric]:
        """The metrics that are optimised."""
        return [self.registry.metric(name) for name in self.spec.objectives]


@dataclass(frozen=True)
class Options:
    """What a person adds to a study file on the command line; `file` is how they named it, for messages."""

    store: str | None = None
    artifacts: str | None = None
    trials: int | None = None
    minutes: float | None = None
    """Like `trials`, the study's total over all resumes; both replace the file's budget."""
    device: str = "auto"
    """Where training runs: auto, cpu or cuda."""
    file: str = "STUDY.yaml"


def open_study(loaded: LoadedStudy, registry: Registry, options: Options) -> OpenStudy:
    """Create a study in a store, or resume it there.

    Raises UseError where the file is no longer that of the stored study, DataError, StoreError.
    """
    spec = _with_budget(loaded.spec, options.trials, options.minutes)
    data = spec.task.load(spec.search.seed)  # before anything is written: a study without images leaves nothing behind
    training_device(options.device)
    artifacts = options.artifacts
    opened = Store.open(options.store)
    found = opened.find_study(spec.name)
    place = Artifacts(found.artifacts if found is not None and artifacts is None else artifacts or default_location())
    record = None
    if found is not None:
        record = _resume(opened, found, spec, loaded.source_text, data.fingerprint, artifacts and place.url)
    setting = _setting(spec, registry, place, options.device, data)
    storage = optuna_storage(opened.engine)
    if record is None:
        space = SearchSpace.resolve(spec, registry)
        record = _create(opened, storage, spec, space, loaded.source_text, place, setting)
    space = SearchSpace.from_json(record.space, registry)
    wrapped = get_storage(storage)
    sampler = make_sampler(spec.search.sampler, spec.search.seed, space.parameters())
    with explained(opened.url):
        study = optuna.load_study(
            study_name=spec.name, storage=wrapped, sampler=sampler, pruner=optuna.pruners.NopPruner()
        )
    return OpenStudy(
        record=record,
        spec=spec,
        space=space,
        registry=registry,
        store=opened,
        optuna=study,
        storage=wrapped,
        setting=setting,
        artifacts=place,
        folder=_beside(place) / "work" / record.folder,
        resumed=found is not None,
        notes=(*loaded.notes, *data.notes),
    )


def _with_budget(spec: StudySpec, trials: int | None, minutes: float | None) -> StudySpec:
    changed: dict[str, Any] = {}
    if trials is not None:
        if trials < 1:
            raise UseError(f"--trials {trials} is no number of trials.", "It is the study's total, at least 1.")
        changed["trials"] = trials
    if minutes is not None:
        if not 0 < minutes < math.inf:
            raise UseError(f"--minutes {minutes:g} is no time.", "It is the study's total, above 0.")
        changed["minutes"] = minutes
    return spec.model_copy(update={"budget": spec.budget.model_copy(update=changed)})


def _beside(place: Artifacts) -> Path:
    """Give the folder in which checkpoints and shared results lie: in that of local artefacts, else `runs`."""
    return place.folder if place.folder is not None else Path("runs").resolve()


def _setting(spec: StudySpec, registry: Registry, place: Artifacts, device: str, data: TaskData) -> Setting:
    """Put together what all trials of this worker share, and fix the threads."""
    import torch

    torch.set_num_threads(spec.search.threads or _cores())
    scheduler = spec.search.scheduler
    place_of_training = training_device(device)
    return Setting(
        registry=registry,
        task=spec.task,
        data=replace(data, train=data.train.to(place_of_training)),  # once for all trials
        metrics=spec.metrics(),
        objectives=spec.objectives,
        steps=spec.budget.steps,
        rungs=1 if scheduler.kind == "none" else scheduler.rungs,
        reduction=scheduler.reduction,
        seed=spec.search.seed,
        train_device=place_of_training,
        device=DeviceSpec(spec.device.provider, spec.device.threads, spec.device.input),
        cache=_beside(place) / "cache",
        threads=torch.get_num_threads(),
    )


def training_device(asked: str) -> str:
    """Give the device on which training runs. Raises UseError for one that is not there."""
    import torch

    if asked not in ("auto", "cpu", "cuda"):
        raise UseError(f"Unknown device {asked!r}.", "Write auto, cpu or cuda.")
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UseError("There is no CUDA device that torch can use.", "Write --device cpu or --device auto.")
    return "cuda" if there and asked != "cpu" else "cpu"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _create(
    store: Store,
    storage: Any,
    spec: StudySpec,
    space: SearchSpace,
    source: str,
    place: Artifacts,
    setting: Setting,
) -> StudyRecord:
    """Freeze a study with its baseline as trial 0; one process does it, and what a killed one began is finished."""
    quality = [setting.registry.metric(name) for name in setting.metrics]
    reference = spec.task.reference(setting.data, [metric for metric in quality if metric.level == "quality"])
    quiet_optuna()
    with creating(store.engine), explained(store.url):
        found = store.find_study(spec.name)
        if found is not None:
            return _resume(store, found, spec, source, setting.data.fingerprint, None)
        directions = [setting.registry.metric(name).direction for name in spec.objectives]
        study = optuna.create_study(
            study_name=spec.name, storage=storage, directions=list(directions), load_if_exists=True
        )
        baseline = _baseline(store, study, storage, space)
        fields = {
            "name": spec.name,
            "spec": spec.to_json(),
            "space": space.to_json(),
            "source": source,
            "environment": {**environment(setting), "data": setting.data.fingerprint},
            "reference": reference,
            "artifacts": place.url,
        }
        return store.create_study(fields, baseline)


def _baseline(store: Store, study: optuna.study.Study, storage: Any, space: SearchSpace) -> tuple[int, int]:
    """Give Optuna's trial 0 with the defaults of every slot: (number, id)."""
    there = study.get_trials(deepcopy=False)
    if not there:
        template = create_trial(
            state=TrialState.RUNNING,
            user_attrs={SLOT_ATTRIBUTE: BASELINE_SLOT},
            system_attrs={"fixed_params": space.default_params()},
        )
        identity = storage.create_new_trial(storage.get_study_id_from_name(study.study_name), template)
        return 0, int(identity)
    first = there[0]
    if len(there) > 1 or first.user_attrs.get(SLOT_ATTRIBUTE) != BASELINE_SLOT:
        raise StoreError(
            f"{store.name} holds an Optuna study {study.study_name!r} that is not automl-sr's.",
            "Rename the study in the file.",
        )
    return 0, int(storage.get_trial_id_from_study_id_trial_number(study._study_id, 0))


def _resume(
    store: Store, found: StudyRecord, spec: StudySpec, source: str, data: str, artifacts: str | None
) -> StudyRecord:
    """Take up a stored study. Raises UseError with what differs, where more than the budget does."""
    differences = changes(found.spec, spec.to_json())
    real = {name: pair for name, pair in differences.items() if name not in FREE_TO_CHANGE}
    if real:
        shown = "; ".join(f"{name}: {old} is now {new}" for name, (old, new) in list(real.items())[:5])
        more = f" and {len(real) - 5} more" if len(real) > 5 else ""
        raise UseError(
            f"The study {spec.name!r} in {store.name} was begun with other settings ({shown}{more}).",
            f"Rename the study in the file (name: {spec.name}-2) to begin a new one, or put the old values back.",
        )
    if found.environment.get("data") != data:
        raise UseError(
            f"The images of the study {spec.name!r} are not those with which it was begun.",
            f"Put them back (AUTOML_SR_DATA), or rename the study in the file (name: {spec.name}-2).",
        )
    fields: dict[str, Any] = {"spec": spec.to_json(), "source": source} if differences else {}
    if artifacts is not None and artifacts != found.artifacts:
        fields["artifacts"] = artifacts
    return store.update_study(found, **fields) if fields else found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare two specifications key by key: what differs, as {"search.seed": (0, 1)}."""
    before, after = _leaves(old), _leaves(new)
    return {
        name: (before.get(name, "nothing"), after.get(name, "nothing"))
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    }


def _leaves(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def environment(setting: Setting) -> dict[str, Any]:
    """Describe what the results hang on besides the study file: versions, plugins, threads and devices."""
    import torch

    names = ("torch", "numpy", "optuna", "onnx", "onnxruntime", "onnxruntime-gpu", "scipy", "scikit-image")
    plugins = {
        source.plugin: f"{source.distribution} {source.version}".strip() for source in setting.registry.sources.values()
    }
    return {
        "automl-sr": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in names if (version := _installed(name))},
        "plugins": plugins,
        "threads": setting.threads,
        "train_device": setting.train_device,
        "gpu": torch.cuda.get_device_name() if setting.train_device == "cuda" else None,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
