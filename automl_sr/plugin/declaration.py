"""What is wrong with how a technique is declared: found when its plugin is loaded, before a study
names it.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from automl_sr.plugin.technique import (
    NAME,
    Choice,
    Each,
    Int,
    Pick,
    Range,
    SearchField,
    Slot,
    Technique,
    accepts,
    first_error,
    search_fields,
)
from automl_sr.plugin.vectors import PLACE, named, reads


def problems_of(cls: type[Technique]) -> list[str]:
    """Say what is wrong with a technique's declaration; an empty list means that it can be used."""
    if not isinstance(getattr(cls, "slot", None), Slot):
        return [f"{cls.__name__}.slot must be a Slot, one of: {', '.join(Slot)}"]
    if not isinstance(getattr(cls, "name", None), str) or not NAME.fullmatch(cls.name):
        return [f"{cls.__name__}.name must be lower-case letters, digits and underscores"]
    specs = search_fields(cls)
    names = {spec.name for spec in specs}
    problems = _declaration_problems(cls)
    for spec in specs:
        if spec.name == "technique" or callable(getattr(Technique, spec.name, None)):
            problems.append(f"field {spec.name!r} hides a name of Technique")
        problems += [
            f"field {spec.name!r} depends on unknown field {other!r}"
            for other in spec.when
            if other not in names
        ]
        problems += _marker_problems(cls, spec, names)
    return problems or _circle_problems(specs) or _default_problems(cls)


def _declaration_problems(cls: type[Technique]) -> list[str]:
    """Check the class variables: a lone string would be read as a set of letters."""
    if not isinstance(cls.version, str):
        return [f"{cls.__name__}.version must be text"]
    if not isinstance(cls.scores, bool):
        return [f"{cls.__name__}.scores must be True or False"]
    if not isinstance(cls.asked_only, bool):
        return [f"{cls.__name__}.asked_only must be True or False"]
    if cls.asked_only and cls.baseline:
        return [f"{cls.__name__} is the baseline, so that it cannot be asked_only"]
    found: list[str] = []
    for name in ("tasks", "provides", "requires", "conflicts"):
        if not isinstance(getattr(cls, name), frozenset) or not all(
            isinstance(item, str) for item in getattr(cls, name)
        ):
            found.append(f"{cls.__name__}.{name} must be a frozenset of strings")
    return found


def _marker_problems(cls: type[Technique], spec: SearchField, names: set[str]) -> list[str]:
    marker = spec.marker
    where = f"field {spec.name!r}"
    if spec.is_file and (marker is not None or not isinstance(spec.default, str)):
        return [
            f"{where} is the path of a file: it is text without a range, and its default is"
            " text too"
        ]
    if isinstance(marker, Pick):
        fits = not marker.slot.single and accepts(cls, spec.name, Technique())
        if fits:
            return []
        return [f"{where} must be declared as `Technique` and pick from a slot with a choice"]
    if isinstance(marker, Each):
        return _vector_problems(cls, spec, marker, names)
    if marker is None:
        return []
    return _item_problems(cls, spec, marker)


def _vector_problems(
    cls: type[Technique], spec: SearchField, each: Each, names: set[str]
) -> list[str]:
    where = f"field {spec.name!r}"
    if each.max < 1 or (isinstance(each.count, int) and each.count < 0):
        return [f"{where} has no places: count {each.count}, max {each.max}"]
    if isinstance(each.item, tuple) and len(each.item) != each.max:
        return [f"{where} has {len(each.item)} ranges for {each.max} places"]
    if isinstance(each.count, str) and named(cls, each.count) is None and each.count not in names:
        return [f"{where} counts by unknown field {each.count!r}"]
    if each.used is not None and named(cls, each.used) is None:
        return [f"{where} is used by {each.used!r}, which is no static method of {cls.__name__}"]
    readable = {each.count: names - {spec.name}, each.used: names | {PLACE}}
    for function, allowed in readable.items():
        unknown = []
        for name in reads(cls, str(function)):
            if name not in allowed:
                unknown.append(name)
        if unknown:
            return [f"{where}: {function!r} reads {unknown[0]!r}, which is no other field"]
    if isinstance(each.item, tuple):
        return _ends_problems(cls, spec, each)
    return _item_problems(cls, spec, each.item)


