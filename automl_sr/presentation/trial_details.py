"""Everything about one trial, for people and for scripts."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import StudyRecord, TrialRecord


def details(opened: Reader, study: StudyRecord, trial: TrialRecord) -> dict[str, Any]:
    """Return everything about a trial as JSON."""
    from automl_sr.search.refine.choice import refinement_row
    from automl_sr.search.results import trial_row
    from automl_sr.store.refinements import refinements

    curve = opened.curve(trial)
    return {
        "study": study.name,
        **trial_row(trial),
        "costs": dict(trial.costs),
        "stage_seconds": dict(trial.stage_seconds),
        "shared": {name: dict(entry) for name, entry in trial.shared.items()},
        "stage": trial.stage,
        "duplicate_of": trial.duplicate_of,
        "origin": None if trial.origin is None else dict(trial.origin),
        "fingerprint": trial.fingerprint,
        "rungs": [
            {"rung": row.rung, "step": row.step, "values": dict(row.values), "go_on": row.go_on, "reason": row.reason}
            for row in opened.rungs(study, trial.number)
        ],
        "curve": [
            {"phase": p.phase, "step": p.step, "loss": p.loss, "rate": p.rate, "values": dict(p.values)} for p in curve
        ],
        "refinements": [refinement_row(row, trial) for row in refinements(opened, study, trial.number)],
        "artifacts": [
            {"kind": file.kind, "url": file.url, "sha256": file.sha256, "bytes": file.bytes}
            for file in trial.artifacts.values()
        ],
        "events": [
            {"at": _when(event.at), "kind": event.kind, "text": event.text}
            for event in opened.events(study, trial.number)
        ],
    }


def shared_words(name: str, entry: Mapping[str, Any]) -> str:
    """Say what a result that trials share saved this one, or what it took to make it for the others."""
    seconds, waited = float(entry["seconds"]), float(entry.get("waited", 0.0))
    if not entry["reused"]:
        return f"{name} (made in {seconds:.1f} s)"
    waiting = f" after waiting {waited:.1f} s for it" if waited else ""
    return f"{name} (reused{waiting}, saved {max(0.0, seconds - waited):.1f} s)"


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
