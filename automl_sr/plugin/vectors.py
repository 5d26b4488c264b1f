"""How many places a vector field has, and which of them are used.

Both are numbers, or functions of other fields. Such a function is a static method of the technique.
What its parameters are called says which fields it reads, so that these are asked first: `def
edges(nodes: int) -> int`. One that says whether a place is used reads `place` besides, and may read
the vector itself as far as the places before this one are known.
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
    """Return the function of a technique's class that has this name, or nothing without one."""
    # Statically: a name may be that of a field, for which getattr would give its default.
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
        fields.update(reads(owner, each.count))
        # Not a function, or one that reads nothing: then the name is a field's.
        if not fields:
            fields.add(each.count)
    if each.used is not None:
        used_by = set(reads(owner, each.used))
        # The place and the vector itself are known while it is asked, place by place.
        fields |= used_by - {PLACE, field}
    return fields


def places(owner: type, each: Each, known: Mapping[str, Any]) -> int:
    """Return the number of places of a vector, given the fields that decide it.

    It is at least 0 and at most the vector's maximum, whatever a function says.
    """
    if isinstance(each.count, int):
        count = each.count
    else:
        function = named(owner, each.count)
        if function is None:
            count = known[each.count]
        else:
            count = function(**_given(owner, each.count, known))
    return max(0, min(int(count), each.max))


def _given(
    owner: type,
    name: str,
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a function of a technique is called with."""
    return {field: known[field] for field in reads(owner, name)}


def is_used(
    owner: type,
    field: str,
    each: Each,
    known: Mapping[str, Any],
    before: tuple[Any, ...],
) -> bool:
    """Return whether the next place of a vector means anything.

    That may depend on other fields, and on the places before it.
    """
    if each.used is None:
        return True
    function = named(owner, each.used)
    if function is None:
        return True
    # What is known of the vector is its default, or all of it: the function sees what lies before.
    state = {**known, field: before, PLACE: len(before)}
    return bool(function(**_given(owner, each.used, state)))


def has_dead_ends(owner: type, each: Each) -> bool:
    """Return whether entries of a vector may mean nothing, so that `canonical` cuts them."""
    if each.used is not None:
        return True
    # A vector that a field counts is taken as it is: plans with such vectors keep their
    # fingerprints.
    return isinstance(each.count, str) and named(owner, each.count) is not None
