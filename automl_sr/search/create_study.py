"""A new study is frozen: its space, its precision, its environment, and what it imports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna

from automl_sr.errors import StoreError
from automl_sr.search.environment import environment
from automl_sr.search.optuna.samplers import quiet_optuna
from automl_sr.search.precision import PRECISION, check_precision
from automl_sr.search.results import ORIGIN
from automl_sr.search.resume_study import resume_study, same_start
from automl_sr.search.warm_start import TrialImporter, WarmStart, plan_warm_start, sentence
from automl_sr.store.database import creating, explained, optuna_storage
from automl_sr.store.imports import create_study_with

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from automl_sr.space.search_space import SearchSpace
    from automl_sr.store.artifacts import Artifacts
    from automl_sr.store.records import StudyRecord
    from automl_sr.store.repository import Store
    from automl_sr.study.spec import StudySpec
    from automl_sr.trial.types import Setting


def create_study(
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
    # Before anything is written: a study that cannot be trained here leaves nothing behind.
    check_precision(spec.name, space, precision, setting.train_device)

    here = {**environment(setting), PRECISION: precision, "data": setting.data.fingerprint}
    taken = None
    if old is not None:
        taken = plan_warm_start(store, old, TrialImporter(spec, space, here))
    reference = _reference(spec, setting)

    quiet_optuna()
    storage = optuna_storage(store.engine)
    with creating(store.engine), explained(store.url):
        # Looked for once more, now that nobody else can create it.
        found = store.find_study(spec.name)
        if found is not None:
            same_start(found, warm_start)
            return resume_study(
                store, found, spec, setting.registry, source, setting.data.fingerprint, None
            )

        # Optuna's study first: with ours a study is there, and others begin to work on it.
        _create_in_optuna(store, storage, spec, setting)
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


def _reference(spec: StudySpec, setting: Setting) -> dict[str, float]:
    """Measure what needs no model, for comparison."""
    quality = []
    for name in setting.metrics:
        metric = setting.registry.metric(name)
        if metric.level == "quality":
            quality.append(metric)
    return spec.task.reference(setting.data, quality)


def _create_in_optuna(
    store: Store, storage: BaseStorage, spec: StudySpec, setting: Setting
) -> None:
    """Make Optuna's study, or take the empty one that a killed process made.

    Raises StoreError for one of somebody else.
    """
    directions: list[Any] = []
    for name in spec.objectives:
        directions.append(setting.registry.metric(name).direction)
    study = optuna.create_study(
        study_name=spec.name, storage=storage, directions=directions, load_if_exists=True
    )
    if study.get_trials(deepcopy=False):
        raise StoreError(
            f"{store.name} holds an Optuna study {spec.name!r} that is not automl-sr's.",
            "Rename the study in the file.",
        )


def _write(store: Store, fields: dict[str, Any], taken: WarmStart | None) -> None:
    """Write the study, together with what it takes over."""
    if taken is None:
        store.create_study(fields)
        return
    origin = taken.to_json()
    fields["environment"][ORIGIN] = origin
    create_study_with(store, fields, taken.imports, taken.baseline, sentence(origin))
