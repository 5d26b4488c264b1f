"""The first families register as any third-party plugin does, and their spaces suit small
devices.
"""

from __future__ import annotations

import pytest
import torch

from automl_sr.evaluation.cost import count_params
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import discover
from automl_sr.plugin.technique import Slot
from automl_sr.testing.configurations import configurations
from automl_sr.testing.tiny import tiny_task
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

NETS = (SRCNN, FSRCNN, ESPCN, MSRResNet, EDSR, CARNM, PAN, BSRN, RLFN, SAFMN)


@pytest.fixture(scope="module")
def registry():
    return discover()


@pytest.mark.parametrize(
    ("slot", "baseline", "others"),
    [
        (Slot.SELECTION, "none", {"random", "loss", "sobel"}),
        (Slot.ARCHITECTURE, "fsrcnn", {cls.name for cls in NETS} - {"fsrcnn"}),
        (Slot.QUANTIZATION, "none", {"int8_ptq"}),
    ],
)
def test_each_family_is_found_with_one_baseline(registry, slot, baseline, others):
    assert {baseline, *others} <= set(registry.techniques[slot])
    assert [name for name, cls in registry.techniques[slot].items() if cls.baseline] == [baseline]


def size_of(technique, registry) -> int:
    with torch.device("meta"):
        return count_params(build(technique.blueprint(tiny_task(), None), registry))


def test_the_paper_net_is_one_setting_of_its_technique(registry):
    assert size_of(FSRCNN(d=56, s=12, m=4, skip="none"), registry) == 12_809
    assert size_of(ESPCN(width=64, activation="tanh", skip="none"), registry) == 21_284
    assert size_of(SRCNN(width=64, skip="none"), registry) == 8_129


@pytest.mark.parametrize("cls", NETS, ids=lambda cls: cls.name)
def test_default_nets_are_small_enough_to_train_on_a_cpu(cls, registry):
    assert 3_000 < size_of(cls(), registry) < 32_000


@pytest.mark.parametrize("cls", NETS, ids=lambda cls: cls.name)
def test_search_ranges_begin_near_four_thousand_parameters_and_go_beyond_eight_thousand(
    cls, registry
):
    sizes = [size_of(technique, registry) for technique in configurations(cls).values()]
    assert min(sizes) < 4_500
    assert max(sizes) > 8_000
