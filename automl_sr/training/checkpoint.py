"""Checkpoints: one safetensors file with a JSON header, written whole or not at all."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from automl_sr.errors import DataError
from automl_sr.files import load_tensors, save_tensors, sweep

log = logging.getLogger(__name__)
KEPT = 2
CHECKPOINT = "checkpoint"
"""The kind of file that a finished trial's last checkpoint is."""
CONSTANT = "constant-"


@dataclass(frozen=True)
class Snapshot:
    """Everything that a run is, as tensors and JSON.

    `constants` are tensors that never change once they are set.
    """

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    constants: dict[str, dict[str, Tensor]]


class Checkpoints:
    """The newest two checkpoints of one run, in one folder.

    Where the newest is damaged, the one before it is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)

    def save(self, snapshot: Snapshot) -> Path:
        """Write a snapshot, and forget all but the newest ones."""
        # Constants first: a checkpoint that names one which is not there cannot be read.
        for name, tensors in snapshot.constants.items():
            target = self._constant(name)
            if not target.exists():
                save_tensors(target, tensors)

        path = self.folder / f"step-{snapshot.meta['step']:09d}.safetensors"
        save_tensors(path, snapshot.tensors, snapshot.meta)
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def latest(self) -> Snapshot | None:
        """Read the newest checkpoint that is whole, or nothing if there is none."""
        for path in self._paths():
            try:
                return self._read(path)
            except (DataError, KeyError) as error:
                log.warning(
                    "checkpoint %s is damaged (%s); falling back to the one before",
                    path.name,
                    error,
                )
        return None

    def _read(self, path: Path) -> Snapshot:
        tensors, meta = load_tensors(path)
        constants = {}
        for name in meta["constants"]:
            constants[name], _ = load_tensors(self._constant(name))
        return Snapshot(tensors, meta, constants)

    def files(self) -> dict[str, Path]:
        """Return the newest checkpoint with its constants, by kind of file.

        They are kept with a finished model.
        """
        newest = self._paths()
        if not newest:
            return {}
        files = {CHECKPOINT: newest[0]}
        for path in sorted(self.folder.glob(f"{CONSTANT}*.safetensors")):
            files[f"{CHECKPOINT}-{path.stem}"] = path
        return files

    def clear(self) -> None:
        """Remove everything that was kept for a resume."""
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _constant(self, name: str) -> Path:
        return self.folder / f"{CONSTANT}{name}.safetensors"
