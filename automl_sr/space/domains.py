"""The values that the dimensions of a resolved space can take, and their form in JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
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
        return _named(self.options, name)


Domain = Int | Float | Choice | Each | Constant | Nested


@dataclass(frozen=True)
class FieldSpace:
    """One field of a technique in a resolved space."""

    name: str
    domain: Domain
    start: Any
    """What trial 0 uses, inside the domain."""
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    def needs(self, technique: type[Technique]) -> set[str]:
        """Name the fields of its technique that must be known before this one is asked."""
        names = set(self.when)
        if isinstance(self.domain, Each):
            names |= decided_by(
                technique,
                self.name,
                self.domain,
            )
        return names


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
        for item in self.fields:
            if not is_single(item.domain):
                yield item


@dataclass(frozen=True)
class SlotSpace:
    """A slot with the techniques that may fill it, in the order in which they were listed."""

    slot: Slot
    options: tuple[TechniqueSpace, ...]
    start: str
    """The technique that trial 0 uses, where the others allow it."""

    def option(self, name: str) -> TechniqueSpace:
        """Find an option by the technique's name."""
        return _named(self.options, name)


def _named(options: Iterable[TechniqueSpace], name: str) -> TechniqueSpace:
    return next(option for option in options if option.name == name)


def is_single(domain: Domain) -> bool:
    """Whether there is nothing to choose."""
    match domain:
        case Constant():
            return True
        case Nested(options=options):
            if len(options) > 1:
                return False
            # A single technique may still have fields that are searched.
            return next(options[0].active(), None) is None
        case Each():
            return all(is_single(item) for item in domain.ranges())
        case Choice(options=values):
            return len(values) == 1
        case _:
            return domain.low == domain.high


def is_active(item: FieldSpace, values: Mapping[str, Any]) -> bool:
    """Whether the conditions of a field hold, given the values of the active fields before it."""
    for other, allowed in item.when.items():
        # A field that is not there is inactive itself, and what depends on it is too.
        if other not in values or values[other] not in allowed:
            return False
    return True


def each_range(each: Each, change: Callable[[Range], Range]) -> Each:
    """Return a vector with every one of its ranges changed."""
    if not isinstance(each.item, tuple):
        return replace(each, item=change(each.item))
    changed = tuple(map(change, each.item))
    return replace(each, item=changed)


def widest(each: Each) -> Range:
    """Return the range that holds those of all places of a vector.

    It is what a study file may write for all of them.
    """
    ranges = each.ranges()
    first = ranges[0]
    if isinstance(first, Choice):
        # Without repeats, in the order in which places list them.
        options: dict[Scalar, None] = {}
        for item in ranges:
            if isinstance(item, Choice):
                options.update(dict.fromkeys(item.options))
        return Choice(*options)

    low: float = first.low
    high: float = first.high
    for item in ranges:
        if not isinstance(item, Choice):
            low = min(low, item.low)
            high = max(high, item.high)
    return between(first, low, high)


def between(
    item: Int | Float,
    low: float,
    high: float,
) -> Int | Float:
    """Return the same kind of range with other ends."""
    if isinstance(item, Int):
        return Int(int(low), int(high), item.step, item.log)
    return Float(float(low), float(high), item.step, item.log)


def on_grid(
    low: float,
    high: float,
    step: float | None,
) -> float:
    """Return the last value of low, low + step, ... that is not above `high`."""
    if step is None:
        return high
    # (0.3 - 0) / 0.1 is 2.9999999999999996: an end that lies on the grid must not be lost.
    steps = math.floor((high - low) / step + 1e-9)
    return tidy(low + steps * step)


def tidy(value: float) -> float:
    """Remove the dust of adding up decimal fractions: 0.35000000000000003 becomes 0.35."""
    if isinstance(value, int):
        return value
    return float(f"{value:.12g}")


def snap(domain: Int | Float, value: float) -> float:
    """Return the value of a range that is nearest to a number."""
    nearest = min(max(value, domain.low), domain.high)
    if domain.step is not None:
        steps = round((nearest - domain.low) / domain.step)
        nearest = tidy(domain.low + steps * domain.step)
    # Again: where the range does not end on a step, the nearest step may lie outside it.
    nearest = min(max(nearest, domain.low), domain.high)
    if isinstance(domain, Int):
        return round(nearest)
    return float(nearest)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of one kind."""
    # True is not 1, though Python says so; 1.0 is.
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    return bool(a == b)


def start_of(domain: Domain, default: Any) -> Any:
    """Move a field's default into its domain: clipped, snapped, or the first choice listed."""
    match domain:
        case Constant(value=value):
            return value
        case Choice(options=values):
            for value in values:
                if same(value, default):
                    return value
            return values[0]
        case Each():
            return _start_of_vector(domain, default)
        case Nested(options=options):
            names = [option.name for option in options]
            if default in names:
                return default
            return names[0]
        case _:
            if isinstance(default, int | float):
                return snap(domain, default)
            return snap(domain, domain.low)


