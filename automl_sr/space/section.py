"""What a study file asks of the search space.

Its words, with the installed techniques, become domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import Fail, KeyPath, PluginError, StudyFileError, located, nearest, shown
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


@dataclass(frozen=True)
class Lineage:
    """What stands around a nested technique; nothing does around one that fills a slot."""

    techniques: tuple[type[Technique], ...] = ()
    """None of them is offered inside itself."""
    pick: Pick | None = None
    """The field of the last of them, which may ask for some capabilities."""

    def inside(self, cls: type[Technique], pick: Pick) -> Lineage:
        """Go into a field of one more technique."""
        return Lineage((*self.techniques, cls), pick)

    def why_not(self, cls: type[Technique]) -> str | None:
        """Say why a technique is not offered here."""
        if self.pick is None:
            return None
        outer = self.techniques[-1]
        if cls in self.techniques:
            return "it cannot be nested in itself"
        if issubclass(cls, Nothing) and outer.slot is cls.slot:
            return f"it does nothing, and {outer.name!r} is there already"
        # What a nested technique provides does not count, so that nothing can meet a requirement.
        if cls.requires:
            required = _words(cls.requires)
            return f"it requires {required}, which nothing provides inside {outer.name!r}"
        missing = self.pick.provides - cls.provides
        if missing:
            return f"it does not provide {_words(missing)}, which {outer.name!r} asks for here"
        excluded = self.pick.lacks & cls.provides
        if excluded:
            return f"it provides {_words(excluded)}, which {outer.name!r} excludes here"
        return None


OUTERMOST = Lineage()


def _words(capabilities: frozenset[str]) -> str:
    return ", ".join(sorted(capabilities))


def read_space(
    raw: Mapping[str, Any] | None,
    kind: str,
    registry: Registry,
    fail: Fail = located,
    folder: Path | None = None,
) -> tuple[tuple[SlotSpace, ...], tuple[str, ...]]:
    """Return the slots of a study's space and notes for the person.

    Without a `space`, everything that is installed for the task is searched, but for what has to be
    asked for by name. With one, a slot that it leaves out is its baseline with default fields.
    `folder` is where relative paths of files begin, the working folder by default. Raises
    StudyFileError through `fail`.
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
        self._fixes: dict[str, Any] = {}
        task = registry.tasks.get(kind)
        if task is not None:
            self._fixes = dict(task.fixes)

    def everything(self) -> tuple[SlotSpace, ...]:
        """Search all that is installed, but for what has to be asked for by name."""
        return tuple(self._whole_slot(slot, ("space", slot.value)) for slot in self._filled())

    def asked(self, raw: Any) -> tuple[SlotSpace, ...]:
        """Search what the study file names."""
        if not isinstance(raw, Mapping):
            raise self.fail(
                ("space",),
                f"{shown(raw)} is not a mapping of slots.",
                "Leave `space` out to search everything installed.",
            )
        named: set[Slot] = set()
        for name in raw:
            if name not in list(Slot):
                hint = nearest(name, [slot.value for slot in Slot]) or f"Slots: {', '.join(Slot)}."
                raise self.fail(
                    ("space", name),
                    f"unknown slot {name!r}.",
                    hint,
                )
            named.add(Slot(name))

        slots: list[SlotSpace] = []
        for slot in self._filled(named):
            if slot in named:
                slots.append(self._slot(slot, raw[slot.value], ("space", slot.value)))
            else:
                slots.append(self._baseline(slot))
        return tuple(slots)

    def fitting(self, slots: tuple[SlotSpace, ...]) -> tuple[SlotSpace, ...]:
        """Leave out techniques that occur in no complete choice, with a note.

        A space without any complete choice is refused.
        """
        names = reachable(slots)
        if not any(names):
            raise self._fits_nothing(slots)
        found: list[SlotSpace] = []
        for slot, possible in zip(slots, names, strict=True):
            kept: list[TechniqueSpace] = []
            for option in slot.options:
                if option.name in possible:
                    kept.append(option)
                    continue
                reason = why_never(slots, option.technique)
                self.notes.append(f"{slot.slot}.{option.name} is never offered: {reason}.")
            found.append(self._made(slot.slot, kept))
        return tuple(found)

    def _fits_nothing(self, slots: tuple[SlotSpace, ...]) -> StudyFileError:
        """Make the error of a space without a complete choice, with one technique as an example."""
        examples: list[str] = []
        for slot in slots:
            for option in slot.options:
                if option.technique.requires or option.technique.conflicts:
                    why = why_never(slots, option.technique)
                    examples.append(f"of {slot.slot}.{option.name}, {why}")
        return self.fail(
            ("space",),
            f"no choice of these techniques goes together: {examples[0]}.",
            "List more techniques.",
        )

    def _filled(self, named: set[Slot] | None = None) -> list[Slot]:
        """List the slots that are searched, in the order of the pipeline.

        They are those that a plugin can fill, and those that the file names.
        """
        # There is nothing to train without an architecture.
        needed = {Slot.ARCHITECTURE}
        if named is not None:
            needed |= named
        filled: list[Slot] = []
        for slot in Slot:
            # Core's `none` alone makes no slot, but may be named.
            if self._fillable(slot) or (slot in needed and self._offered(slot, OUTERMOST)):
                filled.append(slot)
        missing = needed - set(filled)
        if missing:
            slot = min(missing)
            raise self.fail(
                ("space", slot.value),
                f"no installed technique of the slot {slot.value!r} serves the task {self.kind!r}.",
                "See `automl-sr plugins`.",
            )
        return filled

    def _fillable(self, slot: Slot) -> bool:
        """Return whether a slot that the file does not name is searched.

        It is where there is more than core's `none`.
        """
        for cls in self._offered(slot, OUTERMOST):
            if cls.asked_only or issubclass(cls, Nothing):
                continue
            return True
        return False

    def _offered(self, slot: Slot, lineage: Lineage) -> list[type[Technique]]:
        """List what may fill a slot, or a `Pick` inside other techniques.

        The baseline comes first, then the others by name.
        """
        fitting: list[type[Technique]] = []
        for cls in self.registry.techniques[slot].values():
            if self._why_not(cls, lineage) is None:
                fitting.append(cls)
        # By name, since the order of choices is stored with a study, and that of entry points
        # changes with what else is installed.
        return sorted(fitting, key=lambda cls: (not cls.baseline, cls.name))

    def _unnamed(self, slot: Slot, path: KeyPath, lineage: Lineage) -> list[type[Technique]]:
        """List what may fill a slot in which the file names nothing."""
        offered = self._offered(slot, lineage)
        found: list[type[Technique]] = []
        for cls in offered:
            if not cls.asked_only:
                found.append(cls)
        if found:
            return found
        names = ", ".join(cls.name for cls in offered)
        raise self.fail(
            path,
            f"what is installed for the slot {slot.value!r} is searched only where it is named.",
            f"Name one or several of: {names}.",
        )

    def _why_not(self, cls: type[Technique], lineage: Lineage) -> str | None:
        """Say why a technique cannot be used here."""
        if not {self.kind, "*"} & cls.tasks:
            served = ", ".join(sorted(cls.tasks)) or "none"
            return f"it does not serve the task {self.kind!r}, only {served}"
        reason = lineage.why_not(cls)
        if reason is not None:
            return reason
        for spec in search_fields(cls):
            if not isinstance(spec.marker, Pick) or not spec.searched:
                continue
            slot = spec.marker.slot
            if not self._offered(slot, lineage.inside(cls, spec.marker)):
                return (
                    f"its field {spec.name!r} needs a technique of the slot {slot.value!r}, and"
                    " none that fits is installed"
                )
        return None

    def _whole_slot(self, slot: Slot, path: KeyPath) -> SlotSpace:
        return self._made(slot, self._all_of(slot, path, OUTERMOST))

    def _all_of(self, slot: Slot, path: KeyPath, lineage: Lineage) -> list[TechniqueSpace]:
        """Search what the file need not name, with a note on the rest."""
        unnamed = self._unnamed(slot, path, lineage)
        rest: list[str] = []
        for cls in self._offered(slot, lineage):
            if cls.asked_only:
                rest.append(cls.name)
        note = f"of {slot.value}, searched only where the study file names it: {', '.join(rest)}."
        # Once, though a slot may be nested in several techniques.
        if rest and note not in self.notes:
            self.notes.append(note)
        return self._whole(unnamed, path, lineage)

    def _baseline(self, slot: Slot) -> SlotSpace:
        """Return a slot that the file leaves out: its baseline, and nothing of it searched."""
        # The baseline comes first among what is offered; without one, the first by name.
        cls = self._unnamed(slot, ("space", slot.value), OUTERMOST)[0]
        fixed: Mapping[str, Any] = {}
        if slot is Slot.RECIPE:
            fixed = self._fixes
        fields: list[FieldSpace] = []
        for spec in in_order(search_fields(cls)):
            value = fixed.get(spec.name, spec.default)
            fields.append(self._field(spec, Constant(as_json(value))))
        return SlotSpace(
            slot,
            (TechniqueSpace(cls, tuple(fields)),),
            cls.name,
        )

    @staticmethod
    def _made(slot: Slot, options: list[TechniqueSpace]) -> SlotSpace:
        start = options[0].name
        for option in options:
            if option.technique.baseline:
                start = option.name
                break
        return SlotSpace(slot, tuple(options), start)

    def _slot(
        self,
        slot: Slot,
        raw: Any,
        path: KeyPath,
    ) -> SlotSpace:
        if not slot.single:
            return self._made(slot, self._options(slot, raw, path, OUTERMOST))
        if not isinstance(raw, Mapping):
            hint = (
                f"Write its fields directly: `{slot.value}: {{lr: [1e-4, 1e-2]}}`, or `{{}}`"
                " for its own space."
            )
            raise self.fail(
                path,
                f"{shown(raw)} is not a mapping of fields.",
                hint,
            )
        only = self._offered(slot, OUTERMOST)[0]
        return self._made(slot, [self._technique(only, raw, path, OUTERMOST)])

    def _options(
        self,
        slot: Slot,
        raw: Any,
        path: KeyPath,
        lineage: Lineage,
    ) -> list[TechniqueSpace]:
        """Read a name, a list of names or a mapping from names to fields."""
        if isinstance(raw, str):
            cls = self._find(slot, raw, path, lineage)
            return self._whole([cls], path, lineage)
        if isinstance(raw, list) and raw:
            return self._whole(
                self._listed(slot, raw, path, lineage),
                path,
                lineage,
            )
        if isinstance(raw, Mapping) and raw:
            found: list[TechniqueSpace] = []
            for name, body in raw.items():
                here = (*path, name)
                cls = self._find(slot, name, here, lineage)
                found.append(self._technique(cls, body, here, lineage))
            return found

        if isinstance(raw, Mapping):
            return self._all_of(slot, path, lineage)
        names = ", ".join(cls.name for cls in self._offered(slot, lineage))
        raise self.fail(
            path,
            f"{shown(raw)} names no technique.",
            f"Name one or several of: {names}; or leave the slot out.",
        )

    def _listed(
        self,
        slot: Slot,
        names: list[Any],
        path: KeyPath,
        lineage: Lineage,
    ) -> list[type[Technique]]:
        """Find the techniques of a list of names."""
        for index, name in enumerate(names):
            if name in names[:index]:
                raise self.fail(
                    (*path, index),
                    f"{name!r} is listed twice.",
                    "Keep one of them.",
                )
        found: list[type[Technique]] = []
        for index, name in enumerate(names):
            found.append(self._find(slot, name, (*path, index), lineage))
        return found

    def _whole(
        self,
        techniques: list[type[Technique]],
        path: KeyPath,
        lineage: Lineage,
    ) -> list[TechniqueSpace]:
        """Take techniques with the space that each plugin declares."""
        return [self._technique(cls, {}, path, lineage) for cls in techniques]

    def _find(
        self,
        slot: Slot,
        name: Any,
        path: KeyPath,
        lineage: Lineage,
    ) -> type[Technique]:
        known = self.registry.techniques[slot]
        installed = f"Installed: {', '.join(sorted(known))}."
        if not isinstance(name, str):
            hint = installed
            # `- loss: {keep: 0.5}` is YAML for a list of mappings.
            if isinstance(name, Mapping):
                hint = (
                    "To say something about fields, write a mapping without dashes: `name: {field:"
                    " ...}`."
                )
            raise self.fail(
                path,
                f"{shown(name)} is not the name of a technique.",
                hint,
            )
        try:
            cls = self.registry.technique(slot, name)
        except PluginError as error:
            # The plugin is there, but could not be loaded: that says more than what else there is.
            if "unavailable" in error.message:
                raise self.fail(
                    path,
                    error.message,
                    error.hint,
                ) from None
            hint = f"{nearest(name, known)} {installed}".strip()
            raise self.fail(
                path,
                f"unknown technique {name!r}.",
                hint,
            ) from None
        reason = self._why_not(cls, lineage)
        if reason:
            raise self.fail(
                path,
                f"{name!r} cannot be used here: {reason}.",
                "",
            )
        return cls

    def _technique(
        self,
        cls: type[Technique],
        raw: Any,
        path: KeyPath,
        lineage: Lineage,
    ) -> TechniqueSpace:
        """Read the fields of one technique.

        Those that are not named keep the plugin's own space.
        """
        body = raw
        # `loss:` with nothing behind it is null in YAML.
        if raw is None:
            body = {}
        if not isinstance(body, Mapping):
            hint = (
                f"Write `{cls.name}: {{}}` for its own space, or its fields:"
                f" {', '.join(cls.model_fields) or 'none'}."
            )
            raise self.fail(
                path,
                f"{shown(raw)} is not a mapping of fields.",
                hint,
            )
        for name in body:
            if name not in cls.model_fields:
                raise self._unknown_field(cls, name, path)

        fields: list[FieldSpace] = []
        for spec in in_order(search_fields(cls)):
            asked = body.get(spec.name, _OWN)
            domain = self._domain(
                cls,
                spec,
                asked,
                (*path, spec.name),
                lineage,
            )
            fields.append(self._field(spec, domain))
        return TechniqueSpace(cls, tuple(fields))

    def _unknown_field(self, cls: type[Technique], name: Any, path: KeyPath) -> StudyFileError:
        known = f"{cls.name} has no fields."
        if cls.model_fields:
            known = f"Fields of {cls.name}: {', '.join(cls.model_fields)}."
        # The guess first, since lists of fields are long.
        guess = nearest(name, cls.model_fields)
        return self.fail(
            (*path, name),
            f"unknown field {name!r}.",
            f"{guess} {known}".strip(),
        )

    @staticmethod
    def _field(spec: SearchField, domain: Domain) -> FieldSpace:
        default = spec.default
        if isinstance(domain, Nested):
            default = getattr(default, "name", default)
        return FieldSpace(
            spec.name,
            domain,
            start_of(domain, default),
            spec.when,
        )

    def _domain(
        self,
        cls: type[Technique],
        spec: SearchField,
        raw: Any,
        path: KeyPath,
        lineage: Lineage,
    ) -> Domain:
        own = raw is _OWN
        if cls.slot is Slot.RECIPE and spec.name in self._fixes:
            value = self._fixes[spec.name]
            if not own:
                raise self.fail(
                    path, f"the task {self.kind!r} fixes {spec.name!r} at {value}.", "Leave it out."
                )
            return Constant(as_json(value))
        if own and not spec.searched:
            return Constant(as_json(spec.default))

        marker = spec.marker
        if isinstance(marker, Pick):
            asked = raw
            if own:
                asked = {}
            options = self._options(
                marker.slot,
                asked,
                path,
                lineage.inside(cls, marker),
            )
            return Nested(marker.slot, tuple(options))
        # `{}` opens a field to the plugin's own range, also one that it does not search by itself.
        if marker is not None and (own or raw == {}):
            return even(marker)

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
                files: list[str] = []
                for place, option in enumerate(names):
                    files.append(self._file(str(option), (*path, place)))
                return Choice(*files)
        return domain

    def _file(self, name: str, path: KeyPath) -> str:
        # Empty text means no file.
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
    last = on_grid(item.low, item.high, item.step)
    return between(item, item.low, last)
