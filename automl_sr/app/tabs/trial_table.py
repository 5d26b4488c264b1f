"""The table of a study's trials as data: short cells, because a study may have thousands of
rows.
"""

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
    """Make the table of the trials in these states.

    Raises PluginError where a metric is not installed.
    """
    metrics = []
    for metric in shown.metrics:
        metrics.append(metric.name)
    slots = slots_of(shown.trials)
    columns: list[tuple[str, Kind]] = [
        ("trial", "number"),
        ("state", "str"),
        ("front", "str"),
        *[(name, "number") for name in metrics],
        ("seconds", "number"),
        *[(name, "str") for name in slots],
        ("reason", "str"),
    ]
    rows = []
    for trial in shown.trials:
        if trial.state in states:
            rows.append(_row(shown, trial, metrics, slots))
    return Table([name for name, _ in columns], [kind for _, kind in columns], rows)


def slots_of(trials: Sequence[TrialRecord]) -> list[str]:
    """Name the slots for which some plan names a technique."""
    found = dict.fromkeys(
        slot
        for trial in trials
        for slot, name in trial.params.items()
        if "." not in slot and isinstance(name, str)
    )
    return list(found)


def neighbour(numbers: Sequence[int], chosen: int | None, by: int) -> int | None:
    """Return the next number of an ascending list (by = 1) or the previous one (by = -1); at an end
    the same.
    """
    if chosen is None:
        if numbers:
            return numbers[0] if by > 0 else numbers[-1]
        return None
    beyond = []
    for number in numbers:
        if number > chosen if by > 0 else number < chosen:
            beyond.append(number)
    if not beyond:
        return chosen
    if by > 0:
        return beyond[0]
    return beyond[-1]


def _row(
    shown: Snapshot, trial: TrialRecord, metrics: Sequence[str], slots: Sequence[str]
) -> list[Any]:
    measured = {**trial.costs, **trial.values}
    params = trial.params
    # seconds of a trial that goes on would change the table at each of its checkpoints
    seconds = None
    if trial.state not in UNFINISHED:
        seconds = round(trial.seconds, 1)
    return [
        trial.number,
        trial.state,
        "front" if trial.number in shown.front_numbers else "",
        *[_short(measured.get(name)) for name in metrics],
        seconds,
        *[str(params.get(slot, "")) for slot in slots],
        _cut(trial.reason or ""),
    ]


def _short(value: float | None) -> float | int | None:
    """Round a value to what a table shows, still as a number, so that columns sort as numbers."""
    if value is None or not math.isfinite(value):
        return None
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
