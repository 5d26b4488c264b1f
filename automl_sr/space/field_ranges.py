"""What a study file may write for one field: a value, a range, or the allowed values of a
choice.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from automl_sr.errors import Fail, KeyPath, nearest, shown
from automl_sr.plugin.technique import (
    Choice,
    Each,
    Float,
    Int,
    Range,
    SearchField,
    Technique,
    why_refused,
)
from automl_sr.space.domains import (
    Constant,
    Domain,
    between,
    each_range,
    on_grid,
    same,
    tidy,
    widest,
)
from automl_sr.space.summary import describe

Item = Int | Float | Choice | Constant
_RANGE_KEYS = ("low", "high", "step", "log")
FIXED = "fixed"
"""Before the values of a vector, place by place."""


class Narrower:
    """Reads what stands for one field of one technique."""

    def __init__(self, cls: type[Technique], spec: SearchField, fail: Fail) -> None:
        self.cls = cls
        self.spec = spec
        self.fail = fail
        self.notes: list[str] = []

    def read(self, raw: Any, path: KeyPath) -> Domain:
        """Return the domain that a value, list or mapping stands for. Raises StudyFileError."""
        marker = self.spec.marker
        if isinstance(marker, Each):
            if isinstance(raw, Mapping) and set(raw) == {FIXED}:
                return self._vector(marker, raw[FIXED], (*path, FIXED))
            item = self._item(widest(marker), raw, path)
            asked = Choice(item.value) if isinstance(item, Constant) else item
            if not isinstance(marker.item, tuple):
                return replace(marker, item=asked)
            return each_range(marker, lambda own: self._cut(own, asked, raw, path))
        if isinstance(marker, Int | Float | Choice):
            return self._item(marker, raw, path)
        kind = number_kind(self.cls.model_fields[self.spec.name].annotation)
        if kind is not None:
            return self._number(kind, None, raw, path)
        return self._unmarked(raw, path)

    def _vector(self, marker: Each, raw: Any, path: KeyPath) -> Constant:
        """Read the places of a vector one by one: a list alone would be the values that all of them
        may take.
        """
        if not isinstance(raw, list) or len(raw) > marker.max:
            raise self.fail(path, f"{shown(raw)} is not a list of at most {marker.max} values.", "")
        items = [
            self._item(widest(marker), value, (*path, place)) for place, value in enumerate(raw)
        ]
        for place, item in enumerate(items):
            if not isinstance(item, Constant):
                raise self.fail((*path, place), f"{shown(raw[place])} is not a single value.", "")
            if isinstance(marker.item, tuple):
                self._cut(marker.at(place), Choice(item.value), raw[place], (*path, place))
        return Constant([item.value for item in items if isinstance(item, Constant)])

    def _cut(self, own: Range, asked: Range, raw: Any, path: KeyPath) -> Range:
        """Return what one place of a vector may be of what is asked for all of them; its own range
        is its limit.
        """
        if isinstance(own, Choice):
            if isinstance(asked, Choice):
                options = asked.options
            else:
                options = ()
            kept = [value for value in options if any(same(value, known) for known in own.options)]
            if kept:
                return Choice(*kept)
        elif isinstance(asked, Choice):
            value = asked.options[0]
            if isinstance(value, int | float) and own.low <= value <= own.high:
                return asked
        else:
            low, high = max(own.low, asked.low), min(own.high, asked.high)
            if asked.step is not None and low > asked.low:
                low = tidy(
                    asked.low + math.ceil((low - asked.low) / asked.step - 1e-9) * asked.step
                )
            if low <= high:
                return between(asked, low, on_grid(low, high, asked.step))
        hint = (
            f"Write something of {describe(own)} too, or the vector place by place: {{fixed:"
            " [...]}."
        )
        raise self.fail(
            path, f"{shown(raw)} leaves nothing to a place that takes {describe(own)}.", hint
        )

    def _item(self, marker: Int | Float | Choice, raw: Any, path: KeyPath) -> Item:
        if isinstance(marker, Choice):
            return self._choice(marker, raw, path)
        return self._number(int if isinstance(marker, Int) else float, marker, raw, path)

    def _choice(self, marker: Choice, raw: Any, path: KeyPath) -> Choice | Constant:
        if isinstance(raw, Mapping) or raw == []:
            raise self.fail(
                path, f"{shown(raw)} is not a list of allowed values.", self._allowed(marker)
            )
        if not isinstance(raw, list):
            return Constant(self._option(marker, raw, path))
        values = [self._option(marker, value, (*path, index)) for index, value in enumerate(raw)]
        for index, value in enumerate(values):
            if any(same(value, earlier) for earlier in values[:index]):
                raise self.fail((*path, index), f"{value!r} is listed twice.", "Keep one of them.")
        return Choice(*values)

    def _option(self, marker: Choice, raw: Any, path: KeyPath) -> Any:
        """Find a value among the options; a number may also be another one within the hard
        limits.
        """
        for option in marker.options:
            if same(option, raw):
                return option
        if (
            isinstance(raw, int | float)
            and not isinstance(raw, bool)
            and self._why_refused(raw) is None
        ):
            return raw
        guess = ""
        if isinstance(raw, str):
            guess = nearest(raw, [value for value in marker.options if isinstance(value, str)])
        raise self.fail(
            path,
            f"{shown(raw)} is not an allowed value.",
            f"{guess} {self._allowed(marker)}".strip(),
        )

    @staticmethod
    def _allowed(marker: Choice) -> str:
        return f"Allowed: {', '.join(_yaml(option) for option in marker.options)}."

    def _number(
        self, kind: type[int] | type[float], marker: Int | Float | None, raw: Any, path: KeyPath
    ) -> Item:
        if isinstance(raw, Mapping):
            return self._range(kind, marker, raw, path)
        if isinstance(raw, list):
            if len(raw) != 2:
                hint = "A list for a number is its range: write [low, high] or {low, high, step}."
                raise self.fail(path, f"{shown(raw)} has {len(raw)} entries.", hint)
            return self._range(kind, marker, {"low": raw[0], "high": raw[1]}, path)
        if raw is None and self._why_refused(None) is None:
            return Constant(None)
        value = self._checked(kind, raw, path)
        return Constant(value)

    def _range(
        self,
        kind: type[int] | type[float],
        marker: Int | Float | None,
        raw: Mapping[str, Any],
        path: KeyPath,
    ) -> Item:
        """Read {low, high, step, log}; what is not given is the marker's."""
        for key in raw:
            if key not in _RANGE_KEYS:
                hint = nearest(key, _RANGE_KEYS) or "A range is {low, high, step, log}."
                raise self.fail((*path, key), f"unknown key {key!r} in a range.", hint)
        ends = {}
        for end in ("low", "high"):
            if end in raw:
                given = raw[end]
            else:
                given = getattr(marker, end, None)
            if given is None:
                raise self.fail(
                    path,
                    f"the range has no {end!r}.",
                    "Write [low, high] or {low, high, step, log}.",
                )
            ends[end] = self._checked(kind, given, path)
        low, high = ends["low"], ends["high"]
        if low > high:
            raise self.fail(
                path, f"the range {low}..{high} is empty.", "Write the smaller number first."
            )
        step, log = self._step_and_log(kind, marker, raw, low, path)
        if low == high:
            return Constant(low)
        last = on_grid(low, high, step)
        if last != high:
            self.notes.append(
                f"{'.'.join(map(str, path))}: in steps of {step}, the range {low}..{high} ends at"
                f" {last}."
            )
        if kind is int:
            return Int(low, int(last), int(step or 1), log)
        return Float(low, float(last), step, log)

    def _step_and_log(
        self,
        kind: type[int] | type[float],
        marker: Int | Float | None,
        raw: Mapping[str, Any],
        low: float,
        path: KeyPath,
    ) -> tuple[Any, bool]:
        log = raw.get("log", bool(marker and marker.log) and "step" not in raw)
        if not isinstance(log, bool):
            raise self.fail((*path, "log"), f"{shown(log)} is neither true nor false.", "")
        step = raw.get("step")
        if step is None and marker is not None and not log:
            step = marker.step
        if log:
            if step is not None and not (kind is int and step == 1):
                raise self.fail(
                    (*path, "step"),
                    "a logarithmic range has no step.",
                    "Leave out `step` or `log`.",
                )
            if low <= 0:
                raise self.fail(
                    path,
                    f"a logarithmic range cannot begin at {low}.",
                    "Begin above 0, or write log: false.",
                )
            return (1 if kind is int else None), True
        if step is not None:
            step = self._typed(kind, step, (*path, "step"))
            if step <= 0:
                raise self.fail(
                    (*path, "step"), f"a step of {step} leads nowhere.", "Write a number above 0."
                )
        return (step or 1 if kind is int else step), False

    def _typed(self, kind: type[int] | type[float], raw: Any, path: KeyPath) -> Any:
        """Make sure of a number; 8.0 and 1e3 are whole numbers too."""
        word = "a number"
        if kind is int:
            word = "a whole number"
        if (
            isinstance(raw, bool)
            or not isinstance(raw, int | float)
            or (isinstance(raw, float) and not math.isfinite(raw))
        ):
            raise self.fail(
                path,
                f"{shown(raw)} is not {word}.",
                "Write a number, [low, high] or {low, high, step, log}.",
            )
        if kind is int and raw != int(raw):
            raise self.fail(path, f"{shown(raw)} is not a whole number.", "")
        try:
            return kind(raw)
        except OverflowError:
            raise self.fail(path, "the number is too large.", "") from None

    def _checked(self, kind: type[int] | type[float], raw: Any, path: KeyPath) -> Any:
        value = self._typed(kind, raw, path)
        self._within(value, path)
        return value

    def _within(self, value: Any, path: KeyPath) -> None:
        refused = self._why_refused(value)
        if refused:
            raise self.fail(path, f"{value!r} is outside the hard limits: {refused}.", "")

    def _why_refused(self, value: Any) -> str | None:
        """Ask the field's own type and limits; a value of a vector is tried in all its places."""
        marker = self.spec.marker
        if isinstance(marker, Each) and isinstance(marker.item, tuple):
            return _why_outside(widest(marker), value)
        if isinstance(marker, Each):
            default = self.spec.default
            if isinstance(default, list | tuple) and default:
                size = len(default)
            else:
                size = marker.max
            value = [value] * size
        message = why_refused(self.cls, self.spec.name, value)
        if message is None:
            return None
        return message.replace("Input should", "it should")

    def _unmarked(self, raw: Any, path: KeyPath) -> Domain:
        """Set a field of another type, or open it to a list of values."""
        refused = self._why_refused(raw)
        if refused is None:
            return Constant(raw)
        if (
            isinstance(raw, list)
            and raw
            and all(value is None or isinstance(value, bool | int | float | str) for value in raw)
        ):
            for index, value in enumerate(raw):
                reason = self._why_refused(value)
                if reason:
                    raise self.fail((*path, index), f"{value!r} is not allowed: {reason}.", "")
                if any(same(value, earlier) for earlier in raw[:index]):
                    raise self.fail(
                        (*path, index), f"{value!r} is listed twice.", "Keep one of them."
                    )
            return Choice(*raw)
        raise self.fail(path, f"{shown(raw)} is not allowed: {refused}.", "")


def _why_outside(limits: Range, value: Any) -> str | None:
    """Say why a value is at no place of a vector whose places have limits of their own."""
    if isinstance(limits, Choice):
        if any(same(value, known) for known in limits.options):
            return None
        return "no place takes it"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "it should be a number"
    if limits.low <= value <= limits.high:
        return None
    return f"places take {limits.low} to {limits.high}"


def number_kind(annotation: Any) -> type[int] | type[float] | None:
    """Say whether a field without a marker is a number, also where it may be None."""
    parts = []
    for part in typing.get_args(annotation):
        if part is not type(None):
            parts.append(part)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and len(parts) == 1:
        annotation = parts[0]
    if annotation is int:
        return int
    if annotation is float:
        return float
    return None


def _yaml(value: Any) -> str:
    """Write a value as a study file has it."""
    if isinstance(value, bool):
        return {True: "true", False: "false"}[value]
    return str(value)
