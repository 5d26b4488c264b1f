"""Who follows refinements: the command line, tests, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from automl_sr.search.workers.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from automl_sr.search.open_study import OpenStudy
    from automl_sr.store.refinements import RefinementClaim, RefinementResult
    from automl_sr.trial.types import Point


class RefineCallback:
    """Told what happens, in the order in which it happens; by itself it follows nothing."""

    def opened(self, study: OpenStudy, count: int) -> None:
        """The study is open, and so many refinements are asked for."""

    def started(self, claim: RefinementClaim) -> None:
        """A refinement begins, or goes on."""

    def stage(self, claim: RefinementClaim, name: str) -> None:
        """A refinement enters a stage."""

    def point(self, claim: RefinementClaim, point: Point) -> None:
        """A refinement has trained on."""

    def finished(self, claim: RefinementClaim, result: RefinementResult, seconds: float) -> None:
        """A refinement has ended."""

    def note(self, text: str) -> None:
        """Something to know."""


class RefineReporter(Reporter):
    """Passes on what a refinement reports; its curve is not stored, as the store's curves are those
    of the search.
    """

    def __init__(
        self,
        claim: RefinementClaim,
        callback: RefineCallback,
        *,
        stop: Callable[[], bool],
        alive: Callable[[str], None],
    ) -> None:
        super().__init__(stop, alive)
        self._claim = claim
        self._callback = callback

    def stage(self, name: str) -> None:
        """Show where the refinement is."""
        self._alive(name)
        self._callback.stage(self._claim, name)

    def point(self, point: Point) -> None:
        """Show how training goes."""
        self._alive("")
        self._callback.point(self._claim, point)

    def saved(self) -> None:
        """Note the progress."""
        self._alive("")

    def rung(
        self, index: int, step: int, values: Mapping[str, float], artifacts: Mapping[str, Path]
    ) -> bool:
        """Let it go on: nobody is judged here."""
        return True
