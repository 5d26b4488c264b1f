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
from automl_sr.space.section import read_space
from automl_sr.testing.configurations import configurations
from automl_sr.testing.tiny import tiny_task
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

SLOW_NETS = (CARNM, PAN, BSRN)
"""Small ones too, but slow for their parameters."""
NETS = (SRCNN, FSRCNN, ESPCN, MSRResNet, EDSR, RLFN, SAFMN, *SLOW_NETS)
LARGER_NETS = (IDN, IMDN)
HEAVY_NETS = (DRRN, RDN, SwinIRLight)


@pytest.fixture(scope="module")
def registry():
    return discover()


@pytest.mark.parametrize(
    ("slot", "baseline", "others"),
    [
        (Slot.SELECTION, "none", {"random", "loss", "sobel"}),
        (Slot.ARCHITECTURE, "fsrcnn", {cls.name for cls in NETS + LARGER_NETS} - {"fsrcnn"}),
        (
            Slot.QUANTIZATION,
            "none",
            {"int8_ptq", "int8_qat", "fixed_point", "integer", "vector", "float16"},
        ),
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
    assert size_of(DRRN(width=128, units=25), registry) == 297_216
    assert size_of(IDN(width=64, blocks=4), registry) == 552_769


def test_the_paper_net_on_rgb_is_one_setting_of_its_technique(registry):
    def size_on_rgb(technique) -> int:
        with torch.device("meta"):
            return count_params(build(technique.blueprint(tiny_task(color="rgb"), None), registry))

    config_b = RDN(blocks=16, layers=8, growth=64, width=64, skip="none")
    light = SwinIRLight(width=60, stages=4, depth=6, heads=6, skip="none")
    assert size_on_rgb(IMDN(width=64, blocks=6, skip="none")) == 694_404
    assert size_on_rgb(config_b) == 22_123_395
    assert size_on_rgb(light) == 910_152


def test_nets_that_a_cpu_trains_slowly_are_searched_only_by_name(registry):
    slots, _ = read_space(None, "image-sr", registry)
    [architecture] = [slot for slot in slots if slot.slot is Slot.ARCHITECTURE]
    searched = {option.technique for option in architecture.options}
    asked = {*HEAVY_NETS, *SLOW_NETS}
    assert searched >= {*NETS, *LARGER_NETS} - asked
    assert not searched & asked


@pytest.mark.parametrize("cls", [*NETS, *LARGER_NETS], ids=lambda cls: cls.name)
def test_default_nets_are_small_enough_to_train_on_a_cpu(cls, registry):
    assert 3_000 < size_of(cls(), registry) < 32_000


@pytest.mark.parametrize("cls", NETS, ids=lambda cls: cls.name)
def test_search_ranges_begin_near_four_thousand_parameters_and_go_beyond_eight_thousand(
    cls, registry
):
    sizes = [size_of(technique, registry) for technique in configurations(cls).values()]
    assert min(sizes) < 4_500
    assert max(sizes) > 8_000
