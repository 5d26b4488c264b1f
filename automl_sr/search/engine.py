"""`search` from beginning to end: open the study, let a worker run it, give what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl_sr.errors import AutomlSRError, Offer, StopRequestedError
from automl_sr.search.open_study import OpenStudy, Options
from automl_sr.search.results import summary
from automl_sr.search.study import join_study, open_study
from automl_sr.search.workers.callbacks import SearchCallback
from automl_sr.search.workers.stop_signal import Stop
from automl_sr.search.workers.worker import ExhaustedError, Worker
from automl_sr.store.leases import LeaseHeartbeat
from automl_sr.trial.run import run_trial

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.search.workers.worker import RunTrial
    from automl_sr.study.spec import LoadedStudy

__all__ = ["Options", "SearchEnd", "join_study", "open_study", "search", "work"]


@dataclass(frozen=True)
class SearchEnd:
    """How a search ended: the JSON of `search`, a sentence, and the error that the command ends
    with, if any.
    """

    summary: dict[str, Any]
    reference: dict[str, float]
    artifacts: str
    note: str = ""
    error: AutomlSRError | None = None


def search(
    loaded: LoadedStudy,
    registry: Registry,
    options: Options | None = None,
    *,
    run: RunTrial = run_trial,
    callback: SearchCallback | None = None,
) -> SearchEnd:
    """Search a study until its budget is spent, its time is up, or Ctrl-C; another call goes on
    with it.

    `run` replaces the training of a trial: it gets plan, setting, observer and folder and gives an
    Outcome (tests and simulations use it). Raises UseError, DataError, StoreError before anything
    runs; how a search that ran ended stands in `SearchEnd`.
    """
    options = options or Options()
    study = open_study(loaded, registry, options)
    return work(study, options, run=run, callback=callback)


def work(
    study: OpenStudy,
    options: Options,
    *,
    run: RunTrial = run_trial,
    callback: SearchCallback | None = None,
) -> SearchEnd:
    """Work on an open study until its budget is spent, its time is up, or a signal comes; closes
    its store.
    """
    watching = callback or SearchCallback()
    store = study.store
    try:
        used = store.begin_activity(study.record)
        left = None
        if study.spec.budget.minutes is not None:
            left = 60 * study.spec.budget.minutes - used
        stop = Stop(left, watching.note)
        worker = Worker(study, run, callback=watching, stop=stop)
        watching.opened(study)
        # In a thread: the study's clock goes on between two trials too, when no lease is renewed.
        clock = LeaseHeartbeat(lambda: store.tick(study.record) >= 0, every=store.renewal)
        with stop.listening(), clock.running():
            worker.work()
        store.end_activity(study.record)
        return _end(study, worker, stop, options.file)
    finally:
        store.close()


def _end(study: OpenStudy, worker: Worker, stop: Stop, file: str) -> SearchEnd:
    """Say how a search ended: a signal comes before everything else, then the worker's error."""
    found = summary(study.store, study.spec.name, study.registry.metrics)
    running = found["trials"]["running"]
    note = ""
    error = worker.error
    if stop.signal_number is not None:
        hint = f"Go on with: automl-sr search {file}"
        error = StopRequestedError(
            "Stopped; everything done so far is kept.", hint, signal_number=stop.signal_number
        )
    elif isinstance(error, ExhaustedError):
        note = str(error)
        # A finite space that has been tried through is an end like any other, if it gave a front.
        if found["front"]:
            error = None
    elif error is None and (stop.requested() or worker.short_of_time):
        note = "The time that is left is too short for another trial."
        if stop.requested():
            note = "The time is up."
        if running:
            note += " A trial is half-way and goes on when the time is raised."
    elif error is None and running:
        note = f"{running} of its trials are with other workers, or were left by one that has died."
    elif error is None and not found["front"] and found["trials"]["failed"]:
        offer = Offer("See why with:", f"trials {study.spec.name}")
        error = AutomlSRError("No trial was completed.", offer=offer)
    place = f"{study.artifacts.url}/{study.record.folder}"
    return SearchEnd(found, dict(study.record.reference), place, note, error)
