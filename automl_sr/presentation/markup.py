"""HTML and SVG as nested calls.

Text is escaped because it is text: only what was made here is taken as it is.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
"""What HTML cannot hold: control characters, and halves of surrogate pairs."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def el(tag: str, *children: Any, **attributes: Any) -> Markup:
    """Make an element.

    `class_` is written `class`, `data_t` as `data-t`; None and False leave an attribute out.
    """
    given = "".join(
        f" {_attribute(name)}" if value is True else f' {_attribute(name)}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    inside = ""
    if tag not in VOID:
        inside = f"{join(children)}</{tag}>"
    return Markup(f"<{tag}{given}>{inside}")


def join(parts: Iterable[Any]) -> Markup:
    """Put parts one after the other: text is escaped, lists are gone through, None is nothing."""
    return Markup("".join(_part(part) for part in parts))


def escape(value: Any) -> str:
    """Write a value as text that means nothing to HTML."""
    if isinstance(value, float):
        text = f"{value:.5g}"
    else:
        text = str(value)
    return html.escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), quote=True)


def _part(part: Any) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part
    if isinstance(part, list | tuple):
        return join(part)
    return escape(part)


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")
