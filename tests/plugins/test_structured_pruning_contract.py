"""Structured pruning keeps what core expects of any technique, on plain nets and on wide ones."""

from __future__ import annotations

from typing import ClassVar

import pytest

from automl_sr.testing import TechniqueContract
from automl_sr_plugins.reference import EDSR
from automl_sr_plugins.structured_pruning import L1, Aligned, LowRank, Similarity


class TestL1(TechniqueContract):
    technique = L1
    steps = 24


@pytest.mark.ci
class TestOthers(TechniqueContract):
    technique = (Aligned, Similarity, LowRank)
    steps = 24  # so that each of six phases has some


@pytest.mark.ci
class TestAfterANetThatIsTrainedWide(TechniqueContract):
    """It is folded when it is cut, and goes on as a plain net."""

    technique = Aligned
    companions: ClassVar = (EDSR(width=8, blocks=1, reparam="linear"),)
    settings: ClassVar = {"alignment": "weight_norm", "multiple": 1}
    steps = 24
