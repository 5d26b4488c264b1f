"""Who follows a search: the command line's live view, tests, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.search.open_study import OpenStudy
    from automl_sr.store.records import Result
    from automl_sr.trial.types import Point


class SearchCallback:
    """Told what happens, in the order in which it happens and in the worker's thread; by itself it
    follows nothing.
    """

    def opened(self, study: OpenStudy) -> None:
        """The study is open, and the search begins."""

    def started(self, number: int, params: Mapping[str, Any], *, resumed: bool) -> None:
        """A trial begins, or goes on."""

    def works(self, number: int, worker: str) -> None:
        """A trial is with this worker of several; with nobody where the name is empty."""

    def stage(self, number: int, name: str) -> None:
        """A trial enters a stage."""

    def point(self, number: int, point: Point) -> None:
        """A trial has trained on."""

    def rung(self, number: int, index: int, values: Mapping[str, float], *, go_on: bool) -> None:
        """A trial was measured at a rung, and goes on or not."""

    def finished(self, number: int, result: Result, seconds: float) -> None:
        """A trial has ended."""

    def note(self, text: str) -> None:
        """Something to know."""
