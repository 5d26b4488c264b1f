"""Plans in words, and the names of their parameters."""

from __future__ import annotations

from typing import Any

from automl_sr.presentation.numbers import number


def plan_words(plan: dict[str, Any], most: int = 6) -> str:
    """Name the techniques of a plan, and the numbers of the architecture."""
    slots = {}
    for name, value in plan.items():
        if "." not in name:
            slots[name] = value
    chosen = []
    for name, value in slots.items():
        if value != "none":
            chosen.append(f"{name}={value}")
    prefix = f"architecture.{slots.get('architecture')}."
    details = []
    for name, value in plan.items():
        if name.startswith(prefix):
            details.append(f"{name.removeprefix(prefix)}={number(value)}")
    return " ".join([*chosen, *details[:most]])


def short_name(text: str, most: int = 19) -> str:
    """Leave out the slot of a parameter, which its technique tells, and what is too long all the
    same.
    """
    parts = text.split(".")
    if len(parts) > 2:
        name = ".".join(parts[1:])
    else:
        name = text
    if len(name) <= most:
        return name
    return f"…{name[-most + 1 :]}"
