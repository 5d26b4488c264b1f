"""What the drawings of a study show, in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl_sr.presentation.numbers import number


def history_words(found: Mapping[str, Any]) -> str:
    """Return what a history shows, in words."""
    if found["kind"] == "best":
        return f"The best {found['metric']} of a model that keeps to the constraints."
    ranges = []
    for name, best in found["ideal"].items():
        worst = found["worst"][name]
        ranges.append(f"{name} {number(worst)} to {number(best)}")
    box = ", ".join(ranges) or "all trials are alike"
    return (
        "The share that the front dominates of the box between the best and the worst values of"
        f" this study ({box}; the reference point lies a tenth of the"
        " range behind the worst). It shows when the search still found something; it does not"
        " compare studies."
    )


def importance_words(found: Mapping[str, Any]) -> str:
    """Say what importance is."""
    best = f"{100 * found['quantile']:.0f} %"
    return (
        f"PED-ANOVA over {found['trials']} trials: how much each parameter decides whether a plan"
        f" is among the best {best} in an objective. Trials that were stopped early count with"
        " values corrected to the end. A choice written as slot[a|b] is the slot where only these"
        " were possible."
    )
