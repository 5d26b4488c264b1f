"""Tables of pages, in which nothing from a store is markup."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from automl_sr.presentation.markup import Markup, el
from automl_sr.presentation.numbers import number


def table(
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    right: Collection[int] = (),
) -> Markup:
    """Return a table; the columns in `right` are numbers."""
    heads = []
    for index, name in enumerate(head):
        heads.append(el("th", name, scope="col", class_=_kind(index, right)))
    body = []
    for row in rows:
        cells = []
        for index, cell in enumerate(row):
            # Only what was made here is markup; everything from a store is text.
            shown = cell
            if not isinstance(cell, Markup):
                shown = number(cell)
            cells.append(el("td", shown, class_=_kind(index, right)))
        body.append(el("tr", cells))
    caption = None
    if title:
        caption = el("caption", title)
    top = el("thead", el("tr", heads))
    whole = el("table", caption, top, el("tbody", body), class_="plain")
    # Where it is too wide it can be moved, by keys too.
    return el("div", whole, class_="scroll", tabindex="0")


def _kind(index: int, right: Collection[int]) -> str | None:
    """Return the class of a cell: numbers stand on the right, names at the left may be broken."""
    if index in right:
        return "right"
    if index == 0:
        return "name"
    return None
