"""Numbers, sizes and times as people read them, and plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def plain(value: Any) -> Any:
    """Return mappings, sequences, paths and numbers as JSON has them."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None  # JSON has neither NaN nor infinity
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value)  # a set has another order in each process
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy or torch
        return plain(value.item())
    return str(value)  # a path


def number(value: Any) -> str:
    """Return a cell: four digits of a fraction, separators in a count, a dash for nothing."""
    if value is None:
        return "-"
    # Before int, which a bool is too.
    if isinstance(value, bool):
        if value:
            return "yes"
        return "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def size(number: int) -> str:
    """Return a number of bytes as people read it: 12.3 MB."""
    amount = float(number)
    unit = 0
    # From 999.95 on one decimal would round to 1000.0 of the smaller unit.
    while amount >= 999.95 and unit + 1 < len(UNITS):
        amount /= 1000
        unit += 1
    if unit:
        return f"{amount:.1f} {UNITS[unit]}"
    if number == 1:
        return f"{number} byte"
    return f"{number} {UNITS[0]}"


def duration(seconds: float) -> str:
    """Return a time as people read it: 42 s, 3 min 20 s, 2 h 5 min."""
    # Rounded before it is split, so that no part of it reads 60.
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min"


def unit_of_time(longest: float) -> tuple[float, str]:
    """Return the unit in which a stretch of time is best read: its seconds and its name."""
    if longest < 120:
        return 1.0, "seconds"
    if longest < 7200:
        return 60.0, "minutes"
    return 3600.0, "hours"
