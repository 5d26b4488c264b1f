"""Results shared between trials and workers: named by their content, computed once, locked while they are made."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor

from automl_sr.errors import DataError
from automl_sr.files import load_tensors, save_tensors

log = logging.getLogger(__name__)


class Cache:
    """A folder of tensors by content key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hits: list[str] = []
        self.misses: list[str] = []

    def get(
        self, name: str, parts: Mapping[str, Any], make: Callable[[Path], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Give the tensors of these parts, made at most once even when several workers ask at the same moment.

        `parts` is JSON that holds everything on which the result depends. `make` gets a folder that lives until the
        result is kept, for the checkpoints of long work.
        """
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{digest}.safetensors"
        with FileLock(self.folder / f"{digest}.lock"):
            if path.exists():
                try:
                    tensors, _ = load_tensors(path)
                except DataError as error:
                    log.warning("the cached result %r is damaged and made again: %s", name, error)
                else:
                    self.hits.append(name)
                    return tensors
            scratch = self.folder / f"{digest}.work"
            scratch.mkdir(exist_ok=True)
            made = dict(make(scratch))
            save_tensors(path, made, {"name": name, "parts": parts})
            shutil.rmtree(scratch)
            self.misses.append(name)
            return {key: value.detach().cpu() for key, value in made.items()}
