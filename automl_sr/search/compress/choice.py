"""What is asked of one compression: techniques by slot and their fields, as a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import (
    KeyPath,
    StudyFileError,
    TrialError,
    UseError,
    nearest,
    shown,
)
from automl_sr.plugin.from_file import FromFile
from automl_sr.plugin.technique import Each, Slot, Technique, search_fields
from automl_sr.space.field_ranges import FIXED
from automl_sr.space.search_space import SearchSpace
from automl_sr.space.section import read_space
from automl_sr.study.yaml_lines import parse

if TYPE_CHECKING:
    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.technique import SearchField
    from automl_sr.space.plan import TrialPlan

CHOSEN = (Slot.TEACHER, Slot.PRUNING, Slot.QUANTIZATION)
"""The slots that a compression fills; the recipe's fields can be set besides."""
Fields = dict[str, Any]


@dataclass(frozen=True)
class Techniques:
    """Which technique fills which slot, and what is set of them and of the recipe.

    settings: `pruning.l1.ratio` or `recipe.batch`, with values as YAML.
    """

    names: Mapping[Slot, str]
    settings: Sequence[tuple[str, str]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe, below those in `settings`."""

    def check(self) -> None:
        """Raise UseError where nothing is chosen, or a setting is of no chosen technique."""
        if not self.names:
            raise UseError(
                "Nothing is chosen that could compress the model.",
                "Name a technique with --pruning, --quantization or --teacher;"
                " `automl-sr plugins` lists them.",
            )
        for key, _ in self.settings:
            self._place(key)

    def plan(
        self,
        weights: Path,
        blueprint: Blueprint,
        kind: str,
        registry: Registry,
    ) -> TrialPlan:
        """Return the plan that begins with a model's file and does what is chosen.

        Raises UseError, in the words of the command line, for an unknown technique or field, a
        value that it does not take, or techniques that do not go together.
        """
        self.check()
        section: dict[str, Any] = {
            Slot.ARCHITECTURE.value: {FromFile.name: {"weights": str(weights.resolve())}}
        }
        for slot in CHOSEN:
            if slot in self.names:
                name = self.names[slot]
                fields = self._fields(slot, name, registry)
                section[slot.value] = {name: fields}
        section[Slot.RECIPE.value] = self._recipe(kind, registry)

        known = with_capabilities(registry, blueprint)
        slots, _ = read_space(section, kind, known, _told)
        try:
            return SearchSpace(slots, known).default_plan()
        except TrialError as error:  # a technique refuses what its fields are together
            raise UseError(error.message, error.hint) from error

    def _recipe(self, kind: str, registry: Registry) -> Fields:
        fixed: Mapping[str, Any] = {}
        if kind in registry.tasks:
            fixed = registry.tasks[kind].fixes
        fields: Fields = {}
        for name, value in self.recipe.items():
            # What the task fixes may not be said again.
            if name not in fixed:
                fields[name] = value
        fields.update(self._fields(Slot.RECIPE, Slot.RECIPE.value, registry))
        return fields

    def _fields(self, slot: Slot, name: str, registry: Registry) -> Fields:
        """Return what is set of one technique, as a study file says it."""
        markers: dict[str, SearchField] = {}
        cls = registry.techniques[slot].get(name)
        if cls is not None:  # else `read_space` says what there is
            markers = {spec.name: spec for spec in search_fields(cls)}
        fields: Fields = {}
        for key, text in self.settings:
            place, field_name = self._place(key)
            if place is not slot:
                continue
            if field_name in fields:
                raise UseError(f"--set {key} is given twice.", "Leave one of them out.")
            value, _ = parse(text, f"--set {key}")
            fields[field_name] = _single(key, value, markers.get(field_name))
        return fields

    def _place(self, key: str) -> tuple[Slot, str]:
        """Return the slot and the field of `pruning.l1.ratio`. Raises UseError."""
        slot_name, *rest = key.split(".")
        slots = [slot.value for slot in (*CHOSEN, Slot.RECIPE)]
        if slot_name not in slots:
            raise UseError(
                f"--set {key}: unknown slot {slot_name!r}.",
                f"{nearest(slot_name, slots)} Slots: {', '.join(slots)}.".strip(),
            )
        slot = Slot(slot_name)
        if slot is Slot.RECIPE:
            rest = [slot.value, *rest]
        if len(rest) != 2 or not all(rest):
            raise UseError(
                f"--set {key} names no field of a technique.",
                "Write --set SLOT.TECHNIQUE.FIELD=VALUE, or --set recipe.FIELD=VALUE.",
            )
        technique, field_name = rest
        chosen = self.names.get(slot, "none")
        if slot is not Slot.RECIPE and technique != chosen:
            raise UseError(
                f"--set {key}: the {slot.value} is {chosen!r}, not {technique!r}.",
                f"Write --{slot.value} {technique}, or leave the setting out.",
            )
        return slot, field_name


def with_capabilities(registry: Registry, blueprint: Blueprint) -> Registry:
    """Return a registry in which `from_file` provides what the model's architecture does.

    Techniques that require or exclude something of the net then fit as they do in a search.
    """
    owner: type[Technique] | None = None
    for cls in registry.techniques[Slot.ARCHITECTURE].values():
        if blueprint.factory in cls.factories:
            owner = cls
            break
    if owner is None:
        return registry
    return registry.with_technique(_like(owner))


def _like(owner: type[Technique]) -> type[Technique]:
    """Return `from_file` with the capabilities of an architecture."""

    class OfArchitecture(FromFile):
        __doc__ = FromFile.__doc__
        provides = owner.provides
        conflicts = owner.conflicts

    return OfArchitecture


def _single(key: str, value: Any, spec: SearchField | None) -> Any:
    """Return a value as a study file fixes it. Raises UseError for a range: nothing is searched."""
    if spec is None or spec.marker is None:
        return value
    if isinstance(spec.marker, Each):
        return {FIXED: value}
    if isinstance(value, list):
        raise UseError(f"--set {key}: {shown(value)} is several values.", "Write one value.")
    if isinstance(value, Mapping) and set(value) & {"low", "high"}:
        raise UseError(f"--set {key}: {shown(value)} is a range.", "Write one value.")
    return value


def _told(path: KeyPath, message: str, hint: str = "") -> StudyFileError:
    """Say what is wrong with a place of the space in the words of the command line."""
    words = [str(part) for part in path[1:] if part != FIXED]
    return StudyFileError(f"{_option(words)}{message}", hint)


def _option(words: Sequence[str]) -> str:
    """Return the option by which a place of the space was given."""
    if not words:
        return ""
    is_field = len(words) > 2 or words[0] == Slot.RECIPE
    if is_field:
        return f"--set {'.'.join(words)}: "
    return f"--{' '.join(words)}: "
