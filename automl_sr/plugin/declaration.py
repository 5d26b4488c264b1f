"""What is wrong with how a technique is declared.

It is found when its plugin is loaded, before a study names it.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from automl_sr.plugin.technique import (
    NAME,
    Choice,
    Each,
    Float,
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
    # Without these two no other complaint could say where it belongs.
    if not isinstance(getattr(cls, "slot", None), Slot):
        return [f"{cls.__name__}.slot must be a Slot, one of: {', '.join(Slot)}"]
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return [f"{cls.__name__}.name must be lower-case letters, digits and underscores"]

    specs = search_fields(cls)
    names = {spec.name for spec in specs}
    problems = _declaration_problems(cls)
    for spec in specs:
        # Stored fields stand beside `technique`; a method that is hidden would not be called.
        if spec.name == "technique" or callable(getattr(Technique, spec.name, None)):
            problems.append(f"field {spec.name!r} hides a name of Technique")
        for other in spec.when:
            if other not in names:
                problems.append(f"field {spec.name!r} depends on unknown field {other!r}")
        problems += _marker_problems(cls, spec, names)
    if problems:
        return problems
    # Defaults can be made only of fields that have an order.
    return _circle_problems(specs) or _default_problems(cls)


def _declaration_problems(cls: type[Technique]) -> list[str]:
    """Check the class variables."""
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
        # Above all no lone string, which would be read as a set of letters.
        if not _is_set_of_text(getattr(cls, name)):
            found.append(f"{cls.__name__}.{name} must be a frozenset of strings")
    return found


def _is_set_of_text(value: object) -> bool:
    return isinstance(value, frozenset) and all(isinstance(item, str) for item in value)


def _marker_problems(cls: type[Technique], spec: SearchField, names: set[str]) -> list[str]:
    marker = spec.marker
    where = f"field {spec.name!r}"
    if spec.is_file and (marker is not None or not isinstance(spec.default, str)):
        return [
            f"{where} is the path of a file: it is text without a range, and its default is"
            " text too"
        ]
    if marker is None:
        return []
    if isinstance(marker, Each):
        return _vector_problems(cls, spec, marker, names)
    if not isinstance(marker, Pick):
        return _item_problems(cls, spec, marker)
    # Any technique may be nested: a narrower type would refuse those of other plugins.
    if not marker.slot.single and accepts(cls, spec.name, Technique()):
        return []
    return [f"{where} must be declared as `Technique` and pick from a slot with a choice"]


def _vector_problems(
    cls: type[Technique],
    spec: SearchField,
    each: Each,
    names: set[str],
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

    # How many places there are must be known before the first one is asked, hence not by the
    # vector itself. Whether one is used may depend on those before it.
    others = names - {spec.name}
    for function, readable in ((each.count, others), (each.used, names | {PLACE})):
        for name in reads(cls, str(function)):
            if name not in readable:
                return [f"{where}: {function!r} reads {name!r}, which is no other field"]
    if isinstance(each.item, tuple):
        return _ends_problems(cls, spec, each)
    return _item_problems(cls, spec, each.item)


def _ends_problems(cls: type[Technique], spec: SearchField, each: Each) -> list[str]:
    """Check ranges that differ from place to place.

    Each is checked alone, and both ends of all of them at once.
    """
    for item in each.ranges():
        wrong = _range_problems(spec, item)
        if wrong:
            return wrong[:1]

    # A field takes whole vectors alone, so that its hard limits are asked with all low ends, then
    # with all high ones.
    lows: list[Any] = []
    highs: list[Any] = []
    for place in range(min(_length(spec, each), each.max)):
        low, high = _ends(each.at(place))
        lows.append(low)
        highs.append(high)
    found: list[str] = []
    for values in (lows, highs):
        if not accepts(cls, spec.name, tuple(values)):
            found.append(f"field {spec.name!r}: {values} of its ranges is outside its hard limits")
    return found


def _length(spec: SearchField, each: Each) -> int:
    """Return a number of places that the field takes for certain: that of its default."""
    if isinstance(spec.default, tuple) and spec.default:
        return len(spec.default)
    return each.max


def _ends(item: Range) -> tuple[Any, Any]:
    if isinstance(item, Choice):
        return item.options[0], item.options[-1]
    return item.low, item.high


def _item_problems(cls: type[Technique], spec: SearchField, item: Range) -> list[str]:
    """Check one range or choice, also against the hard limits of the field."""
    wrong = _range_problems(spec, item)
    if wrong:
        return wrong
    where = f"field {spec.name!r}"
    if isinstance(item, Choice):
        for value in item.options:
            if not _takes(cls, spec, value):
                wrong.append(f"{where} does not accept its own choice {value!r}")
        return wrong
    for value in _tried(item):
        if not _takes(cls, spec, value):
            wrong.append(f"{where}: {value} of its range is outside its hard limits")
    return wrong


def _tried(item: Int | Float) -> list[float]:
    """Return the values of a range with which hard limits are tried."""
    values: list[float] = [item.low, item.high]
    # One between the ends too, on no round number: the field may want multiples, which a
    # continuous range never gives.
    if isinstance(item, Float) and not item.step:
        values.append(item.low + 0.618 * (item.high - item.low))
    return values


def _range_problems(spec: SearchField, item: Range) -> list[str]:
    """Check one range or choice by itself."""
    where = f"field {spec.name!r}"
    if isinstance(item, Choice):
        if not item.options:
            return [f"{where} is a choice between nothing"]
        if len(set(item.options)) < len(item.options):
            return [f"{where} lists a choice twice: {', '.join(map(str, item.options))}"]
        return []
    # Turned round, so that NaN is refused too.
    if not item.low <= item.high:
        return [f"{where} has an empty range {item.low}..{item.high}"]
    if item.log and item.low <= 0:
        return [f"{where} has a logarithmic range that starts at {item.low}"]
    if not _step_fits(item):
        return [f"{where} has a step of {item.step}, which must be above 0 and cannot go with log"]
    return []


def _step_fits(item: Int | Float) -> bool:
    if item.step is None:
        return True
    if item.step <= 0:
        return False
    # Whole numbers always have a step, and 1 is none.
    if item.log:
        return isinstance(item, Int) and item.step == 1
    return True


def _takes(cls: type[Technique], spec: SearchField, value: Any) -> bool:
    """Whether a field accepts a value; for a vector, in all its places."""
    if isinstance(spec.marker, Each):
        value = (value,) * _length(spec, spec.marker)
    return accepts(cls, spec.name, value)


def _circle_problems(specs: list[SearchField]) -> list[str]:
    """Refuse fields that depend on each other in a circle."""
    known: set[str] = set()
    waiting = {spec.name: spec.depends_on() for spec in specs}
    while waiting:
        ready = [name for name, needs in waiting.items() if needs <= known]
        if not ready:
            names = ", ".join(map(repr, waiting))
            return [f"the fields {names} depend on each other in a circle"]
        for name in ready:
            known.add(name)
            del waiting[name]
    return []


def _default_problems(cls: type[Technique]) -> list[str]:
    """Check what trial 0 and a study file without fields would use."""
    try:
        fields = cls().canonical().dump()
        json.dumps(fields, allow_nan=False)
    except ValidationError as error:
        return [f"its default settings are invalid: {first_error(error)}"]
    except (TypeError, ValueError) as error:
        return [f"its default settings cannot be written as JSON: {error}"]
    return []
