"""The search space of one study.

What can be chosen is asked of Optuna step by step, and frozen into plans. Parameters are stored as
`selection`, `selection.loss.keep`, `architecture.cells.ops.0`, `recipe.lr`. Optuna does not let the
choices of a parameter change, so where earlier slots leave only some techniques to a slot, the
stored name says which: `quantization[none|int8_ptq]`. A plan always says `quantization`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import ValidationError

from automl_sr.errors import PluginError, TrialError
from automl_sr.plugin.foreign import Mishap, contained
from automl_sr.plugin.technique import (
    JSON,
    Choice,
    Each,
    Float,
    Int,
    Range,
    SearchField,
    Slot,
    Technique,
    as_json,
    first_error,
    first_value,
    inactive_fields,
    search_fields,
    used_places,
)
from automl_sr.plugin.vectors import has_dead_ends, is_used, places
from automl_sr.space import summary
from automl_sr.space.compatibility import Chosen, Compatibility
from automl_sr.space.domains import (
    Constant,
    FieldSpace,
    Nested,
    SlotSpace,
    TechniqueSpace,
    is_active,
    is_single,
    snap,
    technique_from_json,
    technique_to_json,
)
from automl_sr.space.plan import TrialPlan
from automl_sr.space.section import read_space
from automl_sr.space.summary import Count, Node

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from automl_sr.plugin.registry import Registry

FORMAT = 1


class Suggests(Protocol):
    """The part of an Optuna trial that proposes values."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Choose one of several values."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Choose a whole number."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Choose a number."""


Ask = Callable[[str, Range, Any], Any]
"""Gives the value of a parameter, from its stored name, its domain and what trial 0 uses."""


@dataclass(frozen=True)
class SearchSpace:
    """The slots of one study with everything that may fill them."""

    slots: tuple[SlotSpace, ...]
    registry: Registry

    @classmethod
    def resolve(
        cls, section: Mapping[str, Any] | None, kind: str, registry: Registry
    ) -> SearchSpace:
        """Make the space of a study's `space` section, for a task of this kind.

        Raises StudyFileError.
        """
        slots, _ = read_space(section, kind, registry)
        return cls(slots, registry)

    def to_json(self) -> dict[str, Any]:
        """Write the space as JSON, to be frozen with the study."""
        slots: list[dict[str, Any]] = []
        for slot in self.slots:
            slots.append(
                {
                    "slot": slot.slot.value,
                    "start": slot.start,
                    "options": [technique_to_json(option) for option in slot.options],
                }
            )
        return {"format": FORMAT, "slots": slots}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], registry: Registry) -> SearchSpace:
        """Read what `to_json` wrote.

        Raises PluginError where a technique is missing or of another version.
        """
        if data.get("format") != FORMAT:
            raise PluginError(
                f"The stored search space has format {data.get('format')!r}, this version reads"
                f" {FORMAT}.",
                "Update automl-sr.",
            )
        # In the stored order: earlier slots decide what later ones may choose.
        slots: list[SlotSpace] = []
        for item in data["slots"]:
            slot = Slot(item["slot"])
            options: list[TechniqueSpace] = []
            for option in item["options"]:
                options.append(technique_from_json(slot, option, registry))
            slots.append(SlotSpace(slot, tuple(options), item["start"]))
        return cls(tuple(slots), registry)

    def suggest(self, trial: Suggests) -> TrialPlan:
        """Ask a trial for everything that is active, and freeze the plan.

        Raises TrialError where a technique itself refuses a combination of its fields.
        """
        return self._plan(functools.partial(_suggest, trial))

    def default_params(self) -> dict[str, Any]:
        """Return the parameters of trial 0 by stored name, for `study.enqueue_trial`."""
        found: dict[str, Any] = {}

        def ask(name: str, domain: Range, start: Any) -> Any:
            found[name] = start
            return start

        self._plan(ask)
        return found

    def default_plan(self) -> TrialPlan:
        """Return the plan of trial 0. Raises TrialError where a technique refuses it."""
        return self._plan(lambda name, domain, start: start)

    def parameters(self) -> dict[str, BaseDistribution]:
        """Return the distribution of every parameter that any plan can ask, by stored name."""
        found: dict[str, BaseDistribution] = {}
        for name, domain in self.ranges():
            found[name] = distribution(domain)
        return found

    def count(self) -> Count:
        """Count the plans that can be proposed."""
        domains = [domain for _, domain in self.ranges()]
        return summary.count(
            self.slots,
            self.compatibility,
            domains,
        )

    def tree(self) -> tuple[Node, ...]:
        """Return one node for each slot, with techniques, fields and conditions below it."""
        return summary.tree(self.slots)

    def ranges(self) -> Iterator[tuple[str, Range]]:
        """Go through every parameter that any plan can ask, with its stored name and domain."""
        states = self.compatibility.states()
        for index, slot in enumerate(self.slots):
            # Situations that leave the same techniques share a parameter.
            subsets: dict[tuple[str, ...], None] = {}
            for chosen in states[index]:
                subsets[self._allowed(index, chosen)] = None
            for names in subsets:
                if len(names) > 1:
                    yield stored_name(slot, names), Choice(*names)
            for option in slot.options:
                yield from _ranges(option, prefix_of(slot.slot, option.name))

    def _allowed(self, index: int, chosen: Chosen) -> tuple[str, ...]:
        """Name the techniques that earlier choices leave to a slot."""
        return tuple(option.name for option in self.compatibility.allowed(index, chosen))

    @functools.cached_property
    def compatibility(self) -> Compatibility:
        """Which choices of techniques go together."""
        return Compatibility(self.slots)

    def _plan(self, ask: Ask) -> TrialPlan:
        chosen = Chosen()
        techniques: dict[Slot, Technique] = {}
        walk = _Walk(ask, {})
        for index, slot in enumerate(self.slots):
            names = self._allowed(index, chosen)
            name = names[0]
            # What is decided already is not asked: Optuna would keep a parameter of one value.
            if len(names) > 1:
                start = name
                if slot.start in names:
                    start = slot.start
                name = ask(
                    stored_name(slot, names),
                    Choice(*names),
                    start,
                )
            if not slot.slot.single:
                walk.params[slot.slot.value] = name

            option = slot.option(name)
            prefix = prefix_of(slot.slot, name)
            techniques[slot.slot] = walk.technique(option, prefix)
            chosen = chosen.plus(option.technique)
        return TrialPlan.of(techniques, walk.params)


