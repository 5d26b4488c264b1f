"""Who follows a search: the command line's live view, tests, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from automl_sr.search.open_study import OpenStudy
    from automl_sr.store.records import Result
    from automl_sr.trial.types import Point


class Watcher(Protocol):
    """Told what happens, in the order in which it happens and in the worker's thread."""

    def opened(self, study: OpenStudy) -> None:
        """The study is open, and the search begins."""

    def started(self, number: int, params: Mapping[str, Any], *, resumed: bool) -> None:
        """A trial begins, or goes on."""

    def stage(self, number: int, name: str) -> None:
        """A trial enters a stage."""

    def point(self, number: int, point: Point) -> None:
        """A trial has trained on."""

    def rung(self, number: int, index: int, values: Mapping[str, float], *, go_on: bool) -> None:
        """A trial was judged at a rung."""

    def finished(self, number: int, result: Result, seconds: float) -> None:
        """A trial has ended."""

    def note(self, text: str) -> None:
        """Something to know."""


class Nobody:
    """Follows nothing."""

    def opened(self, study: OpenStudy) -> None:
        """Ignore it."""

    def started(self, number: int, params: Mapping[str, Any], *, resumed: bool) -> None:
        """Ignore it."""

    def stage(self, number: int, name: str) -> None:
        """Ignore it."""

    def point(self, number: int, point: Point) -> None:
        """Ignore it."""

    def rung(self, number: int, index: int, values: Mapping[str, float], *, go_on: bool) -> None:
        """Ignore it."""

    def finished(self, number: int, result: Result, seconds: float) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
