"""The core-sets keep what core expects of any technique."""

from __future__ import annotations

from automl_sr.testing import TechniqueContract
from automl_sr_plugins.selection import LossSelection, RandomSelection, SobelSelection


class TestRandom(TechniqueContract):
    technique = RandomSelection


class TestSobel(TechniqueContract):
    technique = SobelSelection


class TestLoss(TechniqueContract):
    technique = LossSelection
    settings = {"scorer_steps": 20, "size": 24, "step": 12}  # noqa: RUF012 - the shortest form for plugin authors
