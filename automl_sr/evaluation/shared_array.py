"""Memory that two processes see: batches pass through it, as a pipe would copy them in many small pieces."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def make_shared() -> int:
    """Return the descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("automl-sr-batch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedArray:
    """One float32 array at a time in a file that grows as needed; the descriptor stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def put(self, array: NDArray[Any]) -> None:
        """Copy an array into it."""
        size = 4 * array.size
        if os.fstat(self._descriptor).st_size < size:
            os.ftruncate(self._descriptor, size)
        np.copyto(self.view(array.shape), array, casting="same_kind")

    def view(self, shape: Sequence[int]) -> Array:
        """Return the array that is in it, until the next one is put there."""
        count = math.prod(shape)
        if count == 0:
            return np.empty(shape, dtype=np.float32)
        if self._map is None or len(self._map) < 4 * count:
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        return np.frombuffer(self._map, dtype=np.float32, count=count).reshape(shape)
