"""The corners of a technique's search space: defaults, all lows, all highs, and every choice
once.
"""

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


def configurations(
    cls: type[Technique], settings: Mapping[str, Any] | None = None
) -> dict[str, Technique]:
    """Make a technique at the corners of its space, by a name for each; equal ones are made once.

    `settings` replaces fields in all of them, for instance to shorten a helper's training. Corners
    that the technique refuses are left out: `refusals` lists them.
    """
    made: dict[str, Technique] = {}
    for name, fields in _corners(cls):
        try:
            technique = cls(**{**fields, **(settings or {})})
        except ValidationError:
            continue
        if technique not in made.values():
            made[name] = technique
    return made


def refusals(cls: type[Technique], settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Say which corners of its own space a technique refuses, and why: a search would propose them
    and fail.
    """
    found: dict[str, str] = {}
    for name, fields in _corners(cls):
        try:
            cls(**{**fields, **(settings or {})})
        except ValidationError as error:
            found[name] = first_error(error)
    return found


def _corners(cls: type[Technique]) -> Iterator[tuple[str, dict[str, Any]]]:
    specs = {spec.name: spec for spec in search_fields(cls)}
    yield "default", {}
    yield "lows", _ends(cls, specs, high=False)
    yield "highs", _ends(cls, specs, high=True)
    for spec in specs.values():
        if isinstance(spec.marker, Choice):
            for option in spec.marker.options:
                yield f"{spec.name}={option}", {**_conditions(spec, specs), spec.name: option}
        elif isinstance(spec.marker, Each) and isinstance(spec.marker.item, Choice):
            for option in spec.marker.item.options:
                length = _length(cls, spec.marker, {})
                yield (
                    f"{spec.name}={option}",
                    {**_conditions(spec, specs), spec.name: (option,) * length},
                )


def _ends(cls: type[Technique], specs: Mapping[str, SearchField], *, high: bool) -> dict[str, Any]:
    """Set every number to one end of its range; vectors come last because others count them."""
    fields = {
        name: _end(spec.marker, high=high)
        for name, spec in specs.items()
        if isinstance(spec.marker, Int | Float)
    }
    for spec in in_order(list(specs.values())):
        if isinstance(spec.marker, Each):
            each = spec.marker
            fields[spec.name] = tuple(
                _end(each.at(place), high=high) for place in range(_length(cls, each, fields))
            )
    return fields


def _end(item: Range, *, high: bool) -> Any:
    if isinstance(item, Choice):
        return item.options[-1 if high else 0]
    if high:
        return item.high
    return item.low


def _length(cls: type[Technique], each: Each, fields: Mapping[str, Any]) -> int:
    defaults = {}
    for spec in search_fields(cls):
        defaults[spec.name] = spec.default
    return places(cls, each, {**defaults, **fields})


def _conditions(spec: SearchField, specs: Mapping[str, SearchField]) -> dict[str, Any]:
    """Set the fields on which this one depends so that it is active."""
    fields: dict[str, Any] = {}
    for other, allowed in spec.when.items():
        if specs[other].default not in allowed:
            fields[other] = allowed[0]
        fields = {**_conditions(specs[other], specs), **fields}
    return fields
