"""Refinements as a table: what the search had measured, what more training gave, and the test
sets.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from automl_sr.presentation.numbers import number

USUAL = ("psnr_y", "ssim_y")
"""What the table shows of test sets, where they have it; the JSON has everything."""


def headings(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    """Name the columns of values: each metric as the search and as the refinement measured it, then
    the test sets.

    What a refinement does not change, such as the number of parameters, has one column.
    """
    measured = []
    for metric, after in _measured(rows, metrics):
        if after:
            measured.append(f"{metric} refined")
        else:
            measured.append(metric)
    return [*measured, *(f"{name} {metric}" for name, metric in _tested(rows))]


def table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[list[Any]]:
    """Return a line for each refinement, and where a trial has several seeds one with their mean
    and deviation.
    """
    measured, tested = _measured(rows, metrics), _tested(rows)
    lines: list[list[Any]] = []
    for trial, steps in dict.fromkeys((row["number"], row["steps"]) for row in rows):
        own = []
        for row in rows:
            if (row["number"], row["steps"]) == (trial, steps):
                own.append(row)
        cells = []
        for row in own:
            cells.append(_cells(row, measured, tested))
        lines += [[trial, row["seed"], steps, *line] for row, line in zip(own, cells, strict=True)]
        done = []
        for row, line in zip(own, cells, strict=True):
            if row["state"] == "complete":
                done.append(line)
        if len(done) > 1:
            lines.append(
                [trial, f"mean of {len(done)}", steps, *map(_spread, zip(*done, strict=True))]
            )
    return lines


def _cells(
    row: Mapping[str, Any], measured: Sequence[tuple[str, bool]], tested: Sequence[tuple[str, str]]
) -> list[float | None]:
    both = []
    for metric, after in measured:
        both.append(row["values" if after else "search_values"].get(metric))
    return [*both, *(row["tests"].get(name, {}).get(metric) for name, metric in tested)]


def _measured(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the columns of metrics: (name, whether the refinement's value is meant)."""
    done = []
    for row in rows:
        if row["state"] == "complete":
            done.append(row)
    same = set()
    for name in metrics:
        if all(row["values"].get(name) == row["search_values"].get(name) for row in done):
            same.add(name)
    found: list[tuple[str, bool]] = []
    for name in metrics:
        for after in (False,) if done and name in same else (False, True):
            found.append((name, after))
    return found


def _tested(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the pairs of test set and metric that the table shows."""
    found = dict.fromkeys(
        (name, metric) for row in rows for name, values in row["tests"].items() for metric in values
    )
    usual = []
    for pair in found:
        if pair[1] in USUAL:
            usual.append(pair)
    return usual or list(found)


def _spread(values: Sequence[float | None]) -> str:
    """Write mean and standard deviation of several seeds; what does not vary stands alone."""
    known = []
    for value in values:
        if value is not None:
            known.append(value)
    if len(known) < 2:
        return number(known[0] if known else None)
    mean, deviation = statistics.fmean(known), statistics.stdev(known)
    if deviation:
        return f"{number(mean)} ± {deviation:.2g}"
    return number(mean)
