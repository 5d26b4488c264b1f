"""Quantization keeps what core expects of any technique; few bits cost a little accuracy."""

from __future__ import annotations

import pytest

from automl_sr.testing import TechniqueContract
from automl_sr.testing.tiny import TinyNet
from automl_sr_plugins.quantization import (
    FixedPoint,
    HalfPrecision,
    Int8PTQ,
    Int8QAT,
    Integer,
    Vector,
)
from automl_sr_plugins.reference import EDSR


class TestInt8(TechniqueContract):
    technique = Int8PTQ
    settings = {"samples": 4}  # noqa: RUF012 - the shortest form for plugin authors
    export_tolerance = 0.05


@pytest.mark.ci
class TestPackedWeights(TechniqueContract):
    technique = (FixedPoint, Integer, Vector, HalfPrecision)
    companions = (TinyNet(width=24),)
    steps = 4


class TestInt8Training(TechniqueContract):
    technique = Int8QAT
    settings = {"samples": 4, "share": 0.5}  # noqa: RUF012 - long enough to be stopped inside
    export_tolerance = 0.05


@pytest.mark.ci
class TestInt8TrainingOfAWideNet(TestInt8Training):
    companions = (EDSR(width=8, blocks=1, reparam="linear"),)
