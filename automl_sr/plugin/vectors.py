"""How many places a vector field has, and which of them are used: numbers, or functions of other
fields.

Such a function is a static method of the technique. What its parameters are called says which
fields it reads, so that these are asked first: `def edges(nodes: int) -> int`. One that says
whether a place is used reads `place` besides, and may read the vector itself as far as the places
before this one are known.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.plugin.technique import Each

PLACE = "place"
"""The parameter that gets the number of the place, from 0."""


def named(owner: type, name: str) -> Callable[..., Any] | None:
    """Return the function of a technique's class that has this name, or nothing where it has
    none.
    """
    found = inspect.getattr_static(owner, name, None)
    if isinstance(found, staticmethod):
        return found.__func__
    return None


def reads(owner: type, name: str) -> tuple[str, ...]:
    """Return what a function of a technique reads: names of fields, `place` among them."""
    function = named(owner, name)
    if function is None:
        return ()
    return tuple(inspect.signature(function).parameters)


def decided_by(owner: type, field: str, each: Each) -> set[str]:
    """Return the names of the other fields that have to be known before a vector is asked."""
    fields: set[str] = set()
    if isinstance(each.count, str):
        fields |= set(reads(owner, each.count)) or {each.count}
    if each.used is not None:
        fields |= set(reads(owner, each.used)) - {PLACE, field}
    return fields


def places(owner: type, each: Each, known: Mapping[str, Any]) -> int:
    """Return the number of places of a vector, from 0 to its maximum, given the fields that decide
    it.
    """
    if isinstance(each.count, int):
        count = each.count
    elif (function := named(owner, each.count)) is not None:
        count = function(**{name: known[name] for name in reads(owner, each.count)})
    else:
        count = known[each.count]
    return max(0, min(int(count), each.max))


def is_used(
    owner: type, field: str, each: Each, known: Mapping[str, Any], before: tuple[Any, ...]
) -> bool:
    """Return whether the next place of a vector means anything, given other fields and the places
    before it.
    """
    if each.used is None:
        return True
    function = named(owner, each.used)
    given = {**known, field: before, PLACE: len(before)}
    return function is None or bool(
        function(**{name: given[name] for name in reads(owner, each.used)})
    )


def has_dead_ends(owner: type, each: Each) -> bool:
    """Return whether entries of a vector may mean nothing, so that `canonical` cuts or settles
    them.

    A vector that a field counts is taken as it is: plans with such vectors keep their fingerprints.
    """
    return each.used is not None or (
        isinstance(each.count, str) and named(owner, each.count) is not None
    )
