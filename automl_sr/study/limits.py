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
        if self.min is None or self.max is None:
            return self
        if self.min > self.max:
            raise ValueError(f"min {self.min:g} is larger than max {self.max:g}")
        return self

    def violation(self, lower: float, upper: float | None = None) -> float:
        """Return by how much a value, or the best end of a range, breaks the limits.

        It is relative to the limits; 0 or less keeps them.
        """
        highest = lower
        if upper is not None:
            highest = upper
        amounts: list[float] = []
        # A limit of 0 has no relative size: what is above it then counts as it is.
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
        if self.max is None:
            return f"at least {exact(self.min or 0.0)}"
        most = exact(self.max)
        if self.min is None:
            return f"at most {most}"
        return f"{exact(self.min)} to {most}"


def broken(constraints: Mapping[str, Limits], values: Mapping[str, float]) -> str | None:
    """Return in words which limits measured values break, or nothing where they keep to all."""
    found: list[str] = []
    for name, limits in constraints.items():
        # At a rung, not everything is measured yet.
        if name not in values or limits.allow(values[name]):
            continue
        value = exact(values[name])
        found.append(f"{name} is {value}, {limits.words()} is asked")
    if found:
        return "; ".join(found)
    return None


def stored_limits(spec: Mapping[str, Any]) -> dict[str, Limits]:
    """Return the limits of a stored study's spec by metric."""
    found: dict[str, Limits] = {}
    for name, limits in spec["constraints"].items():
        found[name] = Limits.model_validate(limits)
    return found


def exact(value: float) -> str:
    """Write a number with up to seven digits and separators."""
    # Rounded first, then written without an exponent, which would hide a count: 1.2e+06.
    rounded = float(f"{value:.7g}")
    return f"{rounded:,.15g}"
