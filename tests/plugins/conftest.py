"""Everyday, contracts try each corner of a technique's space once."""

from __future__ import annotations

from pathlib import Path

import pytest

ONCE = {
    "test_it_chooses_samples_that_can_be_trained_on",
    "test_every_parameter_learns",
    "test_its_file_gives_what_the_model_gives",
}
"""What a corner goes through everyday: one trial, in which it is trained, shipped, and compared
with its file.
"""


def is_another_look_at_a_corner(item: pytest.Item) -> bool:
    """Whether a test of a contract tries a corner that another one tries as well."""
    if not isinstance(item, pytest.Function) or "configured" not in item.fixturenames:
        return False
    return not item.callspec.id.endswith("-default") and item.originalname not in ONCE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to CI's tier what looks at a corner again: runs that are interrupted, other sizes,
    costs.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and is_another_look_at_a_corner(item):
            item.add_marker(pytest.mark.ci)
