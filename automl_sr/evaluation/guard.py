"""What a file of others may take before it is ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from automl_sr.errors import UseError

MOST_THREADS = 1024
SECONDS = 600.0
"""So long one run may take unless something else is asked for."""
FIRST_SECONDS = 60.0
"""So long opening a file, or a run on a small image, may take."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Guard:
    """Keeps a file of others within bounds. Raises UseError for seconds that are no time."""

    stop: Callable[[], bool] = _never
    """Asked ten times a second: True ends the work with StopRequestedError.

    So does whatever it raises.
    """
    seconds: float = SECONDS
    """So long one run may take."""

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise UseError(
                f"A model cannot be given {self.seconds:g} seconds.",
                "Give it more than 0.",
            )

    @property
    def first_seconds(self) -> float:
        """So long opening the file, or a run on a small image, may take."""
        return min(self.seconds, FIRST_SECONDS)
