"""The values that the dimensions of a resolved space can take, and their form in JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from automl_sr.errors import PluginError
from automl_sr.plugin.technique import Choice, Each, Float, Int, Range, Scalar, Slot, Technique
from automl_sr.plugin.vectors import decided_by

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry


@dataclass(frozen=True)
class Constant:
    """A field that is not searched; `value` is JSON."""

    value: Any


@dataclass(frozen=True)
class Nested:
    """A nested technique: which ones are allowed in a `Pick`, each with its own fields."""

    slot: Slot
    options: tuple[TechniqueSpace, ...]

    def option(self, name: str) -> TechniqueSpace:
        """Find an option by the technique's name."""
        return next(option for option in self.options if option.name == name)


Domain = Int | Float | Choice | Each | Constant | Nested


@dataclass(frozen=True)
class FieldSpace:
    """One field of a technique in a resolved space; `start` is what trial 0 uses, inside the
    domain.
    """

    name: str
    domain: Domain
    start: Any
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    def needs(self, technique: type[Technique]) -> set[str]:
        """Name the fields of its technique that must be known before this one is asked."""
        if isinstance(self.domain, Each):
            decided = decided_by(technique, self.name, self.domain)
        else:
            decided = set()
        return set(self.when) | decided


@dataclass(frozen=True)
class TechniqueSpace:
    """A technique that may be chosen, with its fields in an order in which they can be asked."""

    technique: type[Technique]
    fields: tuple[FieldSpace, ...]

    @property
    def name(self) -> str:
        """The technique's name."""
        return self.technique.name

    def active(self) -> Iterator[FieldSpace]:
        """Go through the fields that have more than one possible value."""
        return (item for item in self.fields if not is_single(item.domain))


@dataclass(frozen=True)
class SlotSpace:
    """A slot with the techniques that may fill it, in the order in which they were listed."""

    slot: Slot
    options: tuple[TechniqueSpace, ...]
    start: str
    """The technique that trial 0 uses, where the others allow it."""

    def option(self, name: str) -> TechniqueSpace:
        """Find an option by the technique's name."""
        return next(option for option in self.options if option.name == name)


def is_single(domain: Domain) -> bool:
    """Whether there is nothing to choose."""
    match domain:
        case Constant():
            return True
        case Nested(options=options):
            return len(options) == 1 and not any(True for _ in options[0].active())
        case Each():
            return all(is_single(item) for item in domain.ranges())
        case Choice(options=values):
            return len(values) == 1
        case _:
            return domain.low == domain.high


def is_active(item: FieldSpace, values: Mapping[str, Any]) -> bool:
    """Whether the conditions of a field hold, given the values of the active fields before it."""
    return all(other in values and values[other] in allowed for other, allowed in item.when.items())


def each_range(each: Each, change: Callable[[Range], Range]) -> Each:
    """Return a vector with every one of its ranges changed."""
    changed = tuple(map(change, each.item)) if isinstance(each.item, tuple) else change(each.item)
    return replace(each, item=changed)


def widest(each: Each) -> Range:
    """Return the range that holds those of all places of a vector: what a study file may write for
    all of them.
    """
    first, *others = each.ranges()
    if isinstance(first, Choice):
        options = (
            value for item in (first, *others) if isinstance(item, Choice) for value in item.options
        )
        return Choice(*dict.fromkeys(options))
    numbers = [first, *(item for item in others if not isinstance(item, Choice))]
    return between(first, min(item.low for item in numbers), max(item.high for item in numbers))


def between(item: Int | Float, low: float, high: float) -> Int | Float:
    """Return the same kind of range with other ends."""
    if isinstance(item, Int):
        return Int(int(low), int(high), item.step, item.log)
    return Float(float(low), float(high), item.step, item.log)


def on_grid(low: float, high: float, step: float | None) -> float:
    """Return the last value of low, low + step, ... that is not above `high`."""
    if step is None:
        return high
    steps = math.floor((high - low) / step + 1e-9)
    return tidy(low + steps * step)


def tidy(value: float) -> float:
    """Remove the dust of adding up decimal fractions: 0.35000000000000003 becomes 0.35."""
    if isinstance(value, int):
        return value
    return float(f"{value:.12g}")


