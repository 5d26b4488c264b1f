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
    """How many plans a space holds.

    `discrete` counts the discrete choices, `continuous` the dimensions that are continuous besides.
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
        data: dict[str, Any] = {
            "kind": self.kind,
            "name": self.name,
            "searched": self.searched,
        }
        for key in ("detail", "parameter", "condition"):
            text = getattr(self, key)
            if text:
                data[key] = text
        if self.children:
            data["children"] = [child.to_json() for child in self.children]
        return data


def tree(slots: Sequence[SlotSpace]) -> tuple[Node, ...]:
    """Return one node for each slot."""
    nodes: list[Node] = []
    for slot in slots:
        prefix = slot.slot.value
        if slot.slot.single:
            nodes.append(_single_slot(slot, prefix))
            continue
        children: list[Node] = []
        for option in slot.options:
            children.append(_technique(option, f"{prefix}.{option.name}", slot.start))
        nodes.append(
            Node(
                "slot",
                prefix,
                parameter=prefix,
                searched=len(slot.options) > 1,
                children=tuple(children),
            )
        )
    return tuple(nodes)


def _single_slot(slot: SlotSpace, prefix: str) -> Node:
    """Return a slot that always has the same technique: its fields lie right below it."""
    option = slot.options[0]
    return Node(
        "slot",
        prefix,
        option.technique.title(),
        children=_fields(option, prefix),
    )


def _technique(
    option: TechniqueSpace,
    prefix: str,
    start: str,
) -> Node:
    parts: list[str] = []
    if option.name == start:
        parts.append("trial 0")
    for name in sorted(option.technique.requires):
        parts.append(f"requires {name}")
    for name in sorted(option.technique.conflicts):
        parts.append(f"excludes {name}")
    return Node(
        "technique",
        option.name,
        "; ".join(parts),
        children=_fields(option, prefix),
    )


def _fields(option: TechniqueSpace, prefix: str) -> tuple[Node, ...]:
    nodes: list[Node] = []
    for item in option.fields:
        name = f"{prefix}.{item.name}"
        children: list[Node] = []
        if isinstance(item.domain, Nested):
            for inner in item.domain.options:
                children.append(_technique(inner, f"{name}.{inner.name}", item.start))
        nodes.append(
            Node(
                "field",
                item.name,
                describe(item.domain),
                name,
                searched=not is_single(item.domain),
                condition=condition(item),
                children=tuple(children),
            )
        )
    return tuple(nodes)


def condition(item: FieldSpace) -> str:
    """Say when a field is asked."""
    parts: list[str] = []
    for name, values in item.when.items():
        words = " or ".join(map(word, values))
        parts.append(f"{name} is {words}")
    if isinstance(item.domain, Each) and item.domain.used is not None:
        parts.append(f"{item.domain.used} says so of the place")
    return " and ".join(parts)


def describe(domain: Domain) -> str:
    """Put a domain into words."""
    match domain:
        case Constant(value=value):
            if isinstance(value, Mapping) and "technique" in value:
                return f"fixed: {value['technique']}"
            return f"fixed: {word(value)}"
        case Choice(options=values):
            return " | ".join(word(value) for value in values)
        case Each():
            return _describe_vector(domain)
        case Nested(slot=slot):
            return f"a nested {slot.value}"
        case _:
            return _describe_range(domain)


def _describe_vector(domain: Each) -> str:
    many = f"one for each of {domain.count}, at most {domain.max}"
    if isinstance(domain.count, int):
        many = f"{domain.count} places"
    ranges = [describe(item) for item in domain.ranges()]
    said = ", ".join(ranges)
    if len(ranges) > FEW:
        said = f"{ranges[0]}, {ranges[1]}, ..., {ranges[-1]}"
    return f"({said}) x {many}"


def _describe_range(domain: Int | Float) -> str:
    if domain.low == domain.high:
        return f"fixed: {domain.low:g}"
    step = ""
    # Whole numbers in steps of 1 go without saying.
    if domain.step is not None and (isinstance(domain, Float) or domain.step != 1):
        step = f", step {domain.step:g}"
    log = ""
    if domain.log:
        log = ", log"
    return f"{domain.low:g} .. {domain.high:g}{step}{log}"


def word(value: Any) -> str:
    """Write a value as a study file does."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(word, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def count(
    slots: Sequence[SlotSpace], compatibility: Compatibility, ranges: Iterable[Int | Float | Choice]
) -> Count:
    """Count the plans that a space can propose; conflicts between techniques are respected.

    `ranges` are the domains of all parameters that any plan can ask.
    """
    discrete = 0
    if slots:
        discrete = _ways(slots, compatibility, 0, Chosen(), {})
    continuous = 0
    # Over all parameters, not over those of one plan: a continuous one makes the number infinite
    # wherever it is asked.
    for domain in ranges:
        if isinstance(domain, Float) and domain.step is None:
            continuous += 1
    at_most = False
    for slot in slots:
        for option in _nested(slot.options):
            at_most = at_most or _is_bound(option)
    return Count(discrete, continuous, at_most)


def _nested(options: Iterable[TechniqueSpace]) -> Iterator[TechniqueSpace]:
    """Go through techniques and those nested in them."""
    for option in options:
        yield option
        for item in option.fields:
            if isinstance(item.domain, Nested):
                yield from _nested(item.domain.options)


def _is_bound(option: TechniqueSpace) -> bool:
    """Whether counting the settings of a technique gives more than there are."""
    # Only the technique itself knows which settings its own `canonical` makes equal.
    if option.technique.canonical is not Technique.canonical:
        return True
    deciding = _deciding(option)
    for item in option.fields:
        if not isinstance(item.domain, Each) or _most(item.domain) <= MANY:
            continue
        # Too many to be tried one by one, though what is asked besides depends on them.
        if item.name in deciding or _is_chain(option, item):
            return True
    return False


