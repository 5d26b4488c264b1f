"""What a model must keep to: how a limit is checked and worded, everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from automl_sr.study.part import Part


class Limits(Part):
    """What a model must keep to in order to be feasible; both bounds are included."""

    min: float | None = None
    """The smallest value allowed."""
    max: float | None = None
    """The largest value allowed."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a constraint needs min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is larger than max {self.max:g}")
        return self

    def violation(self, lower: float, upper: float | None = None) -> float:
        """Return by how much a value, or the best end of a range, breaks the limits, relative to
        them.

        0 or less keeps them.
        """
        if upper is None:
            highest = lower
        else:
            highest = upper
        amounts = []
        if self.max is not None:
            amounts.append((lower - self.max) / (abs(self.max) or 1.0))
        if self.min is not None:
            amounts.append((self.min - highest) / (abs(self.min) or 1.0))
        return max(amounts)

    def allow(self, value: float) -> bool:
        """Return whether a value keeps to the limits."""
        return self.violation(value) <= 0

    def words(self) -> str:
        """Return the limits for people: at most 25,000; 30 to 40."""
        if self.min is None:
            return f"at most {exact(self.max or 0.0)}"
        if self.max is None:
            return f"at least {exact(self.min)}"
        return f"{exact(self.min)} to {exact(self.max)}"


def broken(constraints: Mapping[str, Limits], values: Mapping[str, float]) -> str | None:
    """Return in words which limits measured values break, or nothing where they keep to all of
    them.
    """
    found = []
    for name, limits in constraints.items():
        if name in values and not limits.allow(values[name]):
            found.append(f"{name} is {exact(values[name])}, {limits.words()} is asked")
    return "; ".join(found) or None


def stored_limits(spec: Mapping[str, Any]) -> dict[str, Limits]:
    """Return the limits of a stored study's spec by metric."""
    found: dict[str, Limits] = {}
    for name, limits in spec["constraints"].items():
        found[name] = Limits.model_validate(limits)
    return found


def exact(value: float) -> str:
    """Write a number with up to seven digits and separators, never with an exponent that hides a
    count.
    """
    return f"{float(f'{value:.7g}'):,.15g}"
