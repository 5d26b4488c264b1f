"""What all trials of a worker share, and the threads and kernels of its process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from automl_sr import __version__
from automl_sr.evaluation.latency import cache_folder
from automl_sr.plugin.task import alone
from automl_sr.search.environment import cores, training_device
from automl_sr.trial.cache import Cache
from automl_sr.trial.types import DeviceSpec, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.task import Shared, TaskData
    from automl_sr.search.open_study import Options
    from automl_sr.store.artifacts import Artifacts
    from automl_sr.study.spec import StudySpec


def make_setting(
    spec: StudySpec, registry: Registry, place: Artifacts, options: Options, data: TaskData
) -> Setting:
    """Put together what all trials of this worker share, and fix the threads and kernels."""
    import torch

    from automl_sr.training.randomness import plain_torch, repeat_kernels

    plain_torch()
    torch.set_num_threads(options.threads or spec.search.threads or cores())
    device = training_device(options.device)
    repeat_kernels(device)

    scheduler = spec.search.scheduler
    rungs = scheduler.rungs
    if scheduler.kind == "none":
        rungs = 1  # the end of training alone
    cache = place.beside / "cache"
    return Setting(
        registry=registry,
        task=spec.task,
        # Moved to where training runs once for all trials.
        data=replace(data, train=data.train.to(device)),
        metrics=spec.metrics(),
        objectives=spec.objectives,
        steps=spec.budget.steps,
        rungs=rungs,
        reduction=scheduler.reduction,
        seed=spec.search.seed,
        train_device=device,
        device=DeviceSpec(spec.device.provider, spec.device.threads, spec.device.input),
        cache=None if options.no_cache else cache,
        threads=torch.get_num_threads(),
        first_rung=scheduler.first,
    )


def sharing(options: Options) -> Shared:
    """Return what keeps data made of images alone in the user's cache folder.

    All workers and studies of this machine take it from there.
    """
    if options.no_cache:
        return alone
    cache = Cache(cache_folder() / "shared")

    def shared(
        name: str, parts: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        # Another version of automl-sr may make something else of the same parts.
        return cache.get(name, {"automl-sr": __version__, **parts}, lambda _: make())

    return shared
