"""SESR, ECBSR, SPAN and PlainUSR are those of the papers: sizes, costs, first outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from automl_sr.compression.export import export_onnx, verify
from automl_sr.errors import PluginError
from automl_sr.evaluation.cost import count_params
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.technique import Slot
from automl_sr.space.plan import fingerprint
from automl_sr.tasks.image_sr.cost import macs_at_output
from automl_sr.testing.tiny import tiny_task
from automl_sr_plugins.reference import ECBSR, EDSR, FSRCNN, SESR, SPAN, PlainUSR
from automl_sr_plugins.reference.ecbsr import ecbsr
from automl_sr_plugins.reference.nets import edsr, fsrcnn
from automl_sr_plugins.reference.plainusr import plainusr
from automl_sr_plugins.reference.reparam import fold
from automl_sr_plugins.reference.sesr import sesr
from automl_sr_plugins.reference.span import span


def on_meta(factory: Any, folded: bool = True, **fields: Any) -> nn.Module:
    with torch.device("meta"):
        net = factory(**fields)
        return fold(net) if folded else net


def counted(factory: Any, channels: int, scales: tuple[int, ...], **fields: Any) -> list[int]:
    nets = [on_meta(factory, channels=channels, scale=scale, **fields) for scale in scales]
    return [count_params(net) for net in nets]


def trained(factory: Any, channels: int, scales: tuple[int, ...], **fields: Any) -> list[int]:
    nets = [on_meta(factory, False, channels=channels, scale=scale, **fields) for scale in scales]
    return [count_params(net) for net in nets]


SESR_SIZES = [
    # m, f, p; weights on luma, with biases and PReLU, weights on RGB, trained; each at x2 and x4
    (3, 16, 256, (8_912, 13_712), (9_028, 13_840), (12_912, 27_312), (238_196, 241_280)),
    (5, 16, 256, (13_520, 18_320), (13_700, 18_512), (17_520, 31_920), (320_692, 323_776)),
    (7, 16, 256, (18_128, 22_928), (18_372, 23_184), (22_128, 36_528), (403_188, 406_272)),
    (11, 16, 64, (27_344, 32_144), (27_716, 32_528), (31_344, 45_744), (142_324, 143_104)),
    (11, 32, 64, (105_376, 114_976), (106_116, 115_728), (113_376, 142_176), (281_956, 282_736)),
]


@pytest.mark.parametrize(("m", "f", "p", "weights", "whole", "rgb", "wide"), SESR_SIZES)
def test_sesr_has_the_published_parameters(m, f, p, weights, whole, rgb, wide) -> None:
    size = {"m": m, "f": f, "p": p, "skip": "nearest"}
    bare = {**size, "activation": "relu", "biases": False}
    assert counted(sesr, 1, (2, 4), **bare) == list(weights)
    assert counted(sesr, 3, (2, 4), **bare) == list(rgb)
    full = {**size, "activation": "prelu", "biases": True}
    assert counted(sesr, 1, (2, 4), **full) == list(whole)
    assert trained(sesr, 1, (2, 4), **full) == list(wide)


@pytest.mark.parametrize(
    ("c", "luma", "rgb", "wide"),
    [
        (8, (2_748, 3_113, 3_624), (3_476, 6_104), (10_804, 16_624)),
        (16, (10_100, 10_825, 11_840), (11_548, 16_768), (39_956, 47_120)),
    ],
)
def test_ecbsr_has_the_published_parameters(c, luma, rgb, wide) -> None:
    size = {"m": 4, "c": c, "identity": False, "skip": "nearest"}
    assert counted(ecbsr, 1, (2, 3, 4), **size) == list(luma)
    assert counted(ecbsr, 3, (2, 4), **size) == list(rgb)
    # Published blocks have biases in front of their edge filters, which change nothing.
    without_effect = [3 * (5 * c + outputs) for outputs in (4, 16)]
    own = trained(ecbsr, 1, (2, 4), **size)
    assert [count + more for count, more in zip(own, without_effect, strict=True)] == list(wide)


@pytest.mark.parametrize(
    ("width", "rgb"),
    [(28, (141_580, 150_688)), (48, (410_700, 426_288)), (52, (481_324, 498_208))],
)
def test_span_has_the_published_parameters(width: int, rgb: tuple[int, int]) -> None:
    assert counted(span, 3, (2, 4), width=width, blocks=6, skip="none") == list(rgb)


def test_span_is_trained_and_on_luma_as_large_as_it_should_be() -> None:
    small = {"blocks": 6, "skip": "none", "width": 28}
    assert counted(span, 1, (2, 4), **small) == [139_052, 142_088]
    assert trained(span, 3, (4,), **small) == [634_048]
    assert trained(span, 3, (4,), **{**small, "width": 48}) == [1_840_488]


PLAINUSR_SIZES = {
    "U": ({"kind": "ultra", "n": 16, "w2": 8, "w3": 4, "f": 4}, (13_628, 19_820), (3.1, 1.1)),
    "T": ({"kind": "ultra", "n": 32, "w2": 16, "w3": 4, "f": 4}, (48_724, 60_100), (11.2, 3.4)),
    "S": ({"kind": "general", "n": 32, "w2": 16, "w3": 8, "f": 4}, (57_236, 68_612), (12.1, 3.7)),
    "M": (
        {"kind": "general", "n": 48, "w2": 32, "w3": 16, "f": 8},
        (148_932, 165_492),
        (30.7, 8.6),
    ),
    "base": (
        {"kind": "general", "n": 64, "w2": 48, "w3": 32, "f": 16},
        (311_364, 333_108),
        (60.7, 16.4),
    ),
    "L": ({"kind": "large", "n": 80, "w2": 64, "w3": 48, "f": 16}, (707_076, 734_004), (149, 38.8)),
}


@pytest.mark.ci
@pytest.mark.parametrize("size", PLAINUSR_SIZES)
def test_plainusr_has_the_published_parameters_and_multiply_adds(size: str) -> None:
    fields, counts, macs = PLAINUSR_SIZES[size]
    assert counted(plainusr, 3, (2, 4), **fields) == list(counts)
    for scale, published in zip((2, 4), macs, strict=True):
        net = on_meta(plainusr, channels=3, scale=scale, **fields)
        found = macs_at_output(net, scale, 3) / 1e9
        assert found == pytest.approx(published, rel=0.02, abs=0.06)


@pytest.mark.parametrize(
    ("factory", "channels", "fields", "published"),
    [
        (
            sesr,
            1,
            {"m": 5, "f": 16, "p": 256, "activation": "relu", "biases": False, "skip": "nearest"},
            {2: 3.12, 4: 1.06},
        ),
        (
            sesr,
            1,
            {"m": 11, "f": 32, "p": 64, "activation": "relu", "biases": False, "skip": "nearest"},
            {2: 24.28, 4: 6.62},
        ),
        (
            ecbsr,
            1,
            {"m": 4, "c": 16, "identity": False, "skip": "nearest"},
            {2: 2.289, 4: 0.672},
        ),
        (span, 3, {"width": 28, "blocks": 6, "skip": "none"}, {4: 8.64}),
    ],
)
def test_multiply_adds_are_as_published_once_folded(factory, channels, fields, published) -> None:
    for scale, macs in published.items():
        net = on_meta(factory, channels=channels, scale=scale, **fields)
        assert macs_at_output(net, scale, channels) / 1e9 == pytest.approx(macs, rel=5e-3)


@pytest.mark.parametrize("reparam", ["linear", "edge"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_ships_is_as_large_as_the_plain_net(reparam: str, channels: int) -> None:
    sizes = {"channels": channels, "scale": 2, "skip": "bicubic"}
    residual = {**sizes, "width": 16, "blocks": 3, "res_scale": 1.0, "tail": "full"}
    mapping = {**sizes, "d": 32, "s": 12, "m": 2}
    for factory, fields in ((edsr, residual), (fsrcnn, mapping)):
        plain = on_meta(factory, **fields)
        folded = on_meta(factory, reparam=reparam, **fields)
        wide = on_meta(factory, False, reparam=reparam, **fields)
        assert folded.state_dict().keys() == plain.state_dict().keys()
        assert count_params(folded) == count_params(plain) < count_params(wide)


SMALL = [
    (SESR, {"m": 2, "f": 8, "p": 32}),
    (SESR, {"m": 2, "f": 8, "p": 32, "activation": "relu", "skip": "bicubic", "biases": True}),
    (ECBSR, {"m": 2, "c": 8, "identity": True}),
    (SPAN, {"width": 8, "blocks": 2}),
    (SPAN, {"width": 8, "blocks": 1, "skip": "none"}),
    (PlainUSR, {"n": 8, "w2": 4}),
    (PlainUSR, {"kind": "general", "n": 8, "w2": 8, "w3": 4}),
    (EDSR, {"width": 8, "blocks": 1, "reparam": "edge", "tail": "full"}),
    (FSRCNN, {"d": 8, "s": 4, "m": 1, "reparam": "linear"}),
]


def made(technique: Any, fields: Any, **dims: int) -> nn.Module:
    """Build the wide net of a technique, with weights that leave nothing at zero."""
    blueprint = technique(**fields).canonical().blueprint(tiny_task(), None)
    module, _, name = technique.factories[blueprint.factory].partition(":")
    factory = getattr(__import__(module, fromlist=[name]), name)
    torch.manual_seed(1)
    net: nn.Module = factory(**{**blueprint.fields, **dims}).eval()
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net


@pytest.mark.parametrize(("technique", "fields"), SMALL)
@pytest.mark.parametrize(("channels", "scale"), [(1, 2), (3, 3), (3, 4)])
def test_a_folded_net_gives_the_same_and_so_does_its_file_at_any_size(
    technique: Any, fields: Any, channels: int, scale: int, tmp_path: Any
) -> None:
    net = made(technique, fields, channels=channels, scale=scale)
    images = [torch.rand(1, channels, *size) for size in ((1, 1), (2, 9), (13, 7), (24, 8))]
    with torch.no_grad():
        before = [net(image) for image in images]
        folded = fold(net)
        for image, wanted in zip(images, before, strict=True):
            found = folded(image)
            assert found.shape[2:] == (scale * image.shape[2], scale * image.shape[3])
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    axes = {"input": {0: "batch", 2: "height", 3: "width"}, "output": {0: "batch", 2: "h", 3: "w"}}
    path = tmp_path / "net.onnx"
    export_onnx(folded, path, (torch.rand(1, channels, 12, 16),), dynamic_axes=axes)
    assert verify(path, folded, images) <= 1e-4


def test_untrained_nets_enlarge_as_they_promise() -> None:
    image = torch.rand(1, 3, 6, 9)
    repeated = functional.interpolate(image, scale_factor=2, mode="nearest")
    with torch.no_grad():
        for factory, fields in (
            (
                sesr,
                {"m": 1, "f": 8, "p": 16, "activation": "relu", "biases": True, "skip": "nearest"},
            ),
            (ecbsr, {"m": 1, "c": 8, "identity": False, "skip": "nearest"}),
        ):
            assert torch.equal(factory(channels=3, scale=2, **fields)(image), repeated)
        net = plainusr(channels=3, scale=2, kind="ultra", n=8, w2=4, w3=4, f=4)
        assert torch.equal(net(image), repeated)


@pytest.mark.parametrize(
    ("factory", "fields", "named"),
    [
        (
            sesr,
            {"m": 0, "f": 8, "p": 8, "activation": "relu", "biases": True, "skip": "nearest"},
            "m = 0",
        ),
        (ecbsr, {"m": 1, "c": 8, "identity": False, "skip": "none"}, "skip"),
        (span, {"width": 0, "blocks": 1, "skip": "none"}, "width = 0"),
        (plainusr, {"kind": "tiny", "n": 8, "w2": 4, "w3": 4, "f": 4}, "kind"),
        (
            fsrcnn,
            {"d": 8, "s": 4, "m": 1, "skip": "none", "reparam": "corner"},
            "reparam",
        ),
    ],
)
def test_a_net_that_cannot_be_made_is_refused_by_the_name_of_its_field(
    factory: Any, fields: Any, named: str
) -> None:
    with pytest.raises(PluginError, match=named):
        factory(channels=1, scale=2, **fields)


def test_a_block_that_is_wider_than_the_outer_ones_means_one_as_wide() -> None:
    settled = PlainUSR(n=8, w2=32).canonical()
    assert (settled.w2, settled.dump()) == (8, PlainUSR(n=8, w2=8).dump())


@pytest.mark.parametrize("technique", [SESR, ECBSR, SPAN, PlainUSR])
@pytest.mark.parametrize("channels", [1, 3])
def test_by_default_a_net_is_small(technique: Any, channels: int) -> None:
    net = made(technique, {}, channels=channels, scale=2)
    assert count_params(fold(net)) < 20_000


STORED = {
    EDSR: "b09d65d02e2c22fdedbe110fa6cbdd4b09c3dee203d82f5c66f62d03bcc3baa0",
    FSRCNN: "28d5d96f861f48f012b5ea67bde21bdbab8929c6eee089cf1ec702a69650c90d",
}
"""Fingerprints of their defaults, as studies stored them before there were wide nets."""


@pytest.mark.parametrize("technique", [EDSR, FSRCNN])
def test_a_plain_net_is_described_as_before_there_were_wide_ones(technique: Any) -> None:
    blueprint = technique().blueprint(tiny_task(), None)
    assert "reparam" not in blueprint.fields
    assert technique().shipped(blueprint, tiny_task(), None) == (blueprint, blueprint)
    assert fingerprint({Slot.ARCHITECTURE: technique()}) == STORED[technique]
    wide = technique(reparam="edge").blueprint(tiny_task(), None)
    assert wide == Blueprint(blueprint.factory, {**blueprint.fields, "reparam": "edge"})
