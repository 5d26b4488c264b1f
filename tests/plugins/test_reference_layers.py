"""Which layers the reference nets have, and what for: stated by hand, found by core."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from automl_sr.evaluation.layers import Layer, layers
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.testing.tiny import tiny_task
from automl_sr.trial.ship import export_module
from automl_sr_plugins.reference import nets
from automl_sr_plugins.reference.drrn import drrn
from automl_sr_plugins.reference.idn import idn
from automl_sr_plugins.reference.imdn import imdn
from automl_sr_plugins.reference.rdn import rdn

SIZES = {"channels": 1, "scale": 2}
EDSR = {"width": 8, "blocks": 2, "res_scale": 0.1, "skip": "bicubic"}
NETS = {
    "srcnn": nets.srcnn(**SIZES, kernels="9-1-5", width=8, skip="bicubic"),
    "fsrcnn": nets.fsrcnn(**SIZES, d=8, s=4, m=1, skip="none"),
    "espcn": nets.espcn(**SIZES, width=8, activation="tanh", skip="none"),
    "msrresnet": nets.msrresnet(**SIZES, width=8, blocks=1),
    "edsr, lite tail": nets.edsr(**SIZES, **EDSR, tail="lite"),
    "edsr, full tail": nets.edsr(**SIZES, **EDSR, tail="full"),
    "drrn": drrn(**SIZES, width=8, units=1),
    "idn": idn(**SIZES, width=16, blocks=1),
    "imdn": imdn(**SIZES, width=16, blocks=1, skip="bicubic"),
    "rdn": rdn(**SIZES, blocks=1, layers=2, growth=4, width=8, skip="none"),
}
BLOCKS = {
    "body.0.conv1": set(),
    "body.0.conv2": {"residual"},
    "body.1.conv1": set(),
    "body.1.conv2": {"residual"},
    "conv_after_body": {"residual"},
}
ROLES: dict[str, dict[str, set[str]]] = {
    "srcnn": {"conv1": {"first"}, "conv2": set(), "conv3": {"last", "residual"}},
    "fsrcnn": {
        "first_part.0": {"first"},
        "mid_part.0": set(),
        "mid_part.2": set(),
        "mid_part.4": set(),
        "last_part": {"last"},
    },
    "espcn": {
        "feature_maps.0": {"first"},
        "feature_maps.2": set(),
        "sub_pixel.0": {"last", "shuffled"},
    },
    "msrresnet": {
        "conv_first": {"first", "residual"},
        "body.0.conv1": set(),
        "body.0.conv2": {"residual"},
        "upconv1": {"shuffled"},
        "conv_hr": set(),
        "conv_last": {"last", "residual"},
    },
    "edsr, lite tail": {
        "conv_first": {"first", "residual"},
        **BLOCKS,
        "conv_last": {"last", "shuffled", "residual"},
    },
    "edsr, full tail": {
        "conv_first": {"first", "residual"},
        **BLOCKS,
        "upsample.0": {"shuffled"},
        "conv_last": {"last", "residual"},
    },
    "drrn": {
        "input": {"first", "residual"},
        "conv1": set(),
        "conv2": {"residual"},
        "output": {"residual", "last"},
    },
    "idn": {
        "extract.0": {"first"},
        "extract.2": {"residual"},
        "blocks.0.first.0": set(),
        "blocks.0.first.2": set(),
        "blocks.0.first.4": {"residual"},
        "blocks.0.second.0": set(),
        "blocks.0.second.2": set(),
        "blocks.0.second.4": {"residual"},
        "blocks.0.compress": set(),
        "deconvolution": {"residual", "last"},
    },
    "imdn": {
        "fea_conv": {"first", "residual"},
        "blocks.0.c1": {"residual"},
        "blocks.0.c2": {"residual"},
        "blocks.0.c3": {"residual"},
        "blocks.0.c4": {"residual"},
        "blocks.0.cca.conv_du.0": set(),
        "blocks.0.cca.conv_du.2": set(),
        "blocks.0.c5": {"residual"},
        "c.0": set(),
        "lr_conv": {"residual"},
        "upsampler.0": {"residual", "last", "shuffled"},
    },
    "rdn": {
        "sfe1": {"first", "residual"},
        "sfe2": {"residual"},
        "rdbs.0.layers.0": set(),
        "rdbs.0.layers.1": set(),
        "rdbs.0.lff": {"residual"},
        "gff.0": set(),
        "gff.1": {"residual"},
        "upscale.0": {"shuffled"},
        "output": {"last"},
    },
}


def found(name: str, folder: Path) -> list[Layer]:
    path = folder / "model.onnx"
    export_module(NETS[name], Blueprint("net"), tiny_task(), path)
    return layers(NETS[name], tiny_task(), path)


@pytest.mark.parametrize("name", NETS)
def test_layers_come_in_forward_order_with_their_roles(name: str, tmp_path: Path) -> None:
    assert {layer.name: set(layer.roles) for layer in found(name, tmp_path)} == ROLES[name]
    assert [layer.name for layer in found(name, tmp_path)] == list(ROLES[name])


@pytest.mark.parametrize("name", NETS)
def test_each_is_found_in_the_exported_file(name: str, tmp_path: Path) -> None:
    for layer in found(name, tmp_path):
        [node] = layer.stored
        assert node.weight == layer.weight == f"{layer.name}.weight"
        assert node.operator == {"convolution": "Conv", "transposed": "ConvTranspose"}[layer.kind]


@pytest.mark.parametrize("name", NETS)
def test_sizes_are_those_of_the_modules(name: str, tmp_path: Path) -> None:
    example = tiny_task().cost_example(NETS[name])
    net = copy.deepcopy(NETS[name]).to("meta")
    read: dict[str, list[torch.Size]] = {}
    hooks = [
        part.register_forward_hook(
            lambda part, args, out, key=key: read.update({key: [args[0].shape[1:], out.shape[1:]]})
        )
        for key, part in net.named_modules()
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)
    ]
    net.eval()(example)
    for hook in hooks:
        hook.remove()
    assert {
        layer.name: [layer.input_shape, layer.output_shape] for layer in found(name, tmp_path)
    } == read
