"""Refinements as a table: what the search had measured, what more training gave, and the test
sets.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from automl_sr.presentation.numbers import number

Row = Mapping[str, Any]
"""A refinement, as `Refinement` of `search.output` writes it."""
Column = tuple[str, bool]
"""A metric, and whether the refinement's value of it is meant or the search's."""
Test = tuple[str, str]
"""A test set, and a metric."""
USUAL = ("psnr_y", "ssim_y")
"""What the table shows of test sets, where they have it; the JSON has everything."""


def headings(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Return the names of the columns of values.

    Each metric as the search and as the refinement measured it, then the test sets. What a
    refinement does not change, such as the number of parameters, has one column.
    """
    names = []
    for metric, after in _measured(rows, metrics):
        if after:
            names.append(f"{metric} refined")
        else:
            names.append(metric)
    for test, metric in _tested(rows):
        names.append(f"{test} {metric}")
    return names


def table(rows: Sequence[Row], metrics: Sequence[str]) -> list[list[Any]]:
    """Return a line for each refinement, and the mean of the seeds of a trial below its lines."""
    measured = _measured(rows, metrics)
    tested = _tested(rows)

    # Seeds are compared where everything else is equal: the same trial, and as many steps.
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        key = row["number"], row["steps"]
        groups.setdefault(key, []).append(row)

    lines: list[list[Any]] = []
    for (trial, steps), own in groups.items():
        complete: list[list[float | None]] = []
        for row in own:
            cells = _cells(row, measured, tested)
            lines.append([trial, row["seed"], steps, *cells])
            if row["state"] == "complete":
                complete.append(cells)
        if len(complete) > 1:
            spreads = map(_spread, zip(*complete, strict=True))
            lines.append([trial, f"mean of {len(complete)}", steps, *spreads])
    return lines


def _cells(
    row: Row,
    measured: Sequence[Column],
    tested: Sequence[Test],
) -> list[float | None]:
    cells = []
    for metric, after in measured:
        values = row["search_values"]
        if after:
            values = row["values"]
        cells.append(values.get(metric))
    for test, metric in tested:
        values = row["tests"].get(test, {})
        cells.append(values.get(metric))
    return cells


def _measured(rows: Sequence[Row], metrics: Sequence[str]) -> list[Column]:
    done = [row for row in rows if row["state"] == "complete"]
    columns = []
    for metric in metrics:
        columns.append((metric, False))
        if not _unchanged(done, metric):
            columns.append((metric, True))
    return columns


def _unchanged(done: Sequence[Row], metric: str) -> bool:
    """Return whether every refinement left a metric as it was; False as long as none has ended."""
    for row in done:
        before = row["search_values"].get(metric)
        if row["values"].get(metric) != before:
            return False
    return bool(done)


def _tested(rows: Sequence[Row]) -> list[Test]:
    """Return the pairs of test set and metric that the table shows."""
    pairs: dict[Test, None] = {}  # a set that keeps the order
    for row in rows:
        for test, values in row["tests"].items():
            for metric in values:
                pairs[test, metric] = None
    usual = []
    for test, metric in pairs:
        if metric in USUAL:
            usual.append((test, metric))
    return usual or list(pairs)


def _spread(values: Sequence[float | None]) -> str:
    """Return mean and standard deviation of several seeds; what does not vary stands alone."""
    known = []
    for value in values:
        if value is not None:
            known.append(value)
    if not known:
        return number(None)
    if len(known) == 1:  # the deviation of one is not defined
        return number(known[0])

    mean = statistics.fmean(known)
    deviation = statistics.stdev(known)
    if deviation:
        return f"{number(mean)} ± {deviation:.2g}"
    return number(mean)
