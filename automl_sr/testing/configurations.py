"""The corners of a technique's search space: defaults, all lows, all highs, every choice once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from automl_sr.plugin.technique import (
    Choice,
    Each,
    Float,
    Int,
    Range,
    SearchField,
    Technique,
    first_error,
    in_order,
    search_fields,
)
from automl_sr.plugin.vectors import places

Kind = type[Technique]
Fields = Mapping[str, Any]
Specs = Mapping[str, SearchField]


def configurations(
    cls: Kind,
    settings: Fields | None = None,
) -> dict[str, Technique]:
    """Make a technique at the corners of its space, by a name for each.

    `settings` replaces fields in all of them, for instance to shorten a helper's training. Corners
    that the technique refuses are left out: `refusals` lists them.
    """
    made: dict[str, Technique] = {}
    for name, fields in _corners(cls):
        try:
            technique = cls(**_set(fields, settings))
        except ValidationError:
            continue
        if technique not in made.values():  # the only choice is the default too
            made[name] = technique
    return made


def refusals(cls: Kind, settings: Fields | None = None) -> dict[str, str]:
    """Say which corners of its own space a technique refuses, and why.

    A search would propose them and fail.
    """
    reasons: dict[str, str] = {}
    for name, fields in _corners(cls):
        try:
            cls(**_set(fields, settings))
        except ValidationError as error:
            reasons[name] = first_error(error)
    return reasons


def _set(fields: Fields, settings: Fields | None) -> dict[str, Any]:
    """Return fields with the settings in place of their own."""
    joined = dict(fields)
    joined.update(settings or {})
    return joined


def _corners(cls: Kind) -> Iterator[tuple[str, dict[str, Any]]]:
    specs = {spec.name: spec for spec in search_fields(cls)}
    yield "default", {}
    yield "lows", _ends(cls, specs, high=False)
    yield "highs", _ends(cls, specs, high=True)
    for spec in specs.values():
        marker = spec.marker
        if isinstance(marker, Choice):
            for option in marker.options:
                fields = _conditions(spec, specs)
                fields[spec.name] = option
                yield f"{spec.name}={option}", fields
        elif isinstance(marker, Each) and isinstance(marker.item, Choice):
            for option in marker.item.options:
                fields = _conditions(spec, specs)
                length = _length(cls, marker, {})
                fields[spec.name] = (option,) * length
                yield f"{spec.name}={option}", fields


def _ends(cls: Kind, specs: Specs, *, high: bool) -> dict[str, Any]:
    """Set every number to one end of its range."""
    fields: dict[str, Any] = {}
    for name, spec in specs.items():
        if isinstance(spec.marker, Int | Float):
            fields[name] = _end(spec.marker, high=high)

    # Vectors come last because numbers say how long they are.
    for spec in in_order(list(specs.values())):
        each = spec.marker
        if not isinstance(each, Each):
            continue
        ends = []
        for place in range(_length(cls, each, fields)):
            item = each.at(place)
            ends.append(_end(item, high=high))
        fields[spec.name] = tuple(ends)
    return fields


def _end(item: Range, *, high: bool) -> Any:
    """Return one end of a range; those of a choice are its first and last options."""
    if isinstance(item, Choice):
        if high:
            return item.options[-1]
        return item.options[0]
    if high:
        return item.high
    return item.low


def _length(cls: Kind, each: Each, fields: Fields) -> int:
    """Return how long a vector is where these fields are set."""
    values = {}
    for spec in search_fields(cls):
        values[spec.name] = spec.default
    values.update(fields)
    return places(cls, each, values)


def _conditions(spec: SearchField, specs: Specs) -> dict[str, Any]:
    """Set the fields on which this one depends so that it is active."""
    fields: dict[str, Any] = {}
    for name, allowed in spec.when.items():
        other = specs[name]
        if other.default not in allowed:
            fields[name] = allowed[0]
        # What the other field depends on in turn; what is set already stays.
        before = _conditions(other, specs)
        fields = {**before, **fields}
    return fields
