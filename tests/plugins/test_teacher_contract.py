"""Teachers keep what core expects of any technique: they resume bit for bit, and ship nothing."""

from __future__ import annotations

import pytest

from automl_sr.testing import TechniqueContract
from automl_sr.testing.tiny import TinyNet
from automl_sr_plugins.teacher import Features, Response, Self


@pytest.mark.ci
class TestResponse(TechniqueContract):
    technique = Response
    settings = {"architecture": TinyNet(width=12), "steps": 3}  # noqa: RUF012 - the shortest form for plugin authors


class TestFeatures(TechniqueContract):
    technique = Features
    settings = {"architecture": TinyNet(width=12), "steps": 3}  # noqa: RUF012 - the shortest form for plugin authors


@pytest.mark.ci
class TestSelf(TechniqueContract):
    technique = Self
    settings = {"steps": 3}  # noqa: RUF012 - the shortest form for plugin authors