def snap(domain: Int | Float, value: float) -> float:
    """Return the value of a range that is nearest to a number."""
    clipped = min(max(value, domain.low), domain.high)
    if domain.step is not None:
        clipped = tidy(domain.low + round((clipped - domain.low) / domain.step) * domain.step)
    clipped = min(max(clipped, domain.low), domain.high)
    if isinstance(domain, Int):
        return round(clipped)
    return float(clipped)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of one kind: True is not 1, though 1.0 is."""
    return bool(isinstance(a, bool) == isinstance(b, bool) and a == b)


def start_of(domain: Domain, default: Any) -> Any:
    """Move a field's default into its domain: clipped, snapped, or the first choice listed."""
    match domain:
        case Constant(value=value):
            return value
        case Choice(options=values):
            return next((value for value in values if same(value, default)), values[0])
        case Each(max=most):
            if isinstance(default, list | tuple):
                given = list(default)
            else:
                given = []
            padded = (given + [given[-1] if given else None] * most)[:most]
            return tuple(start_of(domain.at(place), value) for place, value in enumerate(padded))
        case Nested(options=options):
            if any(option.name == default for option in options):
                return default
            return options[0].name
        case _:
            return snap(domain, default if isinstance(default, int | float) else domain.low)


def domain_to_json(domain: Domain) -> dict[str, Any]:
    """Write a domain as JSON."""
    match domain:
        case Constant(value=value):
            return {"fixed": value}
        case Choice(options=values):
            return {"choice": list(values)}
        case Each(item=item, count=count, max=most):
            ranges: Any = (
                [domain_to_json(one) for one in item]
                if isinstance(item, tuple)
                else domain_to_json(item)
            )
            vector = {"each": ranges, "count": count, "max": most}
            if domain.used is None:
                return vector
            return {**vector, "used": domain.used}
        case Nested(slot=slot, options=options):
            return {
                "pick": slot.value,
                "options": [technique_to_json(option) for option in options],
            }
        case Int():
            return {"int": [domain.low, domain.high], "step": domain.step, "log": domain.log}
        case _:
            return {"float": [domain.low, domain.high], "step": domain.step, "log": domain.log}


def domain_from_json(data: Mapping[str, Any], registry: Registry) -> Domain:
    """Read what `domain_to_json` wrote."""
    if "fixed" in data:
        return Constant(data["fixed"])
    if "choice" in data:
        return Choice(*data["choice"])
    if "each" in data:
        stored = data["each"]
        ranges = [
            _range_from_json(item, registry)
            for item in (stored if isinstance(stored, list) else [stored])
        ]
        item = tuple(ranges) if isinstance(stored, list) else ranges[0]
        return Each(item, data["count"], data["max"], data.get("used"))
    if "pick" in data:
        slot = Slot(data["pick"])
        return Nested(
            slot, tuple(technique_from_json(slot, option, registry) for option in data["options"])
        )
    if "int" in data:
        low, high = data["int"]
        return Int(low, high, step=data["step"], log=data["log"])
    low, high = data["float"]
    return Float(low, high, step=data["step"], log=data["log"])


def _range_from_json(data: Mapping[str, Any], registry: Registry) -> Range:
    item = domain_from_json(data, registry)
    if not isinstance(item, Int | Float | Choice):
        raise PluginError(
            f"The stored search space has a vector of {item!r}.", "It was not written by automl-sr."
        )
    return item


def technique_to_json(space: TechniqueSpace) -> dict[str, Any]:
    """Write a technique and its fields as JSON, with its version."""
    fields = []
    for item in space.fields:
        entry = {"name": item.name, "domain": domain_to_json(item.domain), "start": item.start}
        if item.when:
            entry["when"] = {name: list(values) for name, values in item.when.items()}
        fields.append(entry)
    return {"technique": space.name, "version": space.technique.version, "fields": fields}


def technique_from_json(slot: Slot, data: Mapping[str, Any], registry: Registry) -> TechniqueSpace:
    """Read what `technique_to_json` wrote.

    Raises PluginError for a missing technique or another version.
    """
    cls = installed_version(registry, slot, data["technique"], data["version"])
    fields = tuple(
        FieldSpace(
            item["name"],
            domain_from_json(item["domain"], registry),
            tuple(item["start"]) if "each" in item["domain"] else item["start"],
            {name: tuple(values) for name, values in item.get("when", {}).items()},
        )
        for item in data["fields"]
    )
    unknown = []
    for item in fields:
        if item.name not in cls.model_fields:
            unknown.append(item.name)
    if unknown:
        raise PluginError(
            f"The study searches {slot}.{cls.name}.{unknown[0]}, which the installed technique does"
            " not have.",
            "Install the version of the plugin with which the study was begun.",
        )
    return TechniqueSpace(cls, fields)


def installed_version(registry: Registry, slot: Slot, name: str, version: str) -> type[Technique]:
    """Find a technique of a stored study.

    Raises PluginError where it is missing or of another version.
    """
    cls = registry.technique(slot, name)
    if cls.version != version:
        raise PluginError(
            f"The study was begun with version {version} of {slot}.{name}, but version"
            f" {cls.version} is installed.",
            "Install the plugin of that version, or begin a new study under another name.",
        )
    return cls
