"""The reference architectures keep what core expects of any architecture."""

from __future__ import annotations

from automl_sr.testing import ArchitectureContract
from automl_sr_plugins.reference import EDSR, ESPCN, FSRCNN, SRCNN, MSRResNet


class TestReference(ArchitectureContract):
    technique = (SRCNN, FSRCNN, ESPCN, MSRResNet, EDSR)
