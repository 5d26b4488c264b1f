"""A study is opened to work on it: created with everything frozen, or resumed as it was frozen."""

from __future__ import annotations

import math
import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import get_storage

from automl_sr.errors import StoreError, UseError
from automl_sr.search.create_study import create_study
from automl_sr.search.environment import environment, training_device
from automl_sr.search.open_study import OpenStudy, Options
from automl_sr.search.optuna.samplers import make_sampler
from automl_sr.search.precision import PRECISION, check_precision, settled
from automl_sr.search.results import ORIGIN
from automl_sr.search.resume_study import resume_study, same_images, same_software, same_start
from automl_sr.search.setting import make_setting, sharing
from automl_sr.search.warm_start import project_imports, sentence
from automl_sr.search.workers.trial_folder import work_folder
from automl_sr.space.search_space import SearchSpace
from automl_sr.store.artifacts import Artifacts, default_location
from automl_sr.store.database import default_url, explained, open_engine, optuna_storage
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store
from automl_sr.study.spec import StudySpec
from automl_sr.trial.cache import cache_limit

if TYPE_CHECKING:
    from pathlib import Path

    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.task import TaskData
    from automl_sr.store.records import StudyRecord
    from automl_sr.study.spec import LoadedStudy
    from automl_sr.trial.types import Setting


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
    # To read: a mistyped place must not become a new, empty store.
    reader = Reader.open(options.store)
    reader.study(old)
    reader.close()
    return _open(loaded, registry, replace(options, warm_start=old))


def join_study(name: str, registry: Registry, options: Options) -> OpenStudy:
    """Open a study that is in the store, without its file, to work on it from here.

    Raises StoreError where it is not there or its files are out of reach, PluginError where the
    plugins are not those with which it was begun, DataError where the images are not.
    """
    cache_limit()
    # To read: a misspelt file must not become a new, empty store.
    open_engine(options.store or default_url(), write=False).dispose()
    store = Store.open(options.store)
    return store.retry(lambda: _joined(store, name, registry, options))


def _open(loaded: LoadedStudy, registry: Registry, options: Options) -> OpenStudy:
    cache_limit()  # a bad setting of the environment is told before anything is done
    spec = _with_budget(loaded.spec, options.trials, options.minutes)
    # Before anything is written: a study without images leaves nothing behind.
    data = spec.task.load(spec.search.seed, sharing(options))
    training_device(options.device)
    # A wrong URL is told at once; a database that has answered is waited for.
    store = Store.open(options.store)
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
    found = store.find_study(spec.name)
    place = _place(found, options.artifacts)
    notes = (*loaded.notes, *data.notes)

    if found is not None:
        same_start(found, options.warm_start)
        same_software(found, registry, f"rename the study in the file (name: {spec.name}-2)")
        moved = None
        if options.artifacts:
            moved = place.url
        record = resume_study(
            store, found, spec, registry, loaded.source_text, data.fingerprint, moved
        )
        setting = make_setting(spec, registry, place, options, data)
        return _opened(store, record, spec, place, setting, resumed=True, notes=notes)

    setting = make_setting(spec, registry, place, options, data)
    space = SearchSpace.resolve(spec.space, spec.task.kind, registry)
    record = create_study(
        store, spec, space, loaded.source_text, place, setting, options.warm_start
    )
    if ORIGIN in record.environment:
        notes = (*notes, sentence(record.environment[ORIGIN]))
    return _opened(store, record, spec, place, setting, resumed=False, notes=notes)


def _place(found: StudyRecord | None, asked: str | None) -> Artifacts:
    """Return where files are kept: where the person asks, else where the study keeps them."""
    if found is not None and asked is None:
        return Artifacts(found.artifacts)
    return Artifacts(asked or default_location())


def _joined(store: Store, name: str, registry: Registry, options: Options) -> OpenStudy:
    record = store.study(name)
    same_software(record, registry, "begin another study there")
    spec = StudySpec.from_json(record.spec, registry)
    data = spec.task.load(spec.search.seed, sharing(options))
    same_images(record, data.fingerprint)
    place = Artifacts(record.artifacts)
    if place.local and not work_folder(place, record.folder).is_dir():
        raise StoreError(
            f"The files of the study {name!r} lie in {place.url}, which cannot be reached from"
            " here.",
            "Mount that folder at the same place, or begin a study with --artifacts on a server"
            " (s3://BUCKET/FOLDER).",
        )
    setting = make_setting(spec, registry, place, options, data)
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
    """Put together what a worker needs."""
    space = SearchSpace.from_json(record.space, setting.registry)
    record = settled(store, record, setting.train_device)
    precision = record.environment[PRECISION]
    setting = replace(setting, precision=precision)
    emulated = check_precision(record.name, space, precision, setting.train_device)

    storage = get_storage(optuna_storage(store.engine))
    sampler = make_sampler(spec.search.sampler, spec.search.seed, space.parameters())
    with explained(store.url):
        # Optuna prunes no study of several objectives: our own scheduler decides at the rungs.
        study = optuna.load_study(
            study_name=spec.name,
            storage=storage,
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
        )
    opened = OpenStudy(
        record=record,
        spec=spec,
        space=space,
        registry=setting.registry,
        store=store,
        optuna=study,
        storage=storage,
        setting=setting,
        artifacts=place,
        folder=_made_work_folder(place, record),
        resumed=resumed,
        notes=(*notes, *emulated),
    )
    # Whoever was killed before: Optuna knows what was imported, before its sampler draws.
    project_imports(opened)
    return opened


def _made_work_folder(place: Artifacts, record: StudyRecord) -> Path:
    folder = work_folder(place, record.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "Choose another --artifacts."
        raise StoreError(f"Files cannot be kept at {place.url}: {error.strerror}.", hint) from error
    return folder


def _note_worker(study: OpenStudy) -> None:
    """Note in the store that a worker has come."""
    here = environment(study.setting)
    torch_version = here["packages"]["torch"]
    where = (
        f"{platform.node()}, {here['threads']} threads, {here['train_device']}, torch"
        f" {torch_version}"
    )
    study.store.note(study.record, "worker", where)


def _with_budget(spec: StudySpec, trials: int | None, minutes: float | None) -> StudySpec:
    """Let the command line replace the budget of the file."""
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
    budget = spec.budget.model_copy(update=changed)
    return spec.model_copy(update={"budget": budget})
