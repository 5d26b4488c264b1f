"""A search by several workers on this machine, followed through the store, and what one of them
does alone.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from automl_sr.errors import AutomlSRError, StopRequestedError
from automl_sr.search.engine import SearchEnd
from automl_sr.search.environment import cores
from automl_sr.search.open_study import OpenStudy, Options
from automl_sr.search.results import summary
from automl_sr.search.study import open_study
from automl_sr.search.workers.callbacks import SearchCallback
from automl_sr.search.workers.store_monitor import StoreMonitor
from automl_sr.search.workers.supervisor import Supervisor
from automl_sr.store.database import anchored

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.study.spec import LoadedStudy

PROGRAM = (sys.executable, "-m", "automl_sr", "worker")


def search_together(
    loaded: LoadedStudy,
    registry: Registry,
    options: Options,
    workers: int,
    *,
    callback: SearchCallback,
    program: Sequence[str] = PROGRAM,
) -> SearchEnd:
    """Search a study with so many processes until its budget is spent, its time is up, or Ctrl-C.

    The cores are divided between them, unless the study fixes the threads of training; each gets a
    GPU where there are any. Workers elsewhere may join. Raises UseError, DataError, StoreError
    before a process is started.
    """
    share = max(1, cores() // workers)
    threads = options.threads or loaded.spec.search.threads or share
    # Opened here first: what is wrong is told before a process is started.
    study = open_study(loaded, registry, dataclasses.replace(options, threads=threads))
    try:
        monitor = StoreMonitor(study, callback, _stall_seconds(study))
        supervisor = Supervisor(
            _command(program, study, options, threads),
            environments(study, workers, threads),
            look=monitor.look,
            say=callback.note,
        )
        callback.opened(study)
        callback.note(f"{workers} workers start, each with {_counted(threads)}")
        supervisor.run()
        return _end(study, supervisor)
    finally:
        study.store.close()


def _command(program: Sequence[str], study: OpenStudy, options: Options, threads: int) -> list[str]:
    """Return the command line of a worker."""
    command = [
        *program,
        study.spec.name,
        "--attended",
        "--device",
        options.device,
        "--threads",
        str(threads),
    ]
    if options.no_cache:
        command.append("--no-cache")
    return command


def _counted(threads: int) -> str:
    if threads == 1:
        return "1 thread"
    return f"{threads} threads"


def environments(study: OpenStudy, workers: int, threads: int) -> list[dict[str, str]]:
    """Return the environment of each worker, with the store's URL and a GPU of its own."""
    common = {
        **os.environ,
        # Not on the command line, which `ps` shows to everybody: it may hold a password.
        "AUTOML_SR_STORE": anchored(study.store.url),
        "AUTOML_SR_ARTIFACTS": study.artifacts.url,
        "OMP_NUM_THREADS": str(threads),
    }
    devices: list[str] = []
    if study.setting.train_device.startswith("cuda"):
        devices = gpus()
    found = []
    for index in range(workers):
        own = dict(common)
        if devices:  # where there are more workers than GPUs, they share them
            own["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
        found.append(own)
    return found


def gpus() -> list[str]:
    """Name the GPUs that this process may use, as CUDA_VISIBLE_DEVICES does."""
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given:
        names = [name.strip() for name in given.split(",")]
    else:
        names = [str(index) for index in range(count)]
    return names[:count]


def _stall_seconds(study: OpenStudy) -> float:
    """Return the seconds in which a worker ends its trial by itself, or others take it over."""
    # Its own watchdog comes first, then the end of its lease, and only then the supervisor.
    return 60 * study.spec.budget.stall_minutes + 2 * study.store.lease


def _end(study: OpenStudy, supervisor: Supervisor) -> SearchEnd:
    error: AutomlSRError | None = supervisor.error
    if supervisor.stop.signal_number is not None:
        error = StopRequestedError(
            "Stopped; everything done so far is kept.", signal_number=supervisor.stop.signal_number
        )
    note = ""
    if error is None:
        note = supervisor.note
    found = summary(study.store, study.spec.name, study.registry.metrics)
    place = f"{study.artifacts.url}/{study.record.folder}"
    return SearchEnd(found, dict(study.record.reference), place, note, error)
