"""Limits: how they are checked and worded, at the gate, for measured values and in stored
studies.
"""

from __future__ import annotations

from types import MappingProxyType

import pytest

from automl_sr.study.limits import Limits, broken, exact, stored_limits


def test_violations_are_relative_to_the_limit() -> None:
    assert Limits(max=100).violation(110) == pytest.approx(0.1)
    assert Limits(min=100).violation(90) == pytest.approx(0.1)
    assert Limits(min=50, max=100).violation(60) == pytest.approx(-0.2)
    assert Limits(max=0).violation(3) == 3


def test_of_a_range_the_better_end_counts() -> None:
    assert Limits(max=100).violation(90, 200) < 0
    assert Limits(min=100).violation(50, 120) < 0
    assert Limits(max=100).violation(101, 200) > 0


@pytest.mark.parametrize(
    ("limits", "value", "kept"),
    [({"max": 5.0}, 5.0, True), ({"max": 5.0}, 5.1, False), ({"min": 2.0}, 1.0, False)],
)
def test_bounds_are_included(limits: dict[str, float], value: float, kept: bool) -> None:
    assert Limits(**limits).allow(value) is kept


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max": 25000.0}, "at most 25,000"),
        ({"min": 30.5}, "at least 30.5"),
        ({"min": 30.0, "max": 40.0}, "30 to 40"),
    ],
)
def test_limits_in_words(limits: dict[str, float], words: str) -> None:
    assert Limits(**limits).words() == words


def test_measured_values_are_held_against_the_limits_too() -> None:
    limits = MappingProxyType({"params": Limits(max=100), "score": Limits(min=30)})
    assert broken(limits, {"params": 100.0, "score": 30.0}) is None
    assert (
        broken(limits, {"params": 101.0, "score": 29.5})
        == "params is 101, at most 100 is asked; score is 29.5, at least 30 is asked"
    )
    assert broken(limits, {}) is None


def test_limits_of_a_stored_study_are_those_of_its_file() -> None:
    stored = {"constraints": {"params": {"min": None, "max": 25000}}}
    assert stored_limits(stored) == {"params": Limits(max=25000)}


def test_counts_are_never_hidden_in_an_exponent() -> None:
    assert exact(123_456_789_012) == "123,456,800,000"
