"""Numbers, sizes and times as people read them, and plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def plain(value: Any) -> Any:
    """Make JSON of mappings, sequences, paths and numbers; NaN and infinity, which JSON lacks,
    become null.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [
            plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)
        ]
    return (
        plain(value.item()) if hasattr(value, "item") else str(value)
    )  # a number of numpy or torch, or a path


def number(value: Any) -> str:
    """Write a cell: four significant digits for fractions, separators for large counts, a dash for
    nothing.
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        if value:
            return "yes"
        return "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "-"
        if abs(value) >= 10_000:
            return f"{value:,.0f}"
        return f"{value:.4g}"
    return str(value)


def size(number: int) -> str:
    """Write a number of bytes for people: 12.3 MB."""
    amount, unit = float(number), 0
    while amount >= 999.95 and unit + 1 < len(UNITS):
        amount, unit = amount / 1000, unit + 1
    if unit:
        return f"{amount:.1f} {UNITS[unit]}"
    return f"{number} {UNITS[0] if number != 1 else 'byte'}"


def duration(seconds: float) -> str:
    """Write a time: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def unit_of_time(longest: float) -> tuple[float, str]:
    """Choose the unit in which a stretch of time is best read."""
    units = ((120.0, 1.0, "seconds"), (7200.0, 60.0, "minutes"))
    return next(
        ((scale, name) for limit, scale, name in units if longest < limit), (3600.0, "hours")
    )
