"""Layers are found in the order in which they run, with the part that each of them plays."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor, nn

from automl_sr.compression.export import export_onnx, layer_tensors
from automl_sr.evaluation.layers import Layer, layers
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import installed
from automl_sr.tasks.image_sr.task import ImageSR

if TYPE_CHECKING:
    from automl_sr.trial.context import Context

TASK = ImageSR(scale=2, train=("photos-train",), valid=("photos-valid",))
IMAGE = (1, 360, 640)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(8, 8)
        self.conv2 = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.conv2(torch.relu_(self.conv1(x)))


class Net(nn.Module):
    """Declares its layers in another order than it calls them, one twice and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.tail = conv(2, 1)
        self.up = conv(8, 8)
        self.head = conv(1, 8)
        self.unused = conv(8, 8)
        self.body = nn.Sequential(Block(), nn.BatchNorm2d(8), Block())
        self.twice = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(self.head(x))
        features = self.twice(self.twice(features))
        return self.tail(nn.functional.pixel_shuffle(self.up(features), 2))


def roles(found: list[Layer]) -> list[tuple[str, set[str]]]:
    return [(layer.name, set(layer.roles)) for layer in found]


def test_layers_are_listed_as_they_run_with_their_roles() -> None:
    assert roles(layers(Net(), TASK)) == [
        ("head", {"first", "residual"}),
        ("body.0.conv1", set()),
        ("body.0.conv2", {"residual"}),
        ("body.2.conv1", set()),
        ("body.2.conv2", {"residual"}),
        ("twice", set()),
        ("up", {"shuffled"}),
        ("tail", {"last"}),
    ]


def test_input_shapes_are_those_of_the_cost_example() -> None:
    found = {layer.name: layer.input_shape for layer in layers(Net(), TASK)}
    assert found["head"] == IMAGE
    assert found["up"] == (8, 360, 640)
    assert found["tail"] == (2, 720, 1280)


def test_weights_have_the_names_of_the_exported_file(tmp_path: Path) -> None:
    net = Net().eval()
    exported = export_onnx(net, tmp_path / "m.onnx", (torch.rand(1, 1, 16, 20),))
    stored = {tensors.weight for tensors in layer_tensors(exported.path)}
    assert {layer.weight for layer in layers(net, TASK)} == stored


class Mixed(nn.Module):
    """Layers of other kinds, behind and before convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.head = conv(1, 4)
        self.rows = nn.GRU(4, 4, batch_first=True)
        self.gate = nn.Linear(4, 4)
        self.up = nn.ConvTranspose2d(4, 1, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        batch, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(batch * height, width, channels)
        swept, _ = self.rows(rows)
        gates = torch.sigmoid(self.gate(features.mean(dim=(2, 3))))[:, :, None, None]
        swept = swept.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return self.up(swept * gates)


def test_other_kinds_of_layers_are_listed_too() -> None:
    found = [(layer.name, layer.kind, set(layer.roles)) for layer in layers(Mixed(), TASK)]
    assert found == [
        ("head", "convolution", {"first"}),
        ("rows", "recurrent", set()),
        ("gate", "linear", set()),
        ("up", "transposed", {"last"}),
    ]


def test_the_model_is_left_as_it_is_and_its_hooks_are_not_called() -> None:
    net = Net().train()
    called: list[Any] = []
    net.head.register_forward_hook(lambda *given: called.append(given))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layers(net, TASK)
    assert called == []
    assert net.training
    assert len(net.head._forward_hooks) == 1
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


EXPECTED = {
    "srcnn": ["conv1", "conv2", "conv3"],
    "fsrcnn": ["first_part.0", *(f"mid_part.{place}" for place in (0, 2, 4, 6)), "last_part"],
    "espcn": ["feature_maps.0", "feature_maps.2", "sub_pixel.0"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_layers_of_the_reference_nets(name: str) -> None:
    registry = installed()
    technique = registry.techniques["architecture"][name]()
    context = cast("Context", SimpleNamespace(task=TASK))
    net = build(technique.blueprint(TASK, context), registry)
    found = layers(net, TASK)
    assert [layer.name for layer in found] == EXPECTED[name]
    assert "first" in found[0].roles
    assert "last" in found[-1].roles
