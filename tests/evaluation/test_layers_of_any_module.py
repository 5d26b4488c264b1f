"""Layers are found in any module: called twice, never, by the weight alone, or without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import IMAGE_AXES, Attention, Espcn, Recurrent, seeded
from torch import Tensor, nn
from torch.nn import functional as F

from automl_sr.compression.export import export_onnx
from automl_sr.compression.packing import Sparse, pack_weights
from automl_sr.evaluation.layers import Layer, layers


class Images:
    """Stands in for a task, of which only the examples are asked."""

    def examples(self, model: object = None) -> list[Tensor]:
        return [torch.rand(1, 1, 16, 24), torch.rand(1, 1, 9, 8)]

    def cost_example(self, model: object = None) -> Tensor:
        return torch.empty(1, 1, 16, 24, device="meta")


def of(net: nn.Module, folder: Path | None = None) -> dict[str, Layer]:
    task: Any = Images()
    path = None
    if folder is not None:
        path = export_onnx(
            net, folder / "m.onnx", task.examples()[:1], dynamic_axes=IMAGE_AXES
        ).path
    return {layer.name: layer for layer in layers(net, task, path)}


def roles(net: nn.Module) -> dict[str, set[str]]:
    return {name: set(layer.roles) for name, layer in of(net).items()}


def conv(inputs: int = 4, outputs: int = 4) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Shared(nn.Module):
    """One module called twice, one never, one only when training, and two with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.never = conv()
        self.first = conv(1)
        self.twice = conv()
        self.again = conv()
        self.again.weight = self.twice.weight
        self.training_only = conv()
        self.last = conv(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.first(x)).relu())
        if self.training:
            x = self.training_only(x)
        return self.last(self.again(x).relu_())


def test_modules_are_listed_as_they_are_called(tmp_path: Path) -> None:
    found = of(Shared().train(), tmp_path)
    assert [(name, layer.calls) for name, layer in found.items()] == [
        ("first", 1),
        ("twice", 2),
        ("again", 1),
        ("last", 1),
    ]
    assert [[node.node for node in layer.stored] for layer in found.values()] == [
        ["/first/Conv"],
        ["/twice/Conv", "/twice_1/Conv"],
        ["/again/Conv"],
        ["/last/Conv"],
    ]


def test_the_model_is_left_as_it_is() -> None:
    net = Shared().train()
    net.last.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    of(net)
    assert net.training
    assert not net.last.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


class OwnWeight(nn.Module):
    """Uses a convolution's weight without calling it, and a parameter of its own; a fixed kernel is
    no layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(1, 4)
        self.kernel = nn.Parameter(torch.rand(4, 4, 1, 1))
        self.register_buffer("fixed", torch.rand(4, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.conv.weight, padding=1)
        return F.pixel_shuffle(F.conv2d(F.conv2d(x, self.fixed), self.kernel), 2)


def test_weights_that_are_used_without_their_module_are_layers() -> None:
    found = of(OwnWeight())
    assert {name: (layer.weight, set(layer.roles)) for name, layer in found.items()} == {
        "conv": ("conv.weight", {"first"}),
        "": ("kernel", {"last", "shuffled"}),
    }


class Elsewhere(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.maximum(x.numpy(), 0))


class Branches(nn.Module):
    """A learnt skip beside the body, sums in place, a slice that is written to, and a part that
    cannot be seen into.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skip, self.head, self.inner, self.other, self.tail = (
            conv(1, 1),
            conv(1),
            conv(),
            conv(2, 2),
            conv(4, 1),
        )
        self.elsewhere = Elsewhere()
        self.offset = nn.Parameter(torch.zeros(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.elsewhere(self.head(x))
        features += self.inner(features)
        features[:, :2] = self.other(features[:, 2:].clone())
        return self.tail(features + self.offset) - self.skip(x)


def test_roles_follow_the_data_and_not_the_order() -> None:
    assert roles(Branches()) == {
        "head": {"first", "residual"},
        "inner": {"residual"},
        "other": set(),
        "tail": {"last", "residual"},
        "skip": {"first", "last", "residual"},
    }


def test_a_parameter_that_is_added_makes_no_residual() -> None:
    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(1, 1)
            self.offset = nn.Parameter(torch.zeros(1, 1, 16, 24))

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) + self.offset

    assert roles(Offset()) == {"conv": {"first", "last"}}


def test_recurrent_and_linear_layers_are_found_in_the_file(tmp_path: Path) -> None:
    recurrent, attention = of(seeded(Recurrent), tmp_path), of(seeded(Attention), tmp_path)
    assert [(name, layer.kind, layer.stored[0].operator) for name, layer in recurrent.items()] == [
        ("rows", "recurrent", "GRU"),
        ("out", "convolution", "Conv"),
    ]
    assert [(name, layer.kind, layer.stored[0].operator) for name, layer in attention.items()] == [
        ("project", "linear", "MatMul"),
        ("out", "convolution", "Conv"),
    ]


def test_a_weight_that_was_fused_or_named_by_nothing_is_found(tmp_path: Path) -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(
                [nn.Sequential(nn.Sequential(conv(1, 4)), nn.BatchNorm2d(4))]
            )
            self.last = conv(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            x = self.last(x)
            return x / torch.tensor(float(int(x.shape[3]))) if self.by_torch_export else x

        by_torch_export = False

    net = Fused().eval()
    assert [layer.stored[0].node for layer in of(net, tmp_path).values()] == [
        "/blocks.0/blocks.0.0/blocks.0.0.0/Conv",
        "/last/Conv",
    ]
    net.by_torch_export = True
    found = of(net, tmp_path)
    assert [layer.stored[0].weight for layer in found.values()] == [
        "blocks.0.0.0.weight",
        "last.weight",
    ]


def test_packed_weights_are_found_too(tmp_path: Path) -> None:
    net = seeded(Espcn, width=32)
    with torch.no_grad():
        net.body[2].weight[:, 1:] = 0
    task: Any = Images()
    path = export_onnx(net, tmp_path / "m.onnx", task.examples()[:1], dynamic_axes=IMAGE_AXES).path
    pack_weights(path, path, {"body.2.weight": Sparse()})
    found = layers(net, task, path)
    assert [layer.stored[0].weight for layer in found] == [layer.weight for layer in found]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_part_in_torchscript_hides_no_more_than_itself() -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = conv(1), conv(4, 1)
            self.between = torch.jit.trace(nn.ReLU(), torch.rand(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.between(self.first(x)))

    assert [(name, set(layer.roles)) for name, layer in of(Scripted()).items()] == [
        ("first", {"first"}),
        ("last", {"last"}),
    ]


def test_a_net_on_the_meta_device_needs_no_data() -> None:
    real = of(Shared())
    with torch.device("meta"):
        meta = of(Shared())
    assert {
        name: (layer.roles, layer.input_shape, layer.output_shape) for name, layer in meta.items()
    } == {
        name: (layer.roles, layer.input_shape, layer.output_shape) for name, layer in real.items()
    }
