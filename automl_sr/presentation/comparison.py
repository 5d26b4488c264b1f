"""Trials side by side: where their values and plans differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.store.records import TrialRecord


Table = dict[str, dict[int, Any]]
"""By name, then by the trial's number."""


def differences(found: list[TrialRecord]) -> dict[str, Table]:
    """Return values and costs of trials, and what differs in their plans.

    The tables are `values`, `costs` and `plan`.
    """
    values = {}
    costs = {}
    plans = {}
    for trial in found:
        values[trial.number] = trial.values
        costs[trial.number] = trial.costs
        plans[trial.number] = trial.params

    measured = _table(values)
    known = _table(costs)
    for name in measured:
        known.pop(name, None)  # measured on the file, which says more than the estimate before it
    planned = _table(plans)
    differing = {}
    for name, row in planned.items():
        # By how they are written: lists have no hash, and 1 is not True here.
        if len(set(map(repr, row.values()))) > 1:
            differing[name] = row
    return {"values": measured, "costs": known, "plan": differing}


def _table(by_number: Mapping[int, Mapping[str, Any]]) -> Table:
    """Return a row for each name that any trial has; None for trials that lack it."""
    names: dict[str, None] = {}  # a set that keeps the order
    for values in by_number.values():
        names.update(dict.fromkeys(values))
    rows = {}
    for name in names:
        row = {}
        for number, values in by_number.items():
            row[number] = values.get(name)
        rows[name] = row
    return rows
