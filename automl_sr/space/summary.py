"""A search space seen from outside: its tree, for people, and the number of plans in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl_sr.plugin.technique import Choice, Each, Float, Int, Technique, first_value
from automl_sr.plugin.vectors import is_used, places, reads
from automl_sr.space.compatibility import Chosen
from automl_sr.space.domains import (
    Constant,
    Domain,
    FieldSpace,
    Nested,
    TechniqueSpace,
    is_active,
    is_single,
    tidy,
)

if TYPE_CHECKING:
    from automl_sr.space.compatibility import Compatibility
    from automl_sr.space.domains import SlotSpace


FEW = 3
"""So many ranges of a vector are all shown; of more only the first and the last."""
MANY = 100_000
"""So many settings of one vector are tried out when plans are counted."""


@dataclass(frozen=True)
class Count:
    """How many plans a space holds: the discrete choices, and the dimensions that are continuous
    besides.
    """

    discrete: int
    continuous: int
    at_most: bool = False
    """Whether there may be fewer: techniques say themselves which of their settings mean the
    same.
    """

    @property
    def total(self) -> int | None:
        """The number of different plans, or None where it is infinite or not known."""
        if self.continuous or self.at_most:
            return None
        return self.discrete


@dataclass(frozen=True)
class Node:
    """One line of the tree: a slot, a technique or a field, with what is below it."""

    kind: str
    name: str
    detail: str = ""
    parameter: str = ""
    """What the plan calls it; empty for a technique."""
    searched: bool = True
    condition: str = ""
    children: tuple[Node, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Write the node and what is below it as JSON."""
        data: dict[str, Any] = {"kind": self.kind, "name": self.name, "searched": self.searched}
        for key in ("detail", "parameter", "condition"):
            if getattr(self, key):
                data[key] = getattr(self, key)
        if self.children:
            data["children"] = [child.to_json() for child in self.children]
        return data


def tree(slots: Sequence[SlotSpace]) -> tuple[Node, ...]:
    """Return one node for each slot."""
    nodes = []
    for slot in slots:
        prefix = slot.slot.value
        if slot.slot.single:
            nodes.append(
                Node(
                    "slot",
                    prefix,
                    slot.options[0].technique.title(),
                    children=_fields(slot.options[0], prefix),
                )
            )
            continue
        children = tuple(
            _technique(option, f"{prefix}.{option.name}", start=slot.start)
            for option in slot.options
        )
        nodes.append(Node("slot", prefix, "", prefix, len(slot.options) > 1, "", children))
    return tuple(nodes)


def _technique(option: TechniqueSpace, prefix: str, start: str) -> Node:
    needs = []
    for name in sorted(option.technique.requires):
        needs.append(f"requires {name}")
    needs += [f"excludes {name}" for name in sorted(option.technique.conflicts)]
    detail = "; ".join([*(["trial 0"] if option.name == start else []), *needs])
    return Node("technique", option.name, detail, children=_fields(option, prefix))


def _fields(option: TechniqueSpace, prefix: str) -> tuple[Node, ...]:
    nodes = []
    for item in option.fields:
        name = f"{prefix}.{item.name}"
        children: tuple[Node, ...] = ()
        if isinstance(item.domain, Nested):
            children = tuple(
                _technique(inner, f"{name}.{inner.name}", item.start)
                for inner in item.domain.options
            )
        searched = not is_single(item.domain)
        nodes.append(
            Node(
                "field", item.name, describe(item.domain), name, searched, condition(item), children
            )
        )
    return tuple(nodes)


def condition(item: FieldSpace) -> str:
    """Say when a field is asked."""
    parts = []
    for name, values in item.when.items():
        parts.append(f"{name} is {' or '.join(map(word, values))}")
    if isinstance(item.domain, Each) and item.domain.used is not None:
        parts.append(f"{item.domain.used} says so of the place")
    return " and ".join(parts)


def describe(domain: Domain) -> str:
    """Put a domain into words."""
    match domain:
        case Constant(value=value):
            return "fixed: " + (
                value["technique"]
                if isinstance(value, Mapping) and "technique" in value
                else word(value)
            )
        case Choice(options=values):
            return " | ".join(word(value) for value in values)
        case Each(count=count, max=most):
            if isinstance(count, int):
                many = f"{count} places"
            else:
                many = f"one for each of {count}, at most {most}"
            ranges = []
            for item in domain.ranges():
                ranges.append(describe(item))
            if len(ranges) <= FEW:
                said = ", ".join(ranges)
            else:
                said = f"{ranges[0]}, {ranges[1]}, ..., {ranges[-1]}"
            return f"({said}) x {many}"
        case Nested(slot=slot):
            return f"a nested {slot.value}"
        case _:
            if domain.low == domain.high:
                return f"fixed: {domain.low:g}"
            step = ""
            if not (domain.step in (None, 1) and not (isinstance(domain, Float) and domain.step)):
                step = f", step {domain.step:g}"
            return f"{domain.low:g} .. {domain.high:g}{step}{', log' if domain.log else ''}"


