"""Checkpoints: one safetensors file with a JSON header, written whole or not at all."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from automl_sr.errors import CheckpointError

log = logging.getLogger(__name__)
KEPT = 2
TEMPORARY = ".partial"


@dataclass(frozen=True)
class Snapshot:
    """Everything that a run is, as tensors and JSON; `constants` are tensors that never change once they are set."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    constants: dict[str, dict[str, Tensor]]


class Checkpoints:
    """The checkpoints of one run in one folder: the newest two, so that a damaged one falls back to the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"*{TEMPORARY}*"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)

    def save(self, snapshot: Snapshot) -> Path:
        """Write a snapshot, and forget all but the newest ones."""
        for name, tensors in snapshot.constants.items():
            target = self._constant(name)
            if not target.exists():
                write_tensors(target, tensors, {})
        path = self.folder / f"step-{snapshot.meta['step']:09d}.safetensors"
        write_tensors(path, snapshot.tensors, {"run": json.dumps(snapshot.meta)})
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def latest(self) -> Snapshot | None:
        """Read the newest checkpoint that is whole, or nothing if there is none."""
        for path in self._paths():
            try:
                tensors, header = read_tensors(path)
                meta = json.loads(header["run"])
                constants = {name: read_tensors(self._constant(name))[0] for name in meta["constants"]}
            except (CheckpointError, KeyError, ValueError) as error:
                log.warning("checkpoint %s is damaged (%s); falling back to the one before", path.name, error)
                continue
            return Snapshot(tensors, meta, constants)
        return None

    def clear(self) -> None:
        """Remove everything that was kept for a resume."""
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _constant(self, name: str) -> Path:
        return self.folder / f"constant-{name}.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors to a temporary file, force it to disk and rename it; strided ones are made contiguous."""
    temporary = path.with_name(f"{path.name}{TEMPORARY}-{os.getpid()}")
    plain = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(plain, temporary, dict(header))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and header. Raises CheckpointError where the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
