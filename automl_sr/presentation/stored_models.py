"""The exported models of a study, copied from wherever its files lie, each at most once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from automl_sr.errors import DataError
from automl_sr.store.artifacts import fetch

if TYPE_CHECKING:
    from automl_sr.store.records import TrialRecord


class StoredModels:
    """A temporary folder of ONNX files by trial; it is gone when the report is made."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="automl-sr-report-")
        self._paths: dict[int, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def path(self, trial: TrialRecord) -> Path:
        """Return the ONNX file of a trial.

        Raises StoreError where it is gone or altered, DataError for none.
        """
        if trial.number not in self._paths:
            if "onnx" not in trial.artifacts:
                raise DataError(f"Trial {trial.number} left no ONNX file.")
            target = Path(self._folder.name) / f"{trial.number}.onnx"
            self._paths[trial.number] = fetch(trial.artifacts["onnx"], target)
        return self._paths[trial.number]