def _start_of_vector(domain: Each, default: Any) -> tuple[Any, ...]:
    """Move each place of a default into its range; the last one stands for those behind it."""
    given: list[Any] = []
    if isinstance(default, list | tuple):
        given = list(default)
    found: list[Any] = []
    value: Any = None
    for place in range(domain.max):
        if place < len(given):
            value = given[place]
        found.append(start_of(domain.at(place), value))
    return tuple(found)


def domain_to_json(domain: Domain) -> dict[str, Any]:
    """Write a domain as JSON."""
    match domain:
        case Constant(value=value):
            return {"fixed": value}
        case Choice(options=values):
            return {"choice": list(values)}
        case Each():
            return _vector_to_json(domain)
        case Nested(slot=slot, options=options):
            techniques = [technique_to_json(option) for option in options]
            return {"pick": slot.value, "options": techniques}
        case Int():
            return {
                "int": [domain.low, domain.high],
                "step": domain.step,
                "log": domain.log,
            }
        case _:
            return {
                "float": [domain.low, domain.high],
                "step": domain.step,
                "log": domain.log,
            }


def _vector_to_json(domain: Each) -> dict[str, Any]:
    ranges: Any
    if isinstance(domain.item, tuple):
        ranges = [domain_to_json(item) for item in domain.item]
    else:
        ranges = domain_to_json(domain.item)
    vector = {
        "each": ranges,
        "count": domain.count,
        "max": domain.max,
    }
    # Left out where there is none: what was stored before there was `used` stays as it is.
    if domain.used is not None:
        vector["used"] = domain.used
    return vector


def domain_from_json(data: Mapping[str, Any], registry: Registry) -> Domain:
    """Read what `domain_to_json` wrote."""
    if "fixed" in data:
        return Constant(data["fixed"])
    if "choice" in data:
        return Choice(*data["choice"])
    if "each" in data:
        return _vector_from_json(data, registry)
    if "pick" in data:
        slot = Slot(data["pick"])
        options: list[TechniqueSpace] = []
        for option in data["options"]:
            options.append(technique_from_json(slot, option, registry))
        return Nested(slot, tuple(options))
    if "int" in data:
        low, high = data["int"]
        return Int(low, high, step=data["step"], log=data["log"])
    low, high = data["float"]
    return Float(low, high, step=data["step"], log=data["log"])


def _vector_from_json(data: Mapping[str, Any], registry: Registry) -> Each:
    stored = data["each"]
    item: Range | tuple[Range, ...]
    if isinstance(stored, list):
        item = tuple(_range_from_json(one, registry) for one in stored)
    else:
        item = _range_from_json(stored, registry)
    return Each(
        item,
        data["count"],
        data["max"],
        data.get("used"),
    )


def _range_from_json(data: Mapping[str, Any], registry: Registry) -> Range:
    item = domain_from_json(data, registry)
    if not isinstance(item, Int | Float | Choice):
        raise PluginError(
            f"The stored search space has a vector of {item!r}.", "It was not written by automl-sr."
        )
    return item


def technique_to_json(space: TechniqueSpace) -> dict[str, Any]:
    """Write a technique and its fields as JSON, with its version."""
    fields: list[dict[str, Any]] = []
    for item in space.fields:
        entry = {
            "name": item.name,
            "domain": domain_to_json(item.domain),
            "start": item.start,
        }
        if item.when:
            entry["when"] = {name: list(values) for name, values in item.when.items()}
        fields.append(entry)
    return {
        "technique": space.name,
        "version": space.technique.version,
        "fields": fields,
    }


def technique_from_json(
    slot: Slot,
    data: Mapping[str, Any],
    registry: Registry,
) -> TechniqueSpace:
    """Read what `technique_to_json` wrote.

    Raises PluginError for a missing technique or another version.
    """
    cls = installed_version(
        registry,
        slot,
        data["technique"],
        data["version"],
    )
    fields: list[FieldSpace] = []
    for entry in data["fields"]:
        fields.append(_field_from_json(entry, registry))
    # A plugin that is being written changes without a new version.
    for item in fields:
        if item.name not in cls.model_fields:
            raise PluginError(
                f"The study searches {slot}.{cls.name}.{item.name}, which the installed technique"
                " does not have.",
                "Install the version of the plugin with which the study was begun.",
            )
    return TechniqueSpace(cls, tuple(fields))


def _field_from_json(data: Mapping[str, Any], registry: Registry) -> FieldSpace:
    domain = domain_from_json(data["domain"], registry)
    # JSON has lists alone; what techniques hold and plans compare are tuples.
    start = data["start"]
    if isinstance(domain, Each):
        start = tuple(start)
    when: dict[str, tuple[Scalar, ...]] = {}
    for name, values in data.get("when", {}).items():
        when[name] = tuple(values)
    return FieldSpace(data["name"], domain, start, when)


def installed_version(
    registry: Registry,
    slot: Slot,
    name: str,
    version: str,
) -> type[Technique]:
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
