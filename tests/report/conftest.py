"""One study for all tests that only read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_worlds import collected, made


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the study `world`: 40 trials, of which some were stopped, failed or were rejected."""
    return made(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def report(folder: Path) -> dict[str, Any]:
    """What is collected of it."""
    return collected(folder)
