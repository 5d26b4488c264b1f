"""The model card, and the names of the files that lie beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl_sr.errors import UseError
from automl_sr.presentation.numbers import number

if TYPE_CHECKING:
    from automl_sr.store.records import ArtifactRecord, StudyRecord, TrialRecord
    from automl_sr.store.refinements import RefinementRecord

FILES = {"onnx": "model.onnx", "weights": "model.safetensors"}
CARD = "README.md"


def model_files(
    study: StudyRecord,
    trial: TrialRecord,
    refined: RefinementRecord | None = None,
) -> Mapping[str, ArtifactRecord]:
    """Return the files of a trial's model by kind. Raises UseError for a trial without one."""
    files = trial.artifacts
    if refined is not None:
        files = refined.artifacts
    if not files and trial.state in ("complete", "pruned"):
        raise UseError(
            f"The files of trial {trial.number} of {study.name!r} were removed by `automl-sr gc`.",
            "It keeps those of the front.",
        )
    if "onnx" in files:
        return files

    reason = ""
    if trial.reason:
        reason = f": {trial.reason}"
    hint = ""
    if trial.duplicate_of is not None:
        hint = f"Trial {trial.duplicate_of} has the same."
    raise UseError(
        f"Trial {trial.number} of {study.name!r} is {trial.state} and left no model{reason}.",
        hint,
    )


def card(
    study: StudyRecord,
    trial: TrialRecord,
    refined: RefinementRecord | None = None,
) -> str:
    """Return the model card.

    What the model is, what it was trained on, how it was measured, and where it ran.
    """
    device = study.spec["device"]
    height, width = device["input"]
    how = f"{device['provider']}, {device['threads']} thread(s), input {height}x{width}"
    longer = ""
    own: TrialRecord | RefinementRecord = trial
    if refined is not None:
        longer = ", refined"
        own = refined
    hashes = {}
    for kind, artifact in own.artifacts.items():
        hashes[FILES.get(kind, kind)] = f"sha256 {artifact.sha256}"

    sections = [
        (
            f"# {study.name}, trial {trial.number}{longer}\n\nFound and trained by automl-sr."
            " `model.onnx` is the model as it was measured; `model.safetensors` holds its weights"
            " in float."
        ),
        (
            "## Values\n\nMeasured on the exported file with ONNX Runtime on the validation set"
            f" (times: {how}).\n\n{_table(own.values, study.reference)}"
        ),
        *_refined(trial, refined),
        (
            f"## Task and data\n\n{_list(study.spec['task'])}\n\nThe test sets, if any are named,"
            " were not looked at in the search."
        ),
        f"## Plan\n\n{_list(trial.params)}",
        f"## Training\n\n{_list(_training(study, trial, refined))}",
        f"## Environment\n\n{_list(_flat(study.environment))}",
        f"## Files\n\n{_list(hashes)}",
        (
            "## Licence\n\nautoml-sr claims no rights in this model. What you may do with it also"
            " depends on the licences of the training images named above."
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _training(
    study: StudyRecord,
    trial: TrialRecord,
    refined: RefinementRecord | None,
) -> dict[str, Any]:
    search = {"steps": study.spec["budget"]["steps"], "seconds": round(trial.seconds, 1)}
    if refined is None:
        return search
    return {
        **search,
        "further steps, on all training samples": refined.steps,
        "seed of these": refined.seed,
        "seconds of these": round(refined.seconds, 1),
    }


def _refined(trial: TrialRecord, refined: RefinementRecord | None) -> list[str]:
    """Return what the search measured of the trial, and the values on the test sets."""
    if refined is None:
        return []  # the search looks at no test set
    before = {}
    for name, value in trial.values.items():
        before[name] = number(value)
    sections = [f"## Before refining\n\nWhat the search measured of this trial:\n\n{_list(before)}"]
    if not refined.tests:
        return sections

    rows = {}
    for name, values in refined.tests.items():
        rows[name] = ", ".join(f"{metric} {number(value)}" for metric, value in values.items())
    sections.append(
        f"## Test sets\n\nWhole images, measured on the exported file.\n\n{_list(rows)}"
    )
    return sections


def _table(values: Any, reference: Any) -> str:
    lines = ["| metric | this model | without a model |", "|---|---|---|"]
    for name, value in values.items():
        lines.append(f"| {name} | {number(value)} | {number(reference.get(name))} |")
    return "\n".join(lines)


def _list(values: Any) -> str:
    lines = []
    for name, value in values.items():
        lines.append(f"- {name}: {_words(value)}")
    return "\n".join(lines)


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _flat(values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found.update(_flat(value))
        else:
            found[name] = value
    return found
