"""Trials side by side: where their values and plans differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.store.records import TrialRecord


def differences(found: list[TrialRecord]) -> dict[str, dict[str, dict[int, Any]]]:
    """Return values and costs of trials by name, and those parameters of their plans that
    differ.
    """
    parts = {
        "values": {trial.number: dict(trial.values) for trial in found},
        "costs": {trial.number: dict(trial.costs) for trial in found},
        "plan": {trial.number: trial.params for trial in found},
    }
    tables: dict[str, dict[str, dict[int, Any]]] = {}
    for part, by_number in parts.items():
        names = dict.fromkeys(name for values in by_number.values() for name in values)
        tables[part] = {
            name: {item: values.get(name) for item, values in by_number.items()} for name in names
        }
    measured = set(tables["values"])
    tables["costs"] = {name: row for name, row in tables["costs"].items() if name not in measured}
    tables["plan"] = {
        name: row for name, row in tables["plan"].items() if len(set(map(repr, row.values()))) > 1
    }
    return tables
