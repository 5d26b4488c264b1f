"""What tests of searches share: a sampler that takes little time."""

from __future__ import annotations

import pytest


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sampler `gp` be brief."""
    from brief_gp import BriefGP

    monkeypatch.setattr("automl_sr.search.optuna.samplers.GPSampler", BriefGP)
