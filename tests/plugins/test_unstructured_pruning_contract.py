"""Prunings of single weights keep what core expects of any technique."""

from __future__ import annotations

import pytest

from automl_sr.testing import TechniqueContract
from automl_sr_plugins.reference import EDSR
from automl_sr_plugins.unstructured_pruning import NM, DUPru, Shrink, UPru


class TestRounds(TechniqueContract):
    technique = UPru
    settings = {"rounds": 3}  # noqa: RUF012 - more of them are no other case
    steps = 18


@pytest.mark.ci
class TestHeldRounds(TechniqueContract):
    technique = DUPru
    settings = {"rounds": 2, "eps": 0.1}  # noqa: RUF012
    steps = 18


@pytest.mark.ci
class TestGroups(TechniqueContract):
    """With groups that the eight channels of the net have."""

    technique = NM
    settings = {"m": 4}  # noqa: RUF012
    steps = 18


class TestShrinking(TechniqueContract):
    technique = Shrink
    steps = 18


@pytest.mark.ci
class TestGroupsOfAWideNet(TechniqueContract):
    """What is trained in another form than it ships in changes its form on the way."""

    technique = NM
    settings = {"mode": "learnt", "m": 4, "budget": 0.5}  # noqa: RUF012
    companions = (EDSR(width=8, blocks=1, reparam="linear"),)
    steps = 18