@dataclass(frozen=True)
class _Walk:
    """Asks the fields of one plan, and notes everything that is active by parameter name."""

    ask: Ask
    params: dict[str, JSON]

    def technique(self, option: TechniqueSpace, prefix: str) -> Technique:
        """Ask the active fields of a technique and make it."""
        cls = option.technique
        specs = {spec.name: spec for spec in search_fields(cls)}
        values: dict[str, Any] = {}
        for item in option.fields:
            if not is_active(item, values):
                continue
            name = f"{prefix}.{item.name}"
            if isinstance(item.domain, Constant):
                values[item.name] = self._fixed(
                    name,
                    item.domain.value,
                    specs[item.name],
                )
            elif isinstance(item.domain, Each):
                known: dict[str, Any] = {}
                for field, spec in specs.items():
                    known[field] = values.get(field, spec.default)
                values[item.name] = self.vector(
                    cls,
                    item,
                    item.domain,
                    name,
                    known,
                )
            elif isinstance(item.domain, Nested):
                values[item.name] = self.nested(
                    item.domain,
                    name,
                    item.start,
                )
            else:
                values[item.name] = self.one(
                    name,
                    item.domain,
                    item.start,
                )

        # What was noted while asking may mean nothing in the canonical form, known only now.
        made = _own(cls, functools.partial(_made, option, values))
        settled = _own(cls, made.canonical)
        if settled is not made or any(_may_hold_dead(cls, spec) for spec in specs.values()):
            self._show(option, prefix, made, settled)
        return settled

    def _fixed(
        self,
        name: str,
        value: JSON,
        spec: SearchField,
    ) -> Any:
        """Note a field that is not searched, and return what its technique is given."""
        self.params.update(flat(name, value))
        # The default itself where it is meant: a nested technique is no JSON.
        if as_json(spec.default) == value:
            return spec.default
        return value

    def vector(
        self,
        owner: type[Technique],
        item: FieldSpace,
        each: Each,
        name: str,
        known: Mapping[str, Any],
    ) -> tuple[Any, ...]:
        """Ask the places of a vector that are used, one after the other."""
        own = _own_marker(owner, item.name) or each
        count = _own(owner, functools.partial(places, owner, each, known))
        found: tuple[Any, ...] = ()
        for place in range(count):
            used = _own(
                owner,
                functools.partial(is_used, owner, item.name, each, known, found),
            )
            if used:
                value = self.one(
                    f"{name}.{place}",
                    each.at(place),
                    item.start[place],
                )
            else:
                # A place that means nothing is the same in all studies, whatever range they
                # leave to it: hence that of the plugin.
                value = first_value(own.at(place))
            found = (*found, value)
        return found

    def _show(
        self,
        option: TechniqueSpace,
        prefix: str,
        asked: Technique,
        settled: Technique,
    ) -> None:
        """Note a technique's fields in the canonical form: without entries that are dead."""
        inactive = inactive_fields(settled)
        for spec in search_fields(option.technique):
            value = as_json(getattr(settled, spec.name))
            changed = value != as_json(getattr(asked, spec.name))
            dead = spec.name in inactive
            if not changed and not dead and not _may_hold_dead(option.technique, spec):
                continue
            name = f"{prefix}.{spec.name}"
            self._forget(name)
            if dead:
                continue
            if isinstance(value, list):
                for place in used_places(settled, spec):
                    self.params.update(flat(f"{name}.{place}", value[place]))
            else:
                self.params.update(flat(name, value))

    def _forget(self, name: str) -> None:
        """Remove a field and what is below it."""
        # With the dot: `ops` is not the beginning of `ops_last`.
        below = f"{name}."
        for key in list(self.params):
            if key == name or key.startswith(below):
                del self.params[key]

    def nested(
        self,
        domain: Nested,
        name: str,
        start: str,
    ) -> Technique:
        """Choose a nested technique and ask its fields."""
        names = tuple(option.name for option in domain.options)
        picked = names[0]
        if len(names) > 1:
            picked = self.ask(name, Choice(*names), start)
        self.params[name] = picked
        return self.technique(domain.option(picked), f"{name}.{picked}")

    def one(self, name: str, domain: Range, start: Any) -> Any:
        """Ask one value, unless there is only one."""
        value: Any
        if not is_single(domain):
            value = self.ask(name, domain, start)
        elif isinstance(domain, Choice):
            value = domain.options[0]
        else:
            value = domain.low
        # Samplers that work with logarithms and steps give back 0.30000000000000004 for 0.3.
        if not isinstance(domain, Choice):
            value = snap(domain, value)
        self.params[name] = value
        return value