def word(value: Any) -> str:
    """Write a value as a study file does."""
    if isinstance(value, bool):
        if value:
            return "true"
        return "false"
    if isinstance(value, list):
        return f"[{', '.join(word(item) for item in value)}]"
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def count(
    slots: Sequence[SlotSpace], compatibility: Compatibility, ranges: Iterable[Int | Float | Choice]
) -> Count:
    """Count the plans that a space can propose; conflicts between techniques are taken into
    account.

    `ranges` are the domains of all parameters that any plan can ask.
    """
    discrete = 0
    if slots:
        discrete = _ways(slots, compatibility, 0, Chosen(), {})
    continuous = sum(isinstance(domain, Float) and domain.step is None for domain in ranges)
    options: list[TechniqueSpace] = []
    for slot in slots:
        options.extend(_nested(slot.options))
    return Count(discrete, continuous, any(_is_bound(option) for option in options))


def _nested(options: Iterable[TechniqueSpace]) -> Iterator[TechniqueSpace]:
    for option in options:
        yield option
        for item in option.fields:
            if isinstance(item.domain, Nested):
                yield from _nested(item.domain.options)


def _is_bound(option: TechniqueSpace) -> bool:
    """Whether counting the settings of a technique gives more than there are."""
    if option.technique.canonical is not Technique.canonical:
        return True
    deciding = set().union(*(item.needs(option.technique) for item in option.fields))
    vectors = []
    for item in option.fields:
        if isinstance(item.domain, Each):
            vectors.append(item)
    long = []
    for item in vectors:
        if _most(item.domain) > MANY:
            long.append(item.name)
    return any(
        item.name in long and (item.name in deciding or _is_chain(option, item)) for item in vectors
    )


def _is_chain(option: TechniqueSpace, item: FieldSpace) -> bool:
    """Whether it depends on a vector's own entries which of its other places are used."""
    used = None
    if isinstance(item.domain, Each):
        used = item.domain.used
    return used is not None and item.name in reads(option.technique, used)


def _most(domain: Domain) -> int:
    if not isinstance(domain, Each):
        return _size(domain)
    return math.prod(_size(domain.at(place)) for place in range(domain.max))


def _ways(
    slots: Sequence[SlotSpace],
    compatibility: Compatibility,
    index: int,
    chosen: Chosen,
    known: dict[tuple[int, Chosen], int],
) -> int:
    if index == len(slots):
        return 1
    key = (index, chosen)
    if key not in known:
        known[key] = sum(
            combinations(option)
            * _ways(slots, compatibility, index + 1, chosen.plus(option.technique), known)
            for option in compatibility.allowed(index, chosen)
        )
    return known[key]


def combinations(option: TechniqueSpace) -> int:
    """Count the settings of a technique's discrete fields that mean different things."""
    cls = option.technique
    deciding = set().union(*(item.needs(cls) for item in option.fields))
    defaults = {}
    for name, info in cls.model_fields.items():
        defaults[name] = info.get_default(call_default_factory=True)

    def below(index: int, values: Mapping[str, Any]) -> int:
        if index == len(option.fields):
            return 1
        item = option.fields[index]
        if not is_active(item, values):
            return below(index + 1, values)
        known = {**defaults, **values}
        if isinstance(item.domain, Each):
            tried = item.name in deciding or _is_chain(option, item)
            if tried and _most(item.domain) <= MANY:
                vectors = list(_vectors(cls, item.name, item.domain, known))
                if item.name in deciding:
                    return sum(
                        below(index + 1, {**values, item.name: vector}) for vector in vectors
                    )
                return len(vectors) * below(index + 1, {**values, item.name: item.start})
            here = _vector_size(cls, item.name, item.domain, known)
            return here * below(index + 1, {**values, item.name: item.start})
        if item.name in deciding and (listed := _values(item.domain)) is not None:
            return sum(below(index + 1, {**values, item.name: value}) for value in listed)
        return _size(item.domain) * below(index + 1, {**values, item.name: item.start})

    return below(0, {})


def _vectors(
    cls: type[Technique], name: str, each: Each, known: Mapping[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """Go through the settings of a vector that mean different things; a continuous place counts as
    one value.
    """
    count = places(cls, each, known)
    unfinished: list[tuple[Any, ...]] = [()]
    while unfinished:
        before = unfinished.pop()
        if len(before) == count:
            yield before
            continue
        item = each.at(len(before))
        listed = None
        if is_used(cls, name, each, known, before):
            listed = _values(item)
        if listed is None:
            values = [first_value(item)]
        else:
            values = list(listed)
        unfinished += [(*before, value) for value in values]


def _vector_size(cls: type[Technique], name: str, each: Each, known: Mapping[str, Any]) -> int:
    """Count the settings of a vector whose places are used or not whatever stands in the others."""
    size = 1
    start: tuple[Any, ...] = ()
    for place in range(places(cls, each, known)):
        size *= _size(each.at(place)) if is_used(cls, name, each, known, start) else 1
        start = (*start, first_value(each.at(place)))
    return size


def _values(domain: Domain) -> Iterator[Any] | None:
    """List the values of a discrete dimension on which other fields depend."""
    match domain:
        case Constant(value=value):
            return iter([value])
        case Choice(options=values):
            return iter(values)
        case Int():
            return iter(range(domain.low, domain.high + 1, domain.step))
        case Float(step=float() as step):
            return (tidy(domain.low + place * step) for place in range(_size(domain)))
    return None


def _size(domain: Domain) -> int:
    """Count the values of one dimension; a continuous one counts as a single value."""
    match domain:
        case Constant() | Float(step=None) | Each():
            return 1
        case Choice(options=options):
            return len(options)
        case Nested(options=options):
            return sum(combinations(inner) for inner in options)
        case _:
            return math.floor((domain.high - domain.low) / (domain.step or 1) + 1e-9) + 1
