"""Quantization keeps what core expects of any technique; eight bits cost a little accuracy."""

from __future__ import annotations

from automl_sr.testing import TechniqueContract
from automl_sr_plugins.quantization import Int8PTQ


class TestInt8(TechniqueContract):
    technique = Int8PTQ
    settings = {"samples": 4}  # noqa: RUF012 - the shortest form for plugin authors
    export_tolerance = 0.05
