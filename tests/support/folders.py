"""Where the tests find real image sets: AUTOML_SR_DATA, or shared/data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shipped_sets() -> Path:
    """The folder with Set5 and Set14; skips the test, with the reason, where there is none."""
    named = [Path(part) for part in os.environ.get("AUTOML_SR_DATA", "").split(os.pathsep) if part]
    beside = Path(__file__).parents[3] / "shared" / "data"
    for folder in (*named, beside):
        if (folder / "Set5" / "HR").is_dir() and (folder / "Set14" / "HR").is_dir():
            return folder
    pytest.skip("Set5 and Set14 were not found: set AUTOML_SR_DATA to the folder that holds them")
