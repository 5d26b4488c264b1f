"""What a trial's file says of its layers, read from wherever it lies and kept in memory."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import StoreError
from automl_sr.store.artifacts import fetch
from automl_sr.store.records import LAYERS

if TYPE_CHECKING:
    from automl_sr.store.records import ArtifactRecord, TrialRecord

MOST_KEPT = 256


def stored_layers(trial: TrialRecord) -> dict[str, Any] | None:
    """Return what became of the layers of a trial's model; None where it left no such file.

    Where the file cannot be read now, `reason` says why and there are no layers.
    """
    record = trial.artifacts.get(LAYERS)
    if record is None:
        return None
    try:
        return _read(record)
    except (StoreError, ValueError) as error:
        return {"reason": str(error), "layers": [], "other": {}}


@functools.lru_cache(maxsize=MOST_KEPT)
def _read(record: ArtifactRecord) -> dict[str, Any]:
    """Read a file once: its content is part of its record."""
    with tempfile.TemporaryDirectory(prefix="automl-sr-") as folder:
        path = fetch(record, Path(folder) / "layers.json")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
