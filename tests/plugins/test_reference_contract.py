"""The reference architectures keep what core expects of any architecture."""

from __future__ import annotations

from typing import ClassVar

from automl_sr.testing import ArchitectureContract
from automl_sr_plugins.reference import (
    BSRN,
    CARNM,
    EDSR,
    ESPCN,
    FSRCNN,
    PAN,
    RLFN,
    SAFMN,
    SRCNN,
    MSRResNet,
)


class TestReference(ArchitectureContract):
    technique = (SRCNN, FSRCNN, ESPCN, MSRResNet, EDSR)


class TestWithAttention(ArchitectureContract):
    technique = (CARNM, PAN, BSRN, RLFN, SAFMN)
    settings: ClassVar = {"blocks": 1}  # more of them are no other case
