"""What happened at the rungs of a study."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.store.records import RungRecord


def rung_summary(rows: Sequence[RungRecord]) -> list[dict[str, Any]]:
    """Return for each rung who came so far, who was stopped, and their range of values."""
    by_rung: dict[int, list[RungRecord]] = {}
    for row in rows:
        by_rung.setdefault(row.rung, []).append(row)
    summaries = []
    for rung, here in sorted(by_rung.items()):
        summaries.append(_summary(rung, here))
    return summaries


def _summary(rung: int, here: Sequence[RungRecord]) -> dict[str, Any]:
    steps = set()  # several, where techniques lay out their phases differently
    stopped = []
    values: dict[str, list[float]] = {}
    for row in here:
        steps.add(row.step)
        if not row.go_on:
            stopped.append(row.number)
        for name, value in row.values.items():
            values.setdefault(name, []).append(value)
    ranges = {name: _range(found) for name, found in values.items()}
    return {
        "rung": rung,
        "steps": sorted(steps),
        "reached": len(here),
        "stopped": stopped,
        "values": ranges,
    }


def _range(values: Sequence[float]) -> dict[str, float]:
    return {
        "low": min(values),
        "median": statistics.median(values),
        "high": max(values),
    }
