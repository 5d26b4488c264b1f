"""The corners of a technique's search space: defaults, all lows, all highs, and every choice once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from automl_sr.plugin.technique import Choice, Each, Float, Int, SearchField, Technique, first_error, search_fields


def configurations(cls: type[Technique], settings: Mapping[str, Any] | None = None) -> dict[str, Technique]:
    """Make a technique at the corners of its space, by a name for each; equal ones are made once.

    `settings` replaces fields in all of them, for instance to shorten a helper's training. Corners that the technique
    refuses are left out: `refusals` lists them.
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
    """Say which corners of its own space a technique refuses, and why: a search would propose them and fail."""
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
    yield "lows", _ends(specs, high=False)
    yield "highs", _ends(specs, high=True)
    for spec in specs.values():
        if isinstance(spec.marker, Choice):
            for option in spec.marker.options:
                yield f"{spec.name}={option}", {**_conditions(spec, specs), spec.name: option}
        elif isinstance(spec.marker, Each) and isinstance(spec.marker.item, Choice):
            for option in spec.marker.item.options:
                length = _length(spec.marker, specs, {}, high=False)
                yield f"{spec.name}={option}", {**_conditions(spec, specs), spec.name: (option,) * length}


def _ends(specs: Mapping[str, SearchField], *, high: bool) -> dict[str, Any]:
    """Set every number to one end of its range; vectors come last because others count them."""
    fields = {
        name: _end(spec.marker, high=high) for name, spec in specs.items() if isinstance(spec.marker, Int | Float)
    }
    for name, spec in specs.items():
        if isinstance(spec.marker, Each):
            item = spec.marker.item
            value = item.options[-1 if high else 0] if isinstance(item, Choice) else _end(item, high=high)
            fields[name] = (value,) * _length(spec.marker, specs, fields, high=high)
    return fields


def _end(marker: Any, *, high: bool) -> Any:
    return marker.high if high else marker.low


def _length(each: Each, specs: Mapping[str, SearchField], fields: Mapping[str, Any], *, high: bool) -> int:
    if isinstance(each.count, int):
        return min(each.count, each.max)
    return min(each.max, int(fields.get(each.count, specs[each.count].default)))


def _conditions(spec: SearchField, specs: Mapping[str, SearchField]) -> dict[str, Any]:
    """Set the fields on which this one depends so that it is active."""
    fields: dict[str, Any] = {}
    for other, allowed in spec.when.items():
        if specs[other].default not in allowed:
            fields[other] = allowed[0]
        fields = {**_conditions(specs[other], specs), **fields}
    return fields
