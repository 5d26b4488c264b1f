"""The score is the challenge's, to the digit."""

from __future__ import annotations

import math

import pytest

from automl_sr.report.efficiency import score


def test_the_baseline_has_the_published_score() -> None:
    assert score({"runtime": 1.0, "macs": 1.0, "params": 1.0}) == pytest.approx(7.3891, abs=5e-5)


def test_each_part_has_its_weight() -> None:
    free = {"runtime": 0.0, "macs": 0.0, "params": 0.0}
    assert score(free) == pytest.approx(1.0)
    gain = math.exp(2) - 1
    assert score({**free, "runtime": 1.0}) == pytest.approx(1 + 0.7 * gain)
    assert score({**free, "macs": 1.0}) == pytest.approx(1 + 0.15 * gain)
    assert score({**free, "params": 1.0}) == pytest.approx(1 + 0.15 * gain)
