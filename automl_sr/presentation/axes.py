"""Axes of charts: which range they show, where a value lies on them, and which ticks are named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from automl_sr.presentation.plan_words import short_name

Named = list[tuple[Any, str]]
"""Values that are written on an axis, and how."""
Scale = tuple[Callable[[Any], float], Named]
"""Where a value lies on an axis, from 0 to 1, and what is named on it."""
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
        """Return an axis on which all values have room."""
        shown = list(values) or [0.0, 1.0]
        low = min(shown)
        high = max(shown)

        # Zero and below have no logarithm: such values are drawn evenly, whatever was asked for.
        if log and low > 0:
            margin = 1.3
            if high > low:
                margin = (high / low) ** pad
            return cls(title, low / margin, high * margin, log=True, whole=whole)

        # Equal values get room as well: an axis without length would divide by zero in `at`.
        margin = abs(high) * 0.1 or 1.0
        if high > low:
            margin = pad * (high - low)
        return cls(title, low - margin, high + margin, whole=whole)

    def at(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        if self.log:
            length = math.log(self.high / self.low)
            return math.log(value / self.low) / length
        length = self.high - self.low
        return (value - self.low) / length

    def ticks(self) -> list[float]:
        """Return some round values."""
        ticks = []
        if self.log:
            ticks = self._log_ticks()
        # A short stretch of a logarithmic axis may hold one round power or none.
        if len(ticks) <= 2:
            ticks = self._even_ticks()
        if not self.whole:
            return ticks
        return [tick for tick in ticks if float(tick).is_integer()]

    def _log_ticks(self) -> list[float]:
        """Return round values of each power of ten, as finely as eight or so have room."""
        lowest = math.floor(math.log10(self.low))
        highest = math.ceil(math.log10(self.high))
        ticks: list[float] = []
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks.clear()
            for power in range(lowest, highest + 1):
                for digit in digits:
                    tick = digit * 10.0**power
                    if self.low <= tick <= self.high:
                        ticks.append(tick)
            if len(ticks) <= 8:
                return ticks
        every = math.ceil(len(ticks) / 8)
        return ticks[::every]

    def _even_ticks(self) -> list[float]:
        """Return the multiples of 1, 2 or 5 times a power of ten, about five of them."""
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step)
        ticks = []
        for index in range(first, last + 1):
            tick = index * step
            # Zero, which a multiple may be, has no place on a logarithmic axis.
            if not self.log or tick > 0:
                ticks.append(tick)
        return ticks


@dataclass(frozen=True)
class Upright:
    """One of the parallel axes: numbers, or words in a fixed order.

    None is what a plan does not use.
    """

    title: str
    values: Sequence[Any]

    @property
    def words(self) -> list[str]:
        """The values of an axis that has no order; empty for numbers."""
        used = self._used()
        if all(map(_is_number, used)):
            return []
        # The order of appearance: sets would draw the same study differently from day to day.
        return list(dict.fromkeys(map(str, used)))

    def scale(self) -> Scale:
        """Return where a value lies, and which values are named on the axis."""
        words = self.words
        if words:
            return _scale_of_words(words)
        return _scale_of_numbers(list(map(float, self._used())))

    def _used(self) -> list[Any]:
        return [value for value in self.values if value is not None]


def _scale_of_words(words: Sequence[str]) -> Scale:
    places = {}
    named: Named = []
    for index, word in enumerate(words):
        # In the middle of equal stretches, so that the ends of the axis stay free.
        places[word] = (index + 0.5) / len(words)
        named.append((word, short_name(word)))

    def place(value: Any) -> float:
        return places[str(value)]

    return place, named


def _scale_of_numbers(values: Sequence[float]) -> Scale:
    low = min(values)
    high = max(values)
    log = low > 0 and high / low >= LOG_FROM
    whole = all(map(float.is_integer, values))
    axis = Axis.over("", values, log=log, whole=whole, pad=0.0)

    # The ends are named first and last, whether they are round or not: they are what was tried.
    ticks = [low]
    for tick in axis.ticks():
        if _apart(tick, values, axis):
            ticks.append(tick)
    ticks.append(high)

    named: Named = []
    for value in dict.fromkeys(ticks):  # equal ends are one
        named.append((value, short(value)))
    return axis.at, named


def _round_step(rough: float) -> float:
    """Return the smallest of 1, 2, 5 and 10 times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(rough))
    for digit in (1, 2, 5):
        if power * digit >= rough:
            return power * digit
    return 10 * power


def short(value: float) -> str:
    """Return a number as axes show it: 1200000 is 1.2M."""
    amount = abs(value)
    if amount >= 1e9:
        return f"{value / 1e9:.4g}G"
    if amount >= 1e6:
        return f"{value / 1e6:.4g}M"
    # Thousands get their letter from ten of them on: 1200 is as short as 1.2k.
    if amount >= 1e4:
        return f"{value / 1e3:.4g}k"
    return f"{value:.4g}"


def _apart(value: float, values: Sequence[float], axis: Axis) -> bool:
    """Return whether a tick would be written clear of those of the ends."""
    place = axis.at(value)
    low = axis.at(min(values))
    high = axis.at(max(values))
    return place - low > 0.08 and high - place > 0.08


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):  # an int to Python, a word here
        return False
    return isinstance(value, int | float)
