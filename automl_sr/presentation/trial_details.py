"""Everything about one trial, for people and for scripts."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.stored_layers import stored_layers
from automl_sr.search.output import (
    CurvePoint,
    Event,
    File,
    LayersShape,
    Refinement,
    RungRow,
    ShowOutput,
)

if TYPE_CHECKING:
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import StudyRecord, TrialRecord


def details(
    opened: Reader,
    study: StudyRecord,
    trial: TrialRecord,
    *,
    layers: bool = True,
) -> dict[str, Any]:
    """Return everything about a trial: what `show` prints.

    `layers` says whether the trial's file of layers is read, which may lie far away.
    """
    from automl_sr.store.refinements import refinements

    shared = {}
    for name, entry in trial.shared.items():
        shared[name] = dict(entry)
    origin = None
    if trial.origin is not None:
        origin = dict(trial.origin)
    rungs = [RungRow.of(row) for row in opened.rungs(study, trial.number)]
    curve = [CurvePoint.of(point) for point in opened.curve(trial)]
    files = [File.of(file) for file in trial.artifacts.values()]

    refined = []
    for row in refinements(opened, study, trial.number):
        refined.append(Refinement.of(row, trial))
    events = []
    for event in opened.events(study, trial.number):
        events.append(Event(at=when(event.at), kind=event.kind, text=event.text))

    found = ShowOutput.of(
        trial,
        study=study.name,
        costs=dict(trial.costs),
        stage_seconds=dict(trial.stage_seconds),
        shared=shared,
        stage=trial.stage,
        duplicate_of=trial.duplicate_of,
        origin=origin,
        fingerprint=trial.fingerprint,
        rungs=rungs,
        curve=curve,
        refinements=refined,
        artifacts=files,
        events=events,
        layers=_layers(trial, read=layers),
    )
    return found.model_dump()


def _layers(trial: TrialRecord, *, read: bool) -> LayersShape | None:
    if not read:
        return None
    return LayersShape.of(stored_layers(trial))


def shared_words(name: str, entry: Mapping[str, Any]) -> str:
    """Return what a result that trials share saved this one, or cost it for the others."""
    seconds = float(entry["seconds"])
    if not entry["reused"]:
        return f"{name} (made in {seconds:.1f} s)"
    waited = float(entry.get("waited", 0.0))
    waiting = ""
    if waited:
        waiting = f" after waiting {waited:.1f} s for it"
    # Who waited for another worker may have saved nothing.
    saved = max(0.0, seconds - waited)
    return f"{name} (reused{waiting}, saved {saved:.1f} s)"


def when(seconds: float) -> str:
    """Return a moment in UTC as ISO 8601."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