def _deciding(option: TechniqueSpace) -> set[str]:
    """Return the fields on which it depends whether, or how often, others are asked."""
    names: set[str] = set()
    for item in option.fields:
        names |= item.needs(option.technique)
    return names


def _is_chain(option: TechniqueSpace, item: FieldSpace) -> bool:
    """Whether it depends on a vector's own entries which of its other places are used."""
    if not isinstance(item.domain, Each) or item.domain.used is None:
        return False
    return item.name in reads(option.technique, item.domain.used)


def _most(domain: Each) -> int:
    """Count the settings of a vector, whichever places mean something."""
    total = 1
    for place in range(domain.max):
        total *= _size(domain.at(place))
    return total


def _ways(
    slots: Sequence[SlotSpace],
    compatibility: Compatibility,
    index: int,
    chosen: Chosen,
    known: dict[tuple[int, Chosen], int],
) -> int:
    """Count the ways to fill the slots from `index` on; `known` keeps what was counted."""
    if index == len(slots):
        return 1
    key = (index, chosen)
    if key not in known:
        total = 0
        for option in compatibility.allowed(index, chosen):
            following = chosen.plus(option.technique)
            further = _ways(
                slots,
                compatibility,
                index + 1,
                following,
                known,
            )
            total += combinations(option) * further
        known[key] = total
    return known[key]


def combinations(option: TechniqueSpace) -> int:
    """Count the settings of a technique's discrete fields that mean different things."""
    return _Settings(option).below(0, {})


class _Settings:
    """Counts the settings of one technique, field by field."""

    def __init__(self, option: TechniqueSpace) -> None:
        self.option = option
        self.deciding = _deciding(option)
        self.defaults: dict[str, Any] = {}
        for name, info in option.technique.model_fields.items():
            self.defaults[name] = info.get_default(call_default_factory=True)

    def below(self, index: int, values: Mapping[str, Any]) -> int:
        """Count the settings of the fields from `index` on, given those before."""
        if index == len(self.option.fields):
            return 1
        item = self.option.fields[index]
        if not is_active(item, values):
            return self.below(index + 1, values)
        if isinstance(item.domain, Each):
            return self._vector(index, item, item.domain, values)
        if item.name in self.deciding:
            listed = _values(item.domain)
            # A continuous field has no list; what depends on it is counted at its start.
            if listed is not None:
                return self._each(index, item, listed, values)
        # Nothing depends on the value, so that one stands for all.
        return _size(item.domain) * self._after(index, item, item.start, values)

    def _after(
        self,
        index: int,
        item: FieldSpace,
        value: Any,
        values: Mapping[str, Any],
    ) -> int:
        """Count the settings of the fields behind one that has a value."""
        return self.below(index + 1, {**values, item.name: value})

    def _each(
        self,
        index: int,
        item: FieldSpace,
        listed: Iterable[Any],
        values: Mapping[str, Any],
    ) -> int:
        """Count what follows each value of a field by itself."""
        total = 0
        for value in listed:
            total += self._after(index, item, value, values)
        return total

    def _vector(
        self,
        index: int,
        item: FieldSpace,
        each: Each,
        values: Mapping[str, Any],
    ) -> int:
        cls = self.option.technique
        known = {**self.defaults, **values}
        deciding = item.name in self.deciding
        # Whether places are used may depend on others: then nothing but trying them all will do.
        if _most(each) <= MANY and (deciding or _is_chain(self.option, item)):
            vectors = list(_vectors(cls, item.name, each, known))
            if deciding:
                return self._each(index, item, vectors, values)
            here = len(vectors)
        else:
            here = _vector_size(cls, item.name, each, known)
        return here * self._after(index, item, item.start, values)


def _vectors(
    cls: type[Technique], name: str, each: Each, known: Mapping[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """Go through the settings of a vector that mean different things.

    A continuous place counts as one value.
    """
    length = places(cls, each, known)
    unfinished: list[tuple[Any, ...]] = [()]
    while unfinished:
        before = unfinished.pop()
        if len(before) == length:
            yield before
            continue
        item = each.at(len(before))
        # A place that means nothing has a single setting, as in the canonical form.
        listed: Iterable[Any] | None = None
        if is_used(cls, name, each, known, before):
            listed = _values(item)
        if listed is None:
            listed = [first_value(item)]
        for value in listed:
            unfinished.append((*before, value))


def _vector_size(
    cls: type[Technique],
    name: str,
    each: Each,
    known: Mapping[str, Any],
) -> int:
    """Count the settings of a vector whose places are used or not whatever stands in the others."""
    size = 1
    start: tuple[Any, ...] = ()
    for place in range(places(cls, each, known)):
        item = each.at(place)
        if is_used(cls, name, each, known, start):
            size *= _size(item)
        start = (*start, first_value(item))
    return size


def _values(domain: Domain) -> Iterable[Any] | None:
    """List the values of a discrete dimension on which other fields depend."""
    match domain:
        case Constant(value=value):
            return [value]
        case Choice(options=values):
            return values
        case Int():
            return range(
                domain.low,
                domain.high + 1,
                domain.step,
            )
        case Float(step=float() as step):
            return [tidy(domain.low + place * step) for place in range(_size(domain))]
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
            # An end that lies on a step counts, though division may put it just below.
            steps = (domain.high - domain.low) / (domain.step or 1)
            return math.floor(steps + 1e-9) + 1
