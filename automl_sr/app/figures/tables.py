"""Tables of pages, in which nothing from a store is markup."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from automl_sr.presentation.markup import Markup, el
from automl_sr.presentation.numbers import number


def table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[Any]], right: Collection[int] = ()
) -> Markup:
    """Make a table; the columns in `right` are numbers.

    Where it is too wide it can be moved, by keys too.
    """
    body = []
    for row in rows:
        body.append(
            el(
                "tr",
                [
                    el(
                        "td",
                        cell if isinstance(cell, Markup) else number(cell),
                        class_=_kind(index, right),
                    )
                    for index, cell in enumerate(row)
                ],
            )
        )
    top = el(
        "tr",
        [
            el("th", name, scope="col", class_=_kind(index, right))
            for index, name in enumerate(head)
        ],
    )
    whole = el(
        "table",
        el("caption", title) if title else None,
        el("thead", top),
        el("tbody", body),
        class_="plain",
    )
    return el("div", whole, class_="scroll", tabindex="0")


def _kind(index: int, right: Collection[int]) -> str | None:
    """Return the class of a cell: numbers stand on the right, and names at the beginning of a row
    may be broken.
    """
    if index in right:
        return "right"
    if index:
        return None
    return "name"
