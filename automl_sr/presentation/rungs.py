"""What happened at the rungs of a study."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.store.records import RungRecord


def rung_summary(rows: Sequence[RungRecord]) -> list[dict[str, Any]]:
    """Say of each rung who came so far, who was stopped, and between which values they lay."""
    found = []
    for rung in sorted({row.rung for row in rows}):
        here = []
        for row in rows:
            if row.rung == rung:
                here.append(row)
        names = list(dict.fromkeys(name for row in here for name in row.values))
        found.append(
            {
                "rung": rung,
                "steps": sorted({row.step for row in here}),
                "reached": len(here),
                "stopped": [row.number for row in here if not row.go_on],
                "values": {
                    name: _range(row.values[name] for row in here if name in row.values)
                    for name in names
                },
            }
        )
    return found


def _range(values: Iterable[float]) -> dict[str, float]:
    found = sorted(values)
    return {"low": found[0], "median": statistics.median(found), "high": found[-1]}
