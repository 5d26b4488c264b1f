"""What a study file may write for one field.

That is a value, a range, or the allowed values of a choice.
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
Kind = type[int] | type[float]
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
            return self._each(marker, raw, path)
        if isinstance(marker, Int | Float | Choice):
            return self._item(marker, raw, path)
        kind = number_kind(self.cls.model_fields[self.spec.name].annotation)
        if kind is not None:
            return self._number(kind, None, raw, path)
        return self._unmarked(raw, path)

    def _each(
        self,
        marker: Each,
        raw: Any,
        path: KeyPath,
    ) -> Each | Constant:
        """Read a vector: place by place, or what all of its places may be."""
        if isinstance(raw, Mapping) and set(raw) == {FIXED}:
            return self._vector(
                marker,
                raw[FIXED],
                (*path, FIXED),
            )
        item = self._item(widest(marker), raw, path)
        asked: Range
        if isinstance(item, Constant):
            # A vector of one value is still a vector: how many places it has may be searched.
            asked = Choice(item.value)
        else:
            asked = item
        if not isinstance(marker.item, tuple):
            return replace(marker, item=asked)
        return each_range(marker, lambda own: self._cut(own, asked, raw, path))

    def _vector(
        self,
        marker: Each,
        raw: Any,
        path: KeyPath,
    ) -> Constant:
        """Read the places of a vector one by one."""
        # Hence the key `fixed`: a list alone would be the values that all of them may take.
        if not isinstance(raw, list) or len(raw) > marker.max:
            raise self.fail(
                path,
                f"{shown(raw)} is not a list of at most {marker.max} values.",
                "",
            )
        items: list[Item] = []
        for place, value in enumerate(raw):
            items.append(self._item(widest(marker), value, (*path, place)))

        values: list[Any] = []
        for place, item in enumerate(items):
            given = raw[place]
            here = (*path, place)
            if not isinstance(item, Constant):
                raise self.fail(
                    here,
                    f"{shown(given)} is not a single value.",
                    "",
                )
            if isinstance(marker.item, tuple):
                self._cut(
                    marker.at(place),
                    Choice(item.value),
                    given,
                    here,
                )
            values.append(item.value)
        return Constant(values)

    def _cut(
        self,
        own: Range,
        asked: Range,
        raw: Any,
        path: KeyPath,
    ) -> Range:
        """Return what one place of a vector may be of what is asked for all of them.

        Its own range is its limit.
        """
        found: Range | None
        if isinstance(own, Choice):
            found = _common_options(own, asked)
        elif isinstance(asked, Choice):
            found = _inside(own, asked)
        else:
            found = _overlap(own, asked)
        if found is not None:
            return found
        hint = (
            f"Write something of {describe(own)} too, or the vector place by place: {{fixed:"
            " [...]}."
        )
        raise self.fail(
            path, f"{shown(raw)} leaves nothing to a place that takes {describe(own)}.", hint
        )

    def _item(
        self,
        marker: Int | Float | Choice,
        raw: Any,
        path: KeyPath,
    ) -> Item:
        if isinstance(marker, Choice):
            return self._choice(marker, raw, path)
        if isinstance(marker, Int):
            return self._number(int, marker, raw, path)
        return self._number(float, marker, raw, path)

    def _choice(
        self,
        marker: Choice,
        raw: Any,
        path: KeyPath,
    ) -> Choice | Constant:
        if isinstance(raw, Mapping) or raw == []:
            message = f"{shown(raw)} is not a list of allowed values."
            raise self.fail(path, message, self._allowed(marker))
        if not isinstance(raw, list):
            return Constant(self._option(marker, raw, path))
        values: list[Any] = []
        for index, value in enumerate(raw):
            values.append(self._option(marker, value, (*path, index)))
        for index in range(len(values)):
            self._refuse_repeat(values, index, path)
        return Choice(*values)

    def _refuse_repeat(
        self,
        values: list[Any],
        index: int,
        path: KeyPath,
    ) -> None:
        value = values[index]
        for earlier in values[:index]:
            # Not `in`, for which true and 1 are the same.
            if same(value, earlier):
                raise self.fail(
                    (*path, index),
                    f"{value!r} is listed twice.",
                    "Keep one of them.",
                )

    def _option(
        self,
        marker: Choice,
        raw: Any,
        path: KeyPath,
    ) -> Any:
        """Find a value among the options."""
        for option in marker.options:
            if same(option, raw):
                return option
        # A choice among numbers is a plugin's suggestion; others within the hard limits will do.
        is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
        if is_number and self._why_refused(raw) is None:
            return raw

        guess = ""
        if isinstance(raw, str):
            guess = nearest(raw, [value for value in marker.options if isinstance(value, str)])
        hint = f"{guess} {self._allowed(marker)}".strip()
        raise self.fail(
            path,
            f"{shown(raw)} is not an allowed value.",
            hint,
        )

    @staticmethod
    def _allowed(marker: Choice) -> str:
        return f"Allowed: {', '.join(map(_yaml, marker.options))}."

    def _number(
        self,
        kind: Kind,
        marker: Int | Float | None,
        raw: Any,
        path: KeyPath,
    ) -> Item:
        if isinstance(raw, Mapping):
            return self._range(kind, marker, raw, path)
        if isinstance(raw, list):
            if len(raw) != 2:
                hint = "A list for a number is its range: write [low, high] or {low, high, step}."
                raise self.fail(
                    path,
                    f"{shown(raw)} has {len(raw)} entries.",
                    hint,
                )
            ends = {"low": raw[0], "high": raw[1]}
            return self._range(kind, marker, ends, path)
        # A number that may be left empty takes null too, which is no number.
        if raw is None and self._why_refused(None) is None:
            return Constant(None)
        value = self._checked(kind, raw, path)
        return Constant(value)

    def _range(
        self,
        kind: Kind,
        marker: Int | Float | None,
        raw: Mapping[str, Any],
        path: KeyPath,
    ) -> Item:
        """Read {low, high, step, log}; what is not given is the marker's."""
        for key in raw:
            if key not in _RANGE_KEYS:
                hint = nearest(key, _RANGE_KEYS) or "A range is {low, high, step, log}."
                raise self.fail(
                    (*path, key),
                    f"unknown key {key!r} in a range.",
                    hint,
                )

        low = self._end("low", kind, marker, raw, path)
        high = self._end("high", kind, marker, raw, path)
        if low > high:
            raise self.fail(
                path, f"the range {low}..{high} is empty.", "Write the smaller number first."
            )
        step, log = self._step_and_log(
            kind,
            marker,
            raw,
            low,
            path,
        )
        # Only now, so that a wrong step is a mistake even where it does not matter.
        if low == high:
            return Constant(low)

        last = on_grid(low, high, step)
        if last != high:
            where = ".".join(map(str, path))
            self.notes.append(
                f"{where}: in steps of {step}, the range {low}..{high} ends at {last}."
            )
        if kind is int:
            return Int(low, int(last), int(step or 1), log)
        return Float(low, float(last), step, log)

    def _end(
        self,
        end: str,
        kind: Kind,
        marker: Int | Float | None,
        raw: Mapping[str, Any],
        path: KeyPath,
    ) -> Any:
        """Return one end of a range: what is given, or the marker's."""
        given = raw.get(end)
        if end not in raw:
            given = getattr(marker, end, None)
        if given is None:
            raise self.fail(
                path,
                f"the range has no {end!r}.",
                "Write [low, high] or {low, high, step, log}.",
            )
        return self._checked(kind, given, path)

    def _step_and_log(
        self,
        kind: Kind,
        marker: Int | Float | None,
        raw: Mapping[str, Any],
        low: float,
        path: KeyPath,
    ) -> tuple[Any, bool]:
        # Who writes a step means even steps, even where the plugin's own range is logarithmic.
        log = raw.get("log", bool(marker and marker.log) and "step" not in raw)
        if not isinstance(log, bool):
            raise self.fail(
                (*path, "log"),
                f"{shown(log)} is neither true nor false.",
                "",
            )
        step = raw.get("step")
        if log:
            self._check_log(kind, step, low, path)
            return _smallest_step(kind), True
        if step is None and marker is not None:
            step = marker.step
        if step is None:
            return _smallest_step(kind), False
        step = self._typed(kind, step, (*path, "step"))
        if step <= 0:
            raise self.fail(
                (*path, "step"), f"a step of {step} leads nowhere.", "Write a number above 0."
            )
        return step, False

    def _check_log(
        self,
        kind: Kind,
        step: Any,
        low: float,
        path: KeyPath,
    ) -> None:
        # Optuna refuses a logarithmic range with steps, and takes 1 for whole numbers.
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

    def _typed(self, kind: Kind, raw: Any, path: KeyPath) -> Any:
        """Make sure of a number; 8.0 and 1e3 are whole numbers too."""
        if not _is_finite_number(raw):
            word = "a number"
            if kind is int:
                word = "a whole number"
            raise self.fail(
                path,
                f"{shown(raw)} is not {word}.",
                "Write a number, [low, high] or {low, high, step, log}.",
            )
        if kind is int and raw != int(raw):
            raise self.fail(
                path,
                f"{shown(raw)} is not a whole number.",
                "",
            )
        try:
            return kind(raw)
        except OverflowError:
            raise self.fail(
                path,
                "the number is too large.",
                "",
            ) from None

    def _checked(
        self,
        kind: Kind,
        raw: Any,
        path: KeyPath,
    ) -> Any:
        value = self._typed(kind, raw, path)
        self._within(value, path)
        return value

    def _within(self, value: Any, path: KeyPath) -> None:
        refused = self._why_refused(value)
        if refused:
            raise self.fail(
                path,
                f"{value!r} is outside the hard limits: {refused}.",
                "",
            )

    def _why_refused(self, value: Any) -> str | None:
        """Ask the field's own type and limits; a value of a vector is tried in all its places."""
        marker = self.spec.marker
        if isinstance(marker, Each):
            if isinstance(marker.item, tuple):
                return _why_outside(widest(marker), value)
            size = marker.max
            default = self.spec.default
            # The default has a length that the field takes, `max` may be more than it does.
            if isinstance(default, list | tuple) and default:
                size = len(default)
            value = [value] * size
        message = why_refused(self.cls, self.spec.name, value)
        if message is None:
            return None
        return message.replace("Input should", "it should")

    def _unmarked(self, raw: Any, path: KeyPath) -> Domain:
        """Set a field of another type, or open it to a list of values."""
        # A list may be the value of the field itself, which comes first.
        refused = self._why_refused(raw)
        if refused is None:
            return Constant(raw)
        if not _is_list_of_scalars(raw):
            raise self.fail(
                path,
                f"{shown(raw)} is not allowed: {refused}.",
                "",
            )
        for index, value in enumerate(raw):
            reason = self._why_refused(value)
            if reason:
                raise self.fail(
                    (*path, index),
                    f"{value!r} is not allowed: {reason}.",
                    "",
                )
            self._refuse_repeat(raw, index, path)
        return Choice(*raw)


