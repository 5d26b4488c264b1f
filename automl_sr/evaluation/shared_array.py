"""Memory that two processes see.

Arrays pass through it, as a pipe would copy them in many small pieces.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Place = tuple[str, str, Sequence[int], int]
"""Where an array lies: its name, its type, its shape, and the byte at which it begins."""
ALIGNED = 64


def make_shared() -> int:
    """Return the descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("automl-sr-batch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedArrays:
    """The arrays of one run at a time in a file that grows as needed.

    The descriptor stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def put(self, arrays: Mapping[str, Array]) -> list[Place]:
        """Copy arrays into it, and return where they lie."""
        places: list[Place] = []
        end = 0
        for name, array in arrays.items():
            place: Place = (name, array.dtype.str, array.shape, end)
            places.append(place)
            blocks = -(-array.nbytes // ALIGNED)
            end += blocks * ALIGNED

        # The file never shrinks: views of earlier arrays would point beyond its end.
        if os.fstat(self._descriptor).st_size < end:
            os.ftruncate(self._descriptor, end)
        for place, array in zip(places, arrays.values(), strict=True):
            np.copyto(self._view(place), array)
        return places

    def views(self, places: Sequence[Place]) -> dict[str, Array]:
        """Return the arrays that are in it, until the next ones are put there."""
        arrays: dict[str, Array] = {}
        for place in places:
            name = place[0]
            arrays[name] = self._view(place)
        return arrays

    def _view(self, place: Place) -> Array:
        _, type_, shape, start = place
        dtype = np.dtype(type_)
        count = math.prod(shape)
        if count == 0:
            return np.empty(shape, dtype=dtype)  # a map of no bytes cannot be made

        end = start + count * dtype.itemsize
        if self._map is None or len(self._map) < end:
            # The other process may have made the file longer since it was mapped.
            size = os.fstat(self._descriptor).st_size
            self._map = mmap.mmap(self._descriptor, size)
        flat = np.frombuffer(self._map, dtype=dtype, count=count, offset=start)
        return flat.reshape(shape)
