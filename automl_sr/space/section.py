"""What a study file asks of the search space: its words, with the installed techniques, become
domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import Fail, KeyPath, PluginError, located, nearest, shown
from automl_sr.plugin.none import Nothing
from automl_sr.plugin.technique import (
    Choice,
    Each,
    Float,
    Int,
    Pick,
    Range,
    SearchField,
    Slot,
    Technique,
    as_json,
    in_order,
    search_fields,
)
from automl_sr.space.compatibility import reachable, why_never
from automl_sr.space.domains import (
    Constant,
    Domain,
    FieldSpace,
    Nested,
    SlotSpace,
    TechniqueSpace,
    between,
    each_range,
    on_grid,
    start_of,
)
from automl_sr.space.field_ranges import Narrower

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry

Lineage = tuple[type[Technique], ...]
"""The techniques around a nested one: none of them is offered inside itself."""


def read_space(
    raw: Mapping[str, Any] | None,
    kind: str,
    registry: Registry,
    fail: Fail = located,
    folder: Path | None = None,
) -> tuple[tuple[SlotSpace, ...], tuple[str, ...]]:
    """Return the slots of a study's space and notes for the person. Raises StudyFileError through
    `fail`.

    `folder` is where relative paths of files begin, the working folder by default.

    Without a `space`, everything that is installed for the task is searched, but for what has to be
    asked for by name. With one, a slot that it leaves out is its baseline with default fields.
    """
    reader = SpaceReader(kind, registry, fail, folder)
    if raw is None:
        slots = reader.everything()
    else:
        slots = reader.asked(raw)
    return reader.fitting(slots), tuple(reader.notes)


class SpaceReader:
    """Reads the `space` of one study."""

    def __init__(
        self, kind: str, registry: Registry, fail: Fail, folder: Path | None = None
    ) -> None:
        self.kind = kind
        self.folder = folder or Path()
        self.registry = registry
        self.fail = fail
        self.notes: list[str] = []
        task = registry.tasks.get(kind)
        self._fixes = {} if task is None else dict(task.fixes)

    def everything(self) -> tuple[SlotSpace, ...]:
        """Search all that is installed, but for what has to be asked for by name."""
        slots = (self._whole_slot(slot, ("space", slot.value)) for slot in self._filled())
        return tuple(slots)

    def asked(self, raw: Any) -> tuple[SlotSpace, ...]:
        """Search what the study file names."""
        if not isinstance(raw, Mapping):
            raise self.fail(
                ("space",),
                f"{shown(raw)} is not a mapping of slots.",
                "Leave `space` out to search everything installed.",
            )
        for name in raw:
            if name not in list(Slot):
                hint = nearest(name, [slot.value for slot in Slot]) or f"Slots: {', '.join(Slot)}."
                raise self.fail(("space", name), f"unknown slot {name!r}.", hint)
        filled = self._filled({Slot(name) for name in raw})
        return tuple(
            (
                self._slot(slot, raw[slot.value], ("space", slot.value))
                if slot.value in raw
                else self._baseline(slot)
            )
            for slot in filled
        )

    def fitting(self, slots: tuple[SlotSpace, ...]) -> tuple[SlotSpace, ...]:
        """Leave out techniques that occur in no complete choice, with a note; refuse a space
        without any.
        """
        kept = []
        names = reachable(slots)
        if not any(names):
            first = next(
                (why_never(slots, o.technique), f"{s.slot}.{o.name}")
                for s in slots
                for o in s.options
                if o.technique.requires or o.technique.conflicts
            )
            raise self.fail(
                ("space",),
                f"no choice of these techniques goes together: of {first[1]}, {first[0]}.",
                "List more techniques.",
            )
        for slot, possible in zip(slots, names, strict=True):
            for option in slot.options:
                if option.name not in possible:
                    reason = why_never(slots, option.technique)
                    self.notes.append(f"{slot.slot}.{option.name} is never offered: {reason}.")
            kept.append(
                self._made(
                    slot.slot, [option for option in slot.options if option.name in possible]
                )
            )
        return tuple(kept)

    def _filled(self, named: set[Slot] | None = None) -> list[Slot]:
        """List the slots that a plugin can fill, and those that the file names, for which something
        must be there.
        """
        named = {Slot.ARCHITECTURE, *(named or set())}
        filled = [
            slot
            for slot in Slot
            if self._fillable(slot) or (slot in named and self._offered(slot, ()))
        ]
        for slot in sorted(named):
            if slot not in filled:
                message = (
                    f"no installed technique of the slot {slot.value!r} serves the task"
                    f" {self.kind!r}."
                )
                raise self.fail(("space", slot.value), message, "See `automl-sr plugins`.")
        return filled

    def _fillable(self, slot: Slot) -> bool:
        """Return whether more than core's `none` is searched in a slot that the file does not
        name.
        """
        return any(
            not issubclass(cls, Nothing) and not cls.asked_only for cls in self._offered(slot, ())
        )

    def _offered(self, slot: Slot, lineage: Lineage) -> list[type[Technique]]:
        """List what may fill a slot, or a `Pick` inside other techniques: the baseline first, then
        by name.
        """
        fitting = []
        for cls in self.registry.techniques[slot].values():
            if self._why_not(cls, lineage) is None:
                fitting.append(cls)
        return sorted(fitting, key=lambda cls: (not cls.baseline, cls.name))

    def _unnamed(self, slot: Slot, path: KeyPath, lineage: Lineage) -> list[type[Technique]]:
        """List what may fill a slot in which the file names nothing."""
        offered = self._offered(slot, lineage)
        found = []
        for cls in offered:
            if not cls.asked_only:
                found.append(cls)
        if not found:
            names = ", ".join(cls.name for cls in offered)
            raise self.fail(
                path,
                f"what is installed for the slot {slot.value!r} is searched only where it is"
                " named.",
                f"Name one or several of: {names}.",
            )
        return found

    def _why_not(self, cls: type[Technique], lineage: Lineage) -> str | None:
        """Say why a technique cannot be used here."""
        if not {self.kind, "*"} & cls.tasks:
            return (
                f"it does not serve the task {self.kind!r}, only"
                f" {', '.join(sorted(cls.tasks)) or 'none'}"
            )
        if cls in lineage:
            return "it cannot be nested in itself"
        if lineage and cls.requires:
            return (
                f"it requires {', '.join(sorted(cls.requires))}, which nothing provides inside"
                f" {lineage[-1].name!r}"
            )
        for spec in search_fields(cls):
            if (
                isinstance(spec.marker, Pick)
                and spec.searched
                and not self._offered(spec.marker.slot, (*lineage, cls))
            ):
                slot = spec.marker.slot.value
                return (
                    f"its field {spec.name!r} needs a technique of the slot {slot!r}, and none is"
                    " installed"
                )
        return None

    def _whole_slot(self, slot: Slot, path: KeyPath) -> SlotSpace:
        return self._made(slot, self._all_of(slot, path, ()))

    def _all_of(self, slot: Slot, path: KeyPath, lineage: Lineage) -> list[TechniqueSpace]:
        """Search what the file need not name, with a note on the rest."""
        unnamed = self._unnamed(slot, path, lineage)
        rest = []
        for cls in self._offered(slot, lineage):
            if cls.asked_only:
                rest.append(cls.name)
        note = f"of {slot.value}, searched only where the study file names it: {', '.join(rest)}."
        if rest and note not in self.notes:
            self.notes.append(note)
        return [self._technique(cls, {}, path, lineage) for cls in unnamed]

    def _baseline(self, slot: Slot) -> SlotSpace:
        cls = self._unnamed(slot, ("space", slot.value), ())[0]
        if slot is Slot.RECIPE:
            fixed = self._fixes
        else:
            fixed = {}
        values = {}
        for spec in search_fields(cls):
            values[spec.name] = fixed.get(spec.name, spec.default)
        fields = tuple(
            self._field(spec, Constant(as_json(values[spec.name])))
            for spec in in_order(search_fields(cls))
        )
        return SlotSpace(slot, (TechniqueSpace(cls, fields),), cls.name)

    @staticmethod
    def _made(slot: Slot, options: list[TechniqueSpace]) -> SlotSpace:
        start = next(
            (option.name for option in options if option.technique.baseline), options[0].name
        )
        return SlotSpace(slot, tuple(options), start)

    def _slot(self, slot: Slot, raw: Any, path: KeyPath) -> SlotSpace:
        if slot.single:
            if not isinstance(raw, Mapping):
                hint = (
                    f"Write its fields directly: `{slot.value}: {{lr: [1e-4, 1e-2]}}`, or `{{}}`"
                    " for its own space."
                )
                raise self.fail(path, f"{shown(raw)} is not a mapping of fields.", hint)
            return self._made(slot, [self._technique(self._offered(slot, ())[0], raw, path, ())])
        return self._made(slot, self._options(slot, raw, path, ()))

    def _options(
        self, slot: Slot, raw: Any, path: KeyPath, lineage: Lineage
    ) -> list[TechniqueSpace]:
        """Read a name, a list of names or a mapping from names to fields."""
        if isinstance(raw, str):
            return [self._technique(self._find(slot, raw, path, lineage), {}, path, lineage)]
        if isinstance(raw, list) and raw:
            for index, name in enumerate(raw):
                if name in raw[:index]:
                    raise self.fail(
                        (*path, index), f"{name!r} is listed twice.", "Keep one of them."
                    )
            found = [
                self._find(slot, name, (*path, index), lineage) for index, name in enumerate(raw)
            ]
            return [self._technique(cls, {}, path, lineage) for cls in found]
        if isinstance(raw, Mapping) and raw:
            return [
                self._technique(
                    self._find(slot, name, (*path, name), lineage), body, (*path, name), lineage
                )
                for name, body in raw.items()
            ]
        if isinstance(raw, Mapping):
            return self._all_of(slot, path, lineage)
        names = ", ".join(cls.name for cls in self._offered(slot, lineage))
        raise self.fail(
            path,
            f"{shown(raw)} names no technique.",
            f"Name one or several of: {names}; or leave the slot out.",
        )

    def _find(self, slot: Slot, name: Any, path: KeyPath, lineage: Lineage) -> type[Technique]:
        known = self.registry.techniques[slot]
        if not isinstance(name, str):
            hint = f"Installed: {', '.join(sorted(known))}."
            if isinstance(name, Mapping):
                hint = (
                    "To say something about fields, write a mapping without dashes: `name: {field:"
                    " ...}`."
                )
            raise self.fail(path, f"{shown(name)} is not the name of a technique.", hint)
        try:
            cls = self.registry.technique(slot, name)
        except PluginError as error:
            if "unavailable" in error.message:
                raise self.fail(path, error.message, error.hint) from None
            hint = f"{nearest(name, known)} Installed: {', '.join(sorted(known))}.".strip()
            raise self.fail(path, f"unknown technique {name!r}.", hint) from None
        reason = self._why_not(cls, lineage)
        if reason:
            raise self.fail(path, f"{name!r} cannot be used here: {reason}.", "")
        return cls

    def _technique(
        self, cls: type[Technique], raw: Any, path: KeyPath, lineage: Lineage
    ) -> TechniqueSpace:
        """Read the fields of one technique; those that are not named keep the plugin's own
        space.
        """
        if raw is None:
            body = {}
        else:
            body = raw
        if not isinstance(body, Mapping):
            hint = (
                f"Write `{cls.name}: {{}}` for its own space, or its fields:"
                f" {', '.join(cls.model_fields) or 'none'}."
            )
            raise self.fail(path, f"{shown(raw)} is not a mapping of fields.", hint)
        for name in body:
            if name not in cls.model_fields:
                if cls.model_fields:
                    known = f"Fields of {cls.name}: {', '.join(cls.model_fields)}."
                else:
                    known = f"{cls.name} has no fields."
                raise self.fail(
                    (*path, name),
                    f"unknown field {name!r}.",
                    f"{nearest(name, cls.model_fields)} {known}".strip(),
                )
        fields = []
        for spec in in_order(search_fields(cls)):
            domain = self._domain(cls, spec, body.get(spec.name, _OWN), (*path, spec.name), lineage)
            fields.append(self._field(spec, domain))
        return TechniqueSpace(cls, tuple(fields))

    @staticmethod
    def _field(spec: SearchField, domain: Domain) -> FieldSpace:
        default = spec.default
        if isinstance(domain, Nested):
            default = getattr(default, "name", default)
        return FieldSpace(spec.name, domain, start_of(domain, default), spec.when)

    def _domain(
        self, cls: type[Technique], spec: SearchField, raw: Any, path: KeyPath, lineage: Lineage
    ) -> Domain:
        marker = spec.marker
        if cls.slot is Slot.RECIPE and spec.name in self._fixes:
            value = self._fixes[spec.name]
            if raw is not _OWN:
                raise self.fail(
                    path, f"the task {self.kind!r} fixes {spec.name!r} at {value}.", "Leave it out."
                )
            return Constant(as_json(value))
        if isinstance(marker, Pick):
            if raw is _OWN and not spec.searched:
                return Constant(as_json(spec.default))
            inner = (*lineage, cls)
            return Nested(
                marker.slot,
                tuple(self._options(marker.slot, {} if raw is _OWN else raw, path, inner)),
            )
        if raw is _OWN or (raw == {} and isinstance(raw, Mapping) and marker is not None):
            searched = None
            if spec.searched or raw is not _OWN:
                searched = marker
            if searched is None:
                return Constant(as_json(spec.default))
            return even(searched)
        narrower = Narrower(cls, spec, self.fail)
        domain = narrower.read(raw, path)
        self.notes += narrower.notes
        if spec.is_file:
            return self._with_files(domain, path)
        return domain

    def _with_files(self, domain: Domain, path: KeyPath) -> Domain:
        """Write the paths of files in full, so that they are found wherever the study goes on."""
        match domain:
            case Constant(value=str(name)):
                return Constant(self._file(name, path))
            case Choice(options=names):
                return Choice(
                    *(self._file(str(name), (*path, place)) for place, name in enumerate(names))
                )
        return domain

    def _file(self, name: str, path: KeyPath) -> str:
        if not name:
            return name
        found = self.folder / name
        if not found.is_file():
            raise self.fail(
                path, f"there is no file {found}.", "A relative path begins beside the study file."
            )
        return str(found.resolve())


_OWN = object()
"""Stands for a field that the study file does not name."""


def even(marker: Int | Float | Choice | Each) -> Int | Float | Choice | Each:
    """End a range on its last step, so that its bounds can be reached."""
    if isinstance(marker, Each):
        return each_range(marker, _even)
    return _even(marker)


def _even(item: Range) -> Range:
    if isinstance(item, Choice):
        return item
    return between(item, item.low, on_grid(item.low, item.high, item.step))