def _ends_problems(cls: type[Technique], spec: SearchField, each: Each) -> list[str]:
    """Check ranges that differ from place to place: each alone, and both ends of all of them at
    once.
    """
    wrong = []
    for item in each.ranges():
        wrong.extend(_range_problems(spec, item))
    if wrong:
        return wrong[:1]
    if isinstance(spec.default, tuple) and spec.default:
        size = min(len(spec.default), each.max)
    else:
        size = each.max
    ends = []
    for end in (0, 1):
        ends.append(tuple(_ends(each.at(place))[end] for place in range(size)))
    found: list[str] = []
    for values in ends:
        if not accepts(cls, spec.name, values):
            found.append(
                f"field {spec.name!r}: {list(values)} of its ranges is outside its hard limits"
            )
    return found


def _ends(item: Range) -> tuple[Any, Any]:
    if isinstance(item, Choice):
        return (item.options[0], item.options[-1])
    return (item.low, item.high)


def _item_problems(cls: type[Technique], spec: SearchField, item: Range) -> list[str]:
    """Check one range or choice, also against the hard limits of the field."""
    where = f"field {spec.name!r}"
    wrong = _range_problems(spec, item)
    if wrong:
        return wrong
    if isinstance(item, Choice):
        return [
            f"{where} does not accept its own choice {value!r}"
            for value in item.options
            if not _takes(cls, spec, value)
        ]
    inner = (
        [] if isinstance(item, Int) or item.step else [item.low + 0.618 * (item.high - item.low)]
    )
    return [
        f"{where}: {value} of its range is outside its hard limits"
        for value in (item.low, item.high, *inner)
        if not _takes(cls, spec, value)
    ]


def _range_problems(spec: SearchField, item: Range) -> list[str]:
    """Check one range or choice by itself."""
    where = f"field {spec.name!r}"
    if isinstance(item, Choice):
        if not item.options:
            return [f"{where} is a choice between nothing"]
        if len(set(item.options)) < len(item.options):
            return [f"{where} lists a choice twice: {', '.join(map(str, item.options))}"]
        return []
    if not item.low <= item.high:
        return [f"{where} has an empty range {item.low}..{item.high}"]
    if item.log and item.low <= 0:
        return [f"{where} has a logarithmic range that starts at {item.low}"]
    if item.step is not None and (
        item.step <= 0 or (item.log and item.step != (1 if isinstance(item, Int) else None))
    ):
        return [f"{where} has a step of {item.step}, which must be above 0 and cannot go with log"]
    return []


def _takes(cls: type[Technique], spec: SearchField, value: Any) -> bool:
    """Whether a field accepts a value; for a vector, in all its places."""
    if isinstance(spec.marker, Each):
        if isinstance(spec.default, tuple) and spec.default:
            size = len(spec.default)
        else:
            size = spec.marker.max
        return accepts(cls, spec.name, (value,) * size)
    return accepts(cls, spec.name, value)


def _circle_problems(specs: list[SearchField]) -> list[str]:
    """Refuse fields that depend on each other in a circle."""
    known: set[str] = set()
    waiting = {}
    for spec in specs:
        waiting[spec.name] = spec.depends_on()
    while ready := {name for name, needs in waiting.items() if needs <= known}:
        known |= ready
        waiting = {name: needs for name, needs in waiting.items() if name not in ready}
    if waiting:
        return [f"the fields {', '.join(map(repr, waiting))} depend on each other in a circle"]
    return []


def _default_problems(cls: type[Technique]) -> list[str]:
    try:
        json.dumps(cls().canonical().dump(), allow_nan=False)
    except ValidationError as error:
        return [f"its default settings are invalid: {first_error(error)}"]
    except (TypeError, ValueError) as error:
        return [f"its default settings cannot be written as JSON: {error}"]
    return []