def _own_marker(owner: type[Technique], name: str) -> Each | None:
    """Return the vector that a plugin declares under a name, before any study narrowed it."""
    for spec in search_fields(owner):
        if spec.name == name and isinstance(spec.marker, Each):
            return spec.marker
    return None


T = TypeVar("T")


def _own(technique: type[Technique], work: Callable[[], T]) -> T:
    """Return what code of a technique gives. Raises TrialError for whatever it raises."""
    found = contained(work, through=(TrialError,))
    if isinstance(found, Mishap):
        raise TrialError(f"{technique.slot}.{technique.name} cannot be made: {found.reason}.")
    return found


def _may_hold_dead(owner: type[Technique], spec: SearchField) -> bool:
    if not isinstance(spec.marker, Each):
        return False
    return has_dead_ends(owner, spec.marker)


def _made(option: TechniqueSpace, values: Mapping[str, Any]) -> Technique:
    """Return the technique with these fields. Raises TrialError where it refuses them."""
    try:
        return option.technique(**values)
    except ValidationError as error:
        where = f"{option.technique.slot}.{option.name}"
        raise TrialError(
            f"{where} refuses this combination of its fields: {first_error(error)}."
        ) from error


def prefix_of(slot: Slot, technique: str) -> str:
    """Return what the parameters of a technique begin with."""
    if slot.single:
        return slot.value
    return f"{slot.value}.{technique}"


def stored_name(slot: SlotSpace, names: Sequence[str]) -> str:
    """Name the choice of a slot's technique; a choice among some only says among which."""
    if len(names) == len(slot.options):
        return slot.slot.value
    return f"{slot.slot.value}[{'|'.join(names)}]"


def flat(name: str, value: Any) -> dict[str, JSON]:
    """Write a fixed value by parameter name.

    Vectors go place by place, nested techniques field by field.
    """
    found: dict[str, JSON] = {}
    if isinstance(value, list):
        for place, entry in enumerate(value):
            found.update(flat(f"{name}.{place}", entry))
        return found
    if not isinstance(value, dict) or "technique" not in value:
        return {name: value}

    chosen = value["technique"]
    found[name] = chosen
    for field, item in value.items():
        if field != "technique":
            found.update(flat(f"{name}.{chosen}.{field}", item))
    return found


def _suggest(
    trial: Suggests,
    name: str,
    domain: Range,
    _: Any,
) -> Any:
    match domain:
        case Choice(options=options):
            return trial.suggest_categorical(name, list(options))
        case Int():
            return trial.suggest_int(
                name,
                domain.low,
                domain.high,
                step=domain.step,
                log=domain.log,
            )
        case Float():
            return trial.suggest_float(
                name,
                domain.low,
                domain.high,
                step=domain.step,
                log=domain.log,
            )


def _ranges(option: TechniqueSpace, prefix: str) -> Iterator[tuple[str, Range]]:
    """Go through the parameters of one technique."""
    for item in option.fields:
        name = f"{prefix}.{item.name}"
        match item.domain:
            case Constant():
                continue
            case Nested(options=options):
                if len(options) > 1:
                    names = [inner.name for inner in options]
                    yield name, Choice(*names)
                for inner in options:
                    yield from _ranges(inner, f"{name}.{inner.name}")
            case Each(max=most):
                for place in range(most):
                    part = item.domain.at(place)
                    if not is_single(part):
                        yield f"{name}.{place}", part
            case domain:
                if not is_single(domain):
                    yield name, domain


def distribution(domain: Range) -> BaseDistribution:
    """Return Optuna's name for a domain."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match domain:
        case Choice(options=options):
            return CategoricalDistribution(options)
        case Int():
            return IntDistribution(
                domain.low,
                domain.high,
                log=domain.log,
                step=domain.step,
            )
        case Float():
            return FloatDistribution(
                domain.low,
                domain.high,
                log=domain.log,
                step=domain.step,
            )
