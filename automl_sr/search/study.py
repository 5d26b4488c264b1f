"""A study that is open for searching: created with everything frozen, or resumed as it was
frozen.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import get_storage

from automl_sr import __version__
from automl_sr.errors import DataError, PluginError, StoreError, UseError
from automl_sr.evaluation.latency import cache_folder
from automl_sr.plugin.none import Nothing
from automl_sr.plugin.task import alone
from automl_sr.plugin.technique import Slot
from automl_sr.search.open_study import OpenStudy, Options
from automl_sr.search.optuna.samplers import make_sampler, quiet_optuna
from automl_sr.search.precision import PRECISION, check_precision, settled
from automl_sr.search.results import ORIGIN
from automl_sr.search.warm_start import (
    TrialImporter,
    WarmStart,
    plan_warm_start,
    project_imports,
    sentence,
)
from automl_sr.search.workers.trial_folder import work_folder
from automl_sr.space.search_space import SearchSpace
from automl_sr.store.artifacts import Artifacts, default_location
from automl_sr.store.database import creating, default_url, explained, open_engine, optuna_storage
from automl_sr.store.imports import create_study_with
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store
from automl_sr.study.spec import StudySpec
from automl_sr.trial.cache import Cache, cache_limit
from automl_sr.trial.types import DeviceSpec, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.task import Shared, TaskData
    from automl_sr.store.records import StudyRecord
    from automl_sr.study.spec import LoadedStudy

FREE_TO_CHANGE = ("budget.trials", "budget.minutes", "budget.trial_minutes", "budget.stall_minutes")
"""What may differ from the stored study when it is resumed."""


def open_study(loaded: LoadedStudy, registry: Registry, options: Options) -> OpenStudy:
    """Create the study of a file in a store, or resume it there, to work on it.

    Raises UseError where the file is no longer that of the stored study, DataError, StoreError.
    """
    study = _open(loaded, registry, options)
    _note_worker(study)
    return study


def fork_study(old: str, loaded: LoadedStudy, registry: Registry, options: Options) -> OpenStudy:
    """Create the study of a file with the trials of an old one that fit, without working on it.

    What a killed fork began is finished. Raises UseError where the study is there and was begun
    otherwise, or where nothing can be imported, DataError, StoreError.
    """
    reader = Reader.open(options.store)  # a mistyped place makes no new store
    reader.study(old)
    reader.close()
    return _open(loaded, registry, replace(options, warm_start=old))


def _open(loaded: LoadedStudy, registry: Registry, options: Options) -> OpenStudy:
    cache_limit()  # a bad setting of the environment is told before anything is done
    spec = _with_budget(loaded.spec, options.trials, options.minutes)
    data = spec.task.load(
        spec.search.seed, _sharing(options)
    )  # before anything is written: a study without images leaves nothing behind
    training_device(options.device)
    store = Store.open(
        options.store
    )  # a wrong URL is told at once; a database that has answered is waited for
    return store.retry(lambda: _begun_or_resumed(store, spec, data, loaded, registry, options))


def _begun_or_resumed(
    store: Store,
    spec: StudySpec,
    data: TaskData,
    loaded: LoadedStudy,
    registry: Registry,
    options: Options,
) -> OpenStudy:
    """Create the study, or go on with it; done twice it is as if it were done once."""
    asked = options.artifacts
    found = store.find_study(spec.name)
    place = Artifacts(
        found.artifacts if found is not None and asked is None else asked or default_location()
    )
    if found is not None:
        _same_start(found, options.warm_start)
        _same_software(found, registry, f"rename the study in the file (name: {spec.name}-2)")
        record = _resume(
            store, found, spec, registry, loaded.source_text, data.fingerprint, asked and place.url
        )
    setting = _setting(spec, registry, place, options, data)
    notes = (*loaded.notes, *data.notes)
    if found is None:
        space = SearchSpace.resolve(spec.space, spec.task.kind, registry)
        record = _create(store, spec, space, loaded.source_text, place, setting, options.warm_start)
        if ORIGIN in record.environment:
            notes = (*notes, sentence(record.environment[ORIGIN]))
    return _opened(store, record, spec, place, setting, resumed=found is not None, notes=notes)


def join_study(name: str, registry: Registry, options: Options) -> OpenStudy:
    """Open a study that is in the store, without its file, to work on it from here.

    Raises StoreError where it is not there or its files are out of reach, PluginError where the
    plugins are not those with which it was begun, DataError where the images are not.
    """
    cache_limit()
    open_engine(
        options.store or default_url(), write=False
    ).dispose()  # a misspelt file is not made
    store = Store.open(options.store)
    return store.retry(lambda: _joined(store, name, registry, options))


def _joined(store: Store, name: str, registry: Registry, options: Options) -> OpenStudy:
    record = store.study(name)
    _same_software(record, registry, "begin another study there")
    spec = StudySpec.from_json(record.spec, registry)
    data = spec.task.load(spec.search.seed, _sharing(options))
    _same_images(record, data.fingerprint)
    place = Artifacts(record.artifacts)
    if place.local and not work_folder(place, record.folder).is_dir():
        raise StoreError(
            f"The files of the study {name!r} lie in {place.url}, which cannot be reached from"
            " here.",
            "Mount that folder at the same place, or begin a study with --artifacts on a server"
            " (s3://BUCKET/FOLDER).",
        )
    setting = _setting(spec, registry, place, options, data)
    study = _opened(store, record, spec, place, setting, resumed=True, notes=data.notes)
    _note_worker(study)
    return study


def _opened(
    store: Store,
    record: StudyRecord,
    spec: StudySpec,
    place: Artifacts,
    setting: Setting,
    *,
    resumed: bool,
    notes: tuple[str, ...],
) -> OpenStudy:
    """Put together what a worker needs; Optuna knows what was imported then, whoever was killed
    before.
    """
    space = SearchSpace.from_json(record.space, setting.registry)
    record = settled(store, record, setting.train_device)
    setting = replace(setting, precision=record.environment[PRECISION])
    emulated = check_precision(record.name, space, setting.precision, setting.train_device)
    wrapped = get_storage(optuna_storage(store.engine))
    sampler = make_sampler(spec.search.sampler, spec.search.seed, space.parameters())
    with explained(store.url):
        study = optuna.load_study(
            study_name=spec.name,
            storage=wrapped,
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
        )
    folder = work_folder(place, record.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "Choose another --artifacts."
        raise StoreError(f"Files cannot be kept at {place.url}: {error.strerror}.", hint) from error
    opened = OpenStudy(
        record=record,
        spec=spec,
        space=space,
        registry=setting.registry,
        store=store,
        optuna=study,
        storage=wrapped,
        setting=setting,
        artifacts=place,
        folder=folder,
        resumed=resumed,
        notes=(*notes, *emulated),
    )
    project_imports(opened)
    return opened


def _note_worker(study: OpenStudy) -> None:
    """Note in the store that a worker has come."""
    here = environment(study.setting)
    where = (
        f"{platform.node()}, {here['threads']} threads, {here['train_device']}, torch"
        f" {here['packages']['torch']}"
    )
    study.store.note(study.record, "worker", where)


def _with_budget(spec: StudySpec, trials: int | None, minutes: float | None) -> StudySpec:
    changed: dict[str, Any] = {}
    if trials is not None:
        if trials < 1:
            raise UseError(
                f"--trials {trials} is no number of trials.", "It is the study's total, at least 1."
            )
        changed["trials"] = trials
    if minutes is not None:
        if not 0 < minutes < math.inf:
            raise UseError(
                f"--minutes {minutes:g} is no time.", "It is the study's total, above 0."
            )
        changed["minutes"] = minutes
    return spec.model_copy(update={"budget": spec.budget.model_copy(update=changed)})


def _sharing(options: Options) -> Shared:
    """Keep what is made of images alone in the user's cache folder: for the workers and studies of
    this machine.
    """
    cache = Cache(cache_folder() / "shared")
    if options.no_cache:
        return alone

    def shared(
        name: str, parts: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        return cache.get(name, {"automl-sr": __version__, **parts}, lambda _: make())

    return shared


def _setting(
    spec: StudySpec, registry: Registry, place: Artifacts, options: Options, data: TaskData
) -> Setting:
    """Put together what all trials of this worker share, and fix the threads and kernels."""
    import torch

    from automl_sr.training.randomness import plain_torch, repeat_kernels

    plain_torch()
    torch.set_num_threads(options.threads or spec.search.threads or cores())
    scheduler = spec.search.scheduler
    place_of_training = training_device(options.device)
    repeat_kernels(place_of_training)
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
        cache=None if options.no_cache else place.beside / "cache",
        threads=torch.get_num_threads(),
        first_rung=scheduler.first,
    )


def training_device(asked: str) -> str:
    """Return the device on which training runs. Raises UseError for one that is not there."""
    import torch

    if asked not in ("auto", "cpu", "cuda"):
        raise UseError(f"Unknown device {asked!r}.", "Write auto, cpu or cuda.")
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UseError(
            "There is no CUDA device that torch can use.", "Write --device cpu or --device auto."
        )
    if there and asked != "cpu":
        return "cuda"
    return "cpu"


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _create(
    store: Store,
    spec: StudySpec,
    space: SearchSpace,
    source: str,
    place: Artifacts,
    setting: Setting,
    warm_start: str | None,
) -> StudyRecord:
    """Freeze a study with the trials that it imports, or else with its baseline as trial 0.

    One process does it, and what a killed one began is finished.
    """
    old = None
    if warm_start is not None:
        old = store.study(warm_start)
    precision = _first_precision(old, setting.train_device)
    check_precision(spec.name, space, precision, setting.train_device)  # before anything is written
    here = {**environment(setting), PRECISION: precision, "data": setting.data.fingerprint}
    taken = None
    if old is not None:
        taken = plan_warm_start(store, old, TrialImporter(spec, space, here))
    quality = []
    for name in setting.metrics:
        quality.append(setting.registry.metric(name))
    reference = spec.task.reference(
        setting.data, [metric for metric in quality if metric.level == "quality"]
    )
    quiet_optuna()
    storage = optuna_storage(store.engine)
    with creating(store.engine), explained(store.url):
        found = store.find_study(spec.name)
        if found is not None:
            _same_start(found, warm_start)
            return _resume(
                store, found, spec, setting.registry, source, setting.data.fingerprint, None
            )
        directions = []
        for name in spec.objectives:
            directions.append(setting.registry.metric(name).direction)
        study = optuna.create_study(
            study_name=spec.name, storage=storage, directions=list(directions), load_if_exists=True
        )
        if study.get_trials(deepcopy=False):
            raise StoreError(
                f"{store.name} holds an Optuna study {spec.name!r} that is not automl-sr's.",
                "Rename the study in the file.",
            )
        fields = {
            "name": spec.name,
            "spec": spec.to_json(),
            "space": space.to_json(),
            "source": source,
            "environment": here,
            "reference": reference,
            "artifacts": place.url,
        }
        _write(store, fields, taken)
        return store.study(spec.name)


def _first_precision(old: StudyRecord | None, device: str) -> str:
    """Say what `auto` means in a new study: as in the one that it takes over, or what suits
    here.
    """
    from automl_sr.training.precision import own_format

    inherited = None
    if old is not None:
        inherited = old.environment.get(PRECISION)
    return str(inherited or own_format(device))


def _write(store: Store, fields: dict[str, Any], taken: WarmStart | None) -> None:
    if taken is None:
        store.create_study(fields)
        return
    origin = taken.to_json()
    fields["environment"][ORIGIN] = origin
    create_study_with(store, fields, taken.imports, taken.baseline, sentence(origin))


def _same_start(found: StudyRecord, warm_start: str | None) -> None:
    """Refuse to begin a study with the trials of another one that has begun otherwise.

    Raises UseError.
    """
    began = found.environment.get(ORIGIN, {}).get("study")
    if warm_start is not None and began != warm_start:
        how = "without those of another one"
        if began is not None:
            how = f"with those of {began!r}"
        raise UseError(
            f"The study {found.name!r} cannot be begun with the trials of {warm_start!r}: it is"
            f" there, begun {how}.",
            f"Rename the study in the file (name: {found.name}-2) to begin a new one.",
        )


def _resume(
    store: Store,
    found: StudyRecord,
    spec: StudySpec,
    registry: Registry,
    source: str,
    data: str,
    artifacts: str | None,
) -> StudyRecord:
    """Take up a stored study.

    Raises UseError with what differs, where more than the budget does.
    """
    # Read anew, so that a key which an older version did not know has its default.
    differences = changes(StudySpec.from_json(found.spec, registry).to_json(), spec.to_json())
    real = {}
    for name, pair in differences.items():
        if name not in FREE_TO_CHANGE:
            real[name] = pair
    if real:
        shown = "; ".join(
            f"{name}: {old} is now {new}" for name, (old, new) in list(real.items())[:5]
        )
        more = ""
        if len(real) > 5:
            more = f" and {len(real) - 5} more"
        raise UseError(
            f"The study {spec.name!r} in {store.name} was begun with other settings"
            f" ({shown}{more}).",
            f"Rename the study in the file (name: {spec.name}-2) to begin a new one, or put the old"
            f" values back.{_fork_offer(found, real)}",
        )
    _same_images(found, data)
    fields: dict[str, Any] = {"spec": spec.to_json(), "source": source} if differences else {}
    if artifacts is not None and artifacts != found.artifacts:
        fields["artifacts"] = artifacts
    if fields:
        store.update_study(found, fields)
    return store.study(spec.name)


def _fork_offer(found: StudyRecord, differences: Mapping[str, Any]) -> str:
    """Offer to take the old trials along, where what has changed leaves their results as they
    are.
    """
    if any(name.startswith(("task.", "budget.steps")) for name in differences):
        return ""
    return (
        f" After renaming, `automl-sr fork {found.name} STUDY.yaml` lets the new one begin with the"
        " old trials."
    )


def _same_images(study: StudyRecord, fingerprint: str) -> None:
    if study.environment.get("data") != fingerprint:
        raise DataError(
            f"The images of the study {study.name!r} are not those with which it was begun.",
            f"Put them back (AUTOML_SR_DATA), or begin another study (name: {study.name}-2).",
        )


def _same_software(study: StudyRecord, registry: Registry, instead: str) -> None:
    """Refuse plugins of other versions than those with which a study was begun.

    Raises PluginError.
    """
    began = {**study.environment["plugins"], "automl-sr": study.environment["automl-sr"]}
    here = {**plugin_versions(registry), "automl-sr": __version__}
    used = {"automl-sr", *_plugins_of(study, registry)}
    other = []
    for name in sorted(used):
        if began.get(name) != here.get(name):
            other.append(name)
    if other:
        shown = "; ".join(
            f"{name}: {began.get(name, 'none')} there, {here.get(name, 'none')} here"
            for name in other
        )
        raise PluginError(
            f"The study {study.name!r} was begun with other versions ({shown}), so trials would not"
            " compare.",
            f"Install those, or {instead}.",
        )


def _plugins_of(study: StudyRecord, registry: Registry) -> set[str]:
    """Name the plugins of the techniques that a study can choose; one that is missing is refused
    elsewhere.

    Core's `none` is no plugin's: it is of core's version, which is compared by itself.
    """
    found = set()
    for slot in study.space["slots"]:
        known = registry.techniques[Slot(slot["slot"])]
        for option in slot["options"]:
            cls = known.get(option["technique"])
            if cls is not None and not issubclass(cls, Nothing):
                found.add(registry.source(cls).plugin)
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare two specifications key by key: what differs, as {"search.seed": (0, 1)}."""
    before, after = _leaves(old), _leaves(new)
    found: dict[str, tuple[Any, Any]] = {}
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            found[name] = (before.get(name, "nothing"), after.get(name, "nothing"))
    return found


def _leaves(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def environment(setting: Setting) -> dict[str, Any]:
    """Describe what the results hang on besides the study file: versions, plugins, threads and
    devices.
    """
    import torch

    names = (
        "torch",
        "numpy",
        "optuna",
        "onnx",
        "onnxruntime",
        "onnxruntime-gpu",
        "scipy",
        "scikit-image",
    )
    return {
        "automl-sr": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in names if (version := _installed(name))},
        "plugins": plugin_versions(setting.registry),
        "threads": setting.threads,
        "train_device": setting.train_device,
        "gpu": torch.cuda.get_device_name() if setting.train_device == "cuda" else None,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def plugin_versions(registry: Registry) -> dict[str, str]:
    """Return the distribution and version of every plugin."""
    found: dict[str, str] = {}
    for source in registry.sources.values():
        found[source.plugin] = f"{source.distribution} {source.version}".strip()
    return found


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
