"""What a report consists of, whatever it is written as: sections of text, tables, charts and
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from automl_sr.presentation.markup import Markup


@dataclass(frozen=True)
class Mono:
    """A cell or word that is code: a path, a hash, a plan."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines that keep their breaks, folded away under a title."""

    title: str
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row names it. `right` are the columns of numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    right: Sequence[str] = ()
    folded: bool = False
    """Whether the table is long and only shown when asked for."""
    trials: Sequence[int] = ()
    """The trial of each row, to which marks in charts point."""
    explains: bool = False
    """Whether its rows say what the marks in charts stand for."""


@dataclass(frozen=True)
class Chart:
    """A drawing with what it shows in words; only pages have it, so it is drawn when it is
    needed.
    """

    caption: str
    draw: Callable[[], Markup]
    wide: bool = False


@dataclass(frozen=True)
class Net:
    """The drawing of a net, folded away under a title, and what it shows in words."""

    title: str
    words: str
    drawing: Markup


@dataclass(frozen=True)
class Picture:
    """One piece of an image."""

    title: str
    note: str
    uri: str
    alt: str


@dataclass(frozen=True)
class Pictures:
    """Pieces of one image side by side."""

    caption: str
    pictures: Sequence[Picture]


Block = Text | Code | Table | Chart | Net | Pictures


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)

    @property
    def anchor(self) -> str:
        """The name by which it is linked to."""
        return "-".join(self.title.lower().split())
