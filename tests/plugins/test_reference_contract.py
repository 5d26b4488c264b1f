"""The reference architectures keep what core expects of any architecture."""

from __future__ import annotations

from typing import ClassVar

import pytest

from automl_sr.testing import ArchitectureContract
from automl_sr_plugins.reference import (
    BSRN,
    CARNM,
    DRRN,
    EDSR,
    ESPCN,
    FSRCNN,
    IDN,
    IMDN,
    PAN,
    RDN,
    RLFN,
    SAFMN,
    SRCNN,
    MSRResNet,
    SwinIRLight,
)


class TestReference(ArchitectureContract):
    technique = (FSRCNN, EDSR)


@pytest.mark.ci
class TestOldest(ArchitectureContract):
    technique = (SRCNN, ESPCN, MSRResNet)


@pytest.mark.ci
class TestWithAttention(ArchitectureContract):
    technique = SAFMN
    settings: ClassVar = {"blocks": 1}  # more of them are no other case


@pytest.mark.ci
class TestOthersWithAttention(ArchitectureContract):
    technique = (CARNM, PAN, BSRN, RLFN)
    settings: ClassVar = {"blocks": 1}


@pytest.mark.ci
class TestDistillationNets(ArchitectureContract):
    """With two blocks: more of them are alike, and take their time."""

    technique = (IDN, IMDN)
    settings: ClassVar = {"blocks": 2}


@pytest.mark.ci
class TestDRRN(ArchitectureContract):
    technique = DRRN
    settings: ClassVar = {"units": 3}


@pytest.mark.ci
class TestRDN(ArchitectureContract):
    """With two blocks, for the same reason."""

    technique = RDN
    settings: ClassVar = {"blocks": 2, "layers": 3}


@pytest.mark.ci
class TestSwinIRLight(ArchitectureContract):
    """With few layers and one number of heads: a trial at the upper end takes a minute."""

    technique = SwinIRLight
    settings: ClassVar = {"width": 24, "stages": 1, "depth": 2, "heads": 3}