def _is_finite_number(raw: Any) -> bool:
    # For Python, true and false are whole numbers.
    if isinstance(raw, bool):
        return False
    if isinstance(raw, float):
        return math.isfinite(raw)
    return isinstance(raw, int)


def _is_list_of_scalars(raw: Any) -> bool:
    """Whether values can be told apart by their text, as the options of a choice have to be."""
    if not isinstance(raw, list) or not raw:
        return False
    return all(value is None or isinstance(value, bool | int | float | str) for value in raw)


def _smallest_step(kind: Kind) -> int | None:
    """Return the step of a range without one: whole numbers go by 1, others have none."""
    if kind is int:
        return 1
    return None


def _common_options(own: Choice, asked: Range) -> Choice | None:
    if not isinstance(asked, Choice):
        return None
    kept: list[Any] = []
    for value in asked.options:
        if any(same(value, known) for known in own.options):
            kept.append(value)
    if kept:
        return Choice(*kept)
    return None


def _inside(own: Int | Float, asked: Choice) -> Choice | None:
    """Return a single value that is asked for, where it lies in a range."""
    value = asked.options[0]
    if isinstance(value, int | float) and own.low <= value <= own.high:
        return asked
    return None


def _overlap(own: Int | Float, asked: Int | Float) -> Int | Float | None:
    """Return what two ranges have in common, on the steps of the one that is asked for."""
    low: float = max(own.low, asked.low)
    high: float = min(own.high, asked.high)
    if asked.step is not None and low > asked.low:
        # The first step at or above the end, rounding apart.
        steps = math.ceil((low - asked.low) / asked.step - 1e-9)
        low = tidy(asked.low + steps * asked.step)
    if low > high:
        return None
    return between(asked, low, on_grid(low, high, asked.step))


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


def number_kind(annotation: Any) -> Kind | None:
    """Say whether a field without a marker is a number, also where it may be None."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts: list[Any] = []
        for part in typing.get_args(annotation):
            if part is not type(None):
                parts.append(part)
        if len(parts) == 1:
            annotation = parts[0]
    if annotation is int:
        return int
    if annotation is float:
        return float
    return None


def _yaml(value: Any) -> str:
    """Write a value as a study file has it."""
    if value is True:
        return "true"
    if value is False:
        return "false"
    return str(value)
