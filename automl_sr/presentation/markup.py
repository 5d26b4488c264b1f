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
    """Return an element.

    `class_` is written `class`, `data_t` as `data-t`; None and False leave an attribute out.
    """
    given = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        if value is True:  # an attribute without a value, such as `checked`
            given.append(f" {_attribute(name)}")
        else:
            given.append(f' {_attribute(name)}="{escape(value)}"')
    opening = f"<{tag}{''.join(given)}>"
    if tag in VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(children)}</{tag}>")


def join(parts: Iterable[Any]) -> Markup:
    """Return parts one after the other; text is escaped.

    Lists are gone through, None is nothing.
    """
    return Markup("".join(map(_part, parts)))


def escape(value: Any) -> str:
    """Return a value as text that means nothing to HTML."""
    text = str(value)
    if isinstance(value, float):
        text = f"{value:.5g}"
    cleaned = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    # Quotes as well, because attributes are written with the same function.
    return html.escape(cleaned, quote=True)


def _part(part: Any) -> str:
    if part is None:
        return ""
    # Before the last line, which would escape what is markup already: it is a str too.
    if isinstance(part, Markup):
        return part
    if isinstance(part, list | tuple):
        return join(part)
    return escape(part)


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")
