"""Why a trial failed, in words, and when failures in a row end a search."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from automl_sr.errors import AutomlSRError, Offer, StopRequestedError
from automl_sr.plugin.foreign import one_line, text_of
from automl_sr.store.records import Result

if TYPE_CHECKING:
    from automl_sr.plugin.foreign import Mishap

MOST_FAILURES = 5
"""So many failures in a row with the same cause stop a search."""


class FailuresInARow:
    """Counts trials that fail with the same cause, one after the other.

    The rest of them would fail, too.
    """

    def __init__(self, study: str) -> None:
        self._study = study
        self._causes: list[str] = []

    def after(self, result: Result) -> AutomlSRError | None:
        """Return the error with which a search ends after this result, if it does."""
        if result.state != "failed":
            self._causes = []
            return None
        self._causes.append(cause_of(result.reason or ""))
        last = self._causes[-MOST_FAILURES:]
        if len(last) < MOST_FAILURES or len(set(last)) > 1:
            return None
        reason = (result.reason or "").rstrip(".")
        return AutomlSRError(
            f"{MOST_FAILURES} trials in a row failed with the same cause: {reason}.",
            offer=Offer("Where it happened is shown by", f"show {self._study} NUMBER", quoted=True),
        )


def failed(mishap: Mishap, reason: str = "") -> Result:
    """Return the result of a trial that did not come to its end; `reason` goes before its own."""
    return Result("failed", reason=reason or mishap.reason, detail=detail_to_keep(mishap))


def detail_to_keep(mishap: Mishap) -> str:
    """Return the traceback of what went wrong."""
    # Where a trial stood when it was asked to stop is of no interest.
    if issubclass(mishap.kind, StopRequestedError):
        return ""
    return mishap.detail


def failure_words(error: BaseException) -> str:
    """Return why a trial failed, and what helps where that is known."""
    import torch

    if not isinstance(error, torch.OutOfMemoryError):
        return one_line(error)
    # torch says: "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."
    tried = ""
    for part in text_of(error).split(". "):
        if part.startswith("Tried"):
            tried = part.removeprefix("Tried to allocate ")
            break
    wanted = ""
    if tried:
        wanted = f" ({tried} more were asked for)"
    return (
        f"the GPU has too little memory for this plan{wanted}: a smaller batch or patch needs less"
    )


def cause_of(reason: str) -> str:
    """Return what two failures with the same cause have in common: the reason without its
    numbers.
    """
    return re.sub(r"[-+]?\d[\d.,e+-]*", "#", reason)
