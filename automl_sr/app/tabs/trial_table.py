"""The table of a study's trials as data: short cells, because there may be thousands of rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from automl_sr.store.records import UNFINISHED

if TYPE_CHECKING:
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.store.records import TrialRecord

LONGEST_REASON = 100
"""Characters of a reason that a row shows; the panel below the table has all of it."""
DIGITS = 5
Kind = Literal["number", "str"]


@dataclass(frozen=True)
class Table:
    """Columns, what kind of values each has (number or str), and rows by number of the trial."""

    headers: list[str]
    kinds: list[Kind]
    rows: list[list[Any]]

    @property
    def digest(self) -> str:
        """Another text for another table: what has not changed is not sent again."""
        return hashlib.sha256(repr((self.headers, self.rows)).encode()).hexdigest()


def table_of(shown: Snapshot, states: Collection[str]) -> Table:
    """Return the table of the trials in these states.

    Raises PluginError where a metric is not installed.
    """
    metrics = [metric.name for metric in shown.metrics]
    # Of all trials: the columns stay where a state is ticked or not.
    slots = slots_of(shown.trials)
    headers = ["trial", "state", "front"]
    kinds: list[Kind] = ["number", "str", "str"]
    for name in (*metrics, "seconds"):
        headers.append(name)
        kinds.append("number")
    for name in (*slots, "reason"):
        headers.append(name)
        kinds.append("str")
    rows = []
    for trial in shown.trials:
        if trial.state in states:
            rows.append(_row(shown, trial, metrics, slots))
    return Table(headers, kinds, rows)


def slots_of(trials: Sequence[TrialRecord]) -> list[str]:
    """Return the slots for which some plan names a technique."""
    found: dict[str, None] = {}  # a set that keeps the order
    for trial in trials:
        for name, value in trial.params.items():
            # Names with a dot are fields of a technique.
            if "." not in name and isinstance(value, str):
                found[name] = None
    return list(found)


def neighbour(numbers: Sequence[int], chosen: int | None, by: int) -> int | None:
    """Return the next number of an ascending list (by = 1) or the previous one (by = -1).

    At an end the same.
    """
    if chosen is None and not numbers:
        return None
    ordered = list(numbers)
    if by < 0:
        ordered.reverse()
    if chosen is None:
        return ordered[0]
    # The chosen one may not be in the list, which shows some states only.
    for number in ordered:
        if by * (number - chosen) > 0:
            return number
    return chosen


def _row(
    shown: Snapshot,
    trial: TrialRecord,
    metrics: Sequence[str],
    slots: Sequence[str],
) -> list[Any]:
    front = ""
    if trial.number in shown.front_numbers:
        front = "front"
    # Seconds of a trial that goes on would change the table at each of its checkpoints.
    seconds = None
    if trial.state not in UNFINISHED:
        seconds = round(trial.seconds, 1)
    measured = {**trial.costs, **trial.values}
    values = [_short(measured.get(name)) for name in metrics]
    techniques = [str(trial.params.get(slot, "")) for slot in slots]
    return [
        trial.number,
        trial.state,
        front,
        *values,
        seconds,
        *techniques,
        _cut(trial.reason or ""),
    ]


def _short(value: float | None) -> float | int | None:
    """Return a value rounded to what a table shows, still a number: columns sort as numbers."""
    if value is None or not math.isfinite(value):
        return None
    # Beyond 1e15 a float has no unit to be exact about.
    if float(value).is_integer() and abs(value) < 1e15:
        return int(value)
    if abs(value) < 10**DIGITS:
        return float(f"{value:.{DIGITS}g}")
    return round(value)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= LONGEST_REASON:
        return line
    return f"{line[: LONGEST_REASON - 1]}…"
