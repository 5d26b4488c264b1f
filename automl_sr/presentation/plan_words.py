"""Plans in words, and the names of their parameters."""

from __future__ import annotations

from typing import Any

from automl_sr.presentation.numbers import number


def plan_words(plan: dict[str, Any], most: int = 6) -> str:
    """Return the techniques of a plan, and the numbers of its architecture, as words."""
    # Names with a dot are fields of a technique: `architecture.fsrcnn.d`.
    prefix = f"architecture.{plan.get('architecture')}."
    chosen = []
    details = []
    for name, value in plan.items():
        if "." not in name and value != "none":
            chosen.append(f"{name}={value}")
        # A file that is not named is no number of the net.
        if name.startswith(prefix) and value != "":
            field = name.removeprefix(prefix)
            details.append(f"{field}={number(value)}")
    return " ".join([*chosen, *details[:most]])


def short_name(text: str, most: int = 19) -> str:
    """Return the name of a parameter, at most so many characters of it."""
    parts = text.split(".")
    name = text
    if len(parts) > 2:
        name = ".".join(parts[1:])  # its technique tells the slot
    if len(name) <= most:
        return name
    # The end is what tells fields apart.
    return f"…{name[-most + 1 :]}"
