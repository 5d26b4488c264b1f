"""Axes of charts: which range they show, where a value lies on them, and which ticks are named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from automl_sr.presentation.plan_words import short_name

LOG_FROM = 30
"""Parameters whose values differ by this factor are drawn by ratio."""


@dataclass(frozen=True)
class Axis:
    """Values along one side of a chart, as numbers from 0 to 1."""

    title: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    """Whether only whole numbers mean anything."""

    @classmethod
    def over(
        cls,
        title: str,
        values: Iterable[float],
        *,
        log: bool = False,
        whole: bool = False,
        pad: float = 0.05,
    ) -> Axis:
        """Make an axis on which all values have room."""
        found = list(values) or [0.0, 1.0]
        low, high = min(found), max(found)
        if log and low > 0:
            margin = 1.3
            if high > low:
                margin = (high / low) ** pad
            return cls(title, low / margin, high * margin, log=True, whole=whole)
        if high > low:
            margin = pad * (high - low)
        else:
            margin = abs(high) * 0.1 or 1.0
        return cls(title, low - margin, high + margin, whole=whole)

    def at(self, value: float) -> float:
        """Say where a value lies."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return some round values."""
        found = []
        if self.log:
            found = self._log_ticks()
        if len(found) <= 2:
            found = self._even_ticks()
        result: list[float] = []
        for value in found:
            if not self.whole or float(value).is_integer():
                result.append(value)
        return result

    def _log_ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = []
            for power in powers:
                for digit in digits:
                    found.append(digit * 10.0**power)
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= 8:
                return found
        return found[:: -(-len(found) // 8)]

    def _even_ticks(self) -> list[float]:
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next((power * digit for digit in (1, 2, 5) if power * digit >= rough), 10 * power)
        first = math.ceil(self.low / step)
        found = []
        for index in range(first, math.floor(self.high / step) + 1):
            found.append(index * step)
        result: list[float] = []
        for value in found:
            if not self.log or value > 0:
                result.append(value)
        return result


@dataclass(frozen=True)
class Upright:
    """One of the parallel axes: numbers, or words in a fixed order; None is what a plan does not
    use.
    """

    title: str
    values: Sequence[Any]

    @property
    def words(self) -> list[str]:
        """The values of an axis that has no order; empty for numbers."""
        if all(_is_number(value) for value in self.values if value is not None):
            return []
        return list(dict.fromkeys(str(value) for value in self.values if value is not None))

    def scale(self) -> tuple[Callable[[Any], float], list[tuple[Any, str]]]:
        """Say where a value lies, from 0 to 1, and which values are named on the axis."""
        words = self.words
        if words:
            places = {}
            for index, word in enumerate(words):
                places[word] = (index + 0.5) / len(words)
            return (lambda value: places[str(value)]), [(word, short_name(word)) for word in words]
        values = []
        for value in self.values:
            if value is not None:
                values.append(float(value))
        log, whole = (
            min(values) > 0 and max(values) / min(values) >= LOG_FROM,
            all(map(float.is_integer, values)),
        )
        axis = Axis.over("", values, log=log, whole=whole, pad=0.0)
        ticks = []
        for tick in axis.ticks():
            if _apart(tick, values, axis):
                ticks.append(tick)
        return axis.at, [
            (value, short(value)) for value in dict.fromkeys([min(values), *ticks, max(values)])
        ]


def short(value: float) -> str:
    """Write a number for an axis: 1200000 is 1.2M."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.4g}{letter}"
    return f"{value:.4g}"


def _apart(value: float, values: Sequence[float], axis: Axis) -> bool:
    """Leave ticks out that would be written over those of the ends."""
    place = axis.at(value)
    return place - axis.at(min(values)) > 0.08 and axis.at(max(values)) - place > 0.08


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
