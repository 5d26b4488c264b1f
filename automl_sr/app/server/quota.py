"""How much is uploaded: by one visitor, and by all, in the hours for which uploads are kept."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

VISITOR_BYTES = 256 * 2**20
APP_BYTES = 1024 * 2**20
KEPT = 2 * 3600.0
"""Seconds after which an upload is surely gone: each hour those are removed that are older than
one.
"""
LEAST = 2**16
"""What an upload counts at least, so that many small ones end too."""


@dataclass(frozen=True, eq=False)
class Upload:
    """One upload, counted before any of it is taken."""

    visitor: str
    size: int
    when: float


class Quota:
    """Counts uploads."""

    def __init__(
        self,
        visitor_bytes: int = VISITOR_BYTES,
        app_bytes: int = APP_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._visitor_bytes = visitor_bytes
        self._app_bytes = app_bytes
        self._clock = clock
        self._uploads: deque[Upload] = deque()

    def take(self, visitor: str, size: int) -> Upload | str:
        """Return the upload, counted, or a sentence that says why it is refused."""
        now = self._clock()
        while self._uploads and now - self._uploads[0].when > KEPT:
            self._uploads.popleft()
        upload = Upload(visitor, max(size, LEAST), now)
        own = sum(known.size for known in self._uploads if known.visitor == visitor)
        if own + upload.size > self._visitor_bytes:
            most = self._visitor_bytes >> 20
            return (
                f"You have uploaded as much as one visitor may in two hours, {most} MB. Try again"
                " later."
            )
        if sum(known.size for known in self._uploads) + upload.size > self._app_bytes:
            most = self._app_bytes >> 20
            return (
                f"As much was uploaded as this app takes in two hours, {most} MB. Try again later."
            )
        self._uploads.append(upload)
        return upload

    def give_back(self, upload: Upload) -> None:
        """Do not count an upload of which nothing was kept."""
        with contextlib.suppress(ValueError):  # it took hours, and is forgotten
            self._uploads.remove(upload)
