"""Everything about one trial, for people and for scripts."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl_sr.search.output import (
    CurvePoint,
    Event,
    File,
    Refinement,
    RungRow,
    ShowOutput,
    TrialRow,
)

if TYPE_CHECKING:
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import (
        ArtifactRecord,
        PointRecord,
        RungRecord,
        StudyRecord,
        TrialRecord,
    )


def details(opened: Reader, study: StudyRecord, trial: TrialRecord) -> dict[str, Any]:
    """Return everything about a trial: what `show` prints."""
    from automl_sr.store.refinements import refinements

    refined = refinements(opened, study, trial.number)
    rungs = opened.rungs(study, trial.number)
    events = opened.events(study, trial.number)
    found = ShowOutput(
        study=study.name,
        **TrialRow.of(trial).model_dump(),
        costs=dict(trial.costs),
        stage_seconds=dict(trial.stage_seconds),
        shared={name: dict(entry) for name, entry in trial.shared.items()},
        stage=trial.stage,
        duplicate_of=trial.duplicate_of,
        origin=None if trial.origin is None else dict(trial.origin),
        fingerprint=trial.fingerprint,
        rungs=[_rung(row) for row in rungs],
        curve=[_point(point) for point in opened.curve(trial)],
        refinements=[Refinement.of(row, trial) for row in refined],
        artifacts=[_file(file) for file in trial.artifacts.values()],
        events=[Event(at=when(event.at), kind=event.kind, text=event.text) for event in events],
    )
    return found.model_dump()


def _rung(row: RungRecord) -> RungRow:
    return RungRow(rung=row.rung, step=row.step, values=dict(row.values), go_on=row.go_on, reason=row.reason)


def _point(point: PointRecord) -> CurvePoint:
    return CurvePoint(
        phase=point.phase,
        step=point.step,
        loss=point.loss,
        rate=point.rate,
        values=dict(point.values),
    )


def _file(file: ArtifactRecord) -> File:
    return File(kind=file.kind, url=file.url, sha256=file.sha256, bytes=file.bytes)


def shared_words(name: str, entry: Mapping[str, Any]) -> str:
    """Say what a result that trials share saved this one, or what it took to make it for the others."""
    seconds, waited = float(entry["seconds"]), float(entry.get("waited", 0.0))
    if not entry["reused"]:
        return f"{name} (made in {seconds:.1f} s)"
    waiting = f" after waiting {waited:.1f} s for it" if waited else ""
    return f"{name} (reused{waiting}, saved {max(0.0, seconds - waited):.1f} s)"


def when(seconds: float) -> str:
    """Return a moment in UTC as ISO 8601."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
