"""Importance finds what decides, also among trials that were stopped, and says when it cannot
tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_worlds import collected
from search_world import find, load


def test_the_width_decides_the_number_of_parameters(report: dict[str, Any]) -> None:
    shares = report["importance"]["objectives"]
    assert list(shares) == ["score", "params"]
    assert next(iter(shares["params"])) == "architecture.line.width"
    assert shares["params"]["architecture.line.width"] > 0.5
    for row in shares.values():
        assert sum(row.values()) == pytest.approx(1)
        assert list(row.values()) == sorted(row.values(), reverse=True)


def test_stopped_trials_count(report: dict[str, Any]) -> None:
    left_a_model = [row for row in report["trials"] if row["state"] in ("complete", "pruned")]
    assert report["importance"]["trials"] == len(left_a_model)
    assert any(row["state"] == "pruned" for row in left_a_model)


def test_at_least_five_trials_are_the_best(report: dict[str, Any]) -> None:
    found = report["importance"]
    assert found["quantile"] * found["trials"] >= 5


def test_few_trials_tell_nothing(tmp_path: Path) -> None:
    find(load(trials=3), tmp_path)
    assert collected(tmp_path)["importance"] == {
        "reason": "3 trials have left a model, which is too few to tell: it takes 20."
    }
