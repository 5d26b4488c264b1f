"""Dilated depthwise convolutions learn in bf16 on CPUs, where torch 2.13 gives them wrong
gradients.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.testing.observing import assert_same
from automl_sr.testing.techniques import TechniqueContract
from automl_sr.testing.tiny import tiny_recipe
from automl_sr.training.precision import Precision, has_dilated_depthwise, is_native
from automl_sr.training.run import Run

needs_bf16 = pytest.mark.skipif(
    not is_native("bf16", "cpu"), reason="this processor only emulates bf16"
)
LAYERS = {
    "a convolution": lambda: nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16),
    "one dilated in height": lambda: nn.Conv2d(
        16, 16, 3, padding=(2, 1), dilation=(2, 1), groups=16
    ),
    "a transposed one": lambda: nn.ConvTranspose2d(16, 16, 3, padding=2, dilation=2, groups=16),
}


def weight_gradient(layer: nn.Module, surrounding: Any) -> Tensor:
    """Return the gradient for one batch with channels last, of 32 pixels a side: smaller ones hide
    the fault.
    """
    layer.zero_grad()
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(4, 16, 32, 32, generator=generator).contiguous(
        memory_format=torch.channels_last
    )
    with surrounding:
        output = layer(image)
    (output.float() - 0.3).square().mean().backward()
    gradient: Any = layer.weight.grad
    return gradient.clone()


def error(layer: nn.Module, surrounding: Any) -> float:
    """Return how far a gradient is from that of float32, as a share of it."""
    right = weight_gradient(layer, contextlib.nullcontext())
    return float((weight_gradient(layer, surrounding) - right).norm() / right.norm())


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[name]().to(memory_format=torch.channels_last)


@needs_bf16
@pytest.mark.skipif(
    not torch.__version__.startswith("2.13."), reason="the fault is that of torch 2.13"
)
def test_torch_alone_gives_a_wrong_gradient() -> None:
    """Where this fails the care in core can go."""
    found = [error(made(name), torch.autocast("cpu", torch.bfloat16)) for name in LAYERS]
    assert any(not value < 0.5 for value in found), found


@pytest.mark.parametrize("name", LAYERS)
def test_core_gives_the_right_one(name: str) -> None:
    layer = made(name)
    assert has_dilated_depthwise(nn.Sequential(nn.ReLU(), layer))
    assert error(layer, Precision("bf16", "cpu").autocast(dilated=True)) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4),
    ],
)
def test_all_other_convolutions_stay_in_bf16(layer: nn.Conv2d) -> None:
    image = torch.randn(1, 16, 8, 8)
    with Precision("bf16", "cpu").autocast(dilated=True):
        assert layer(image).dtype == torch.bfloat16
        assert (
            nn.functional.conv2d(input=image, weight=layer.weight, groups=layer.groups).dtype
            == torch.bfloat16
        )


def test_a_call_with_names_is_found_too() -> None:
    weight = torch.randn(16, 1, 3, 3)
    with Precision("bf16", "cpu").autocast(dilated=True):
        assert nn.functional.conv2d(
            input=torch.randn(1, 16, 8, 8), weight=weight, groups=16, dilation=2
        ).dtype == (torch.float32)


def test_nets_without_such_a_layer_are_left_alone() -> None:
    assert not has_dilated_depthwise(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3, dilation=2))


class DilatedNet(nn.Module):
    """A head, a separable dilated convolution and a pixel shuffle."""

    def __init__(self, channels: int, scale: int, width: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(channels, width, 1)
        self.wide = nn.Conv2d(width, width, 3, padding=2, dilation=2, groups=width)
        self.tail = nn.Conv2d(width, channels * scale * scale, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        features = torch.relu(self.wide(torch.relu(self.head(image))))
        enlarged = nn.functional.interpolate(image, scale_factor=float(self.scale), mode="nearest")
        return nn.functional.pixel_shuffle(self.tail(features), self.scale) + enlarged


class Dilated(Technique):
    """A net with a dilated depthwise convolution, 2026."""

    slot = Slot.ARCHITECTURE
    name = "dilated"
    factories: ClassVar = {"tests.dilated": DilatedNet}

    def blueprint(self, task: Any, ctx: Any) -> Blueprint:
        return Blueprint("tests.dilated", {"width": 16, **task.dims()})


class Suite(TechniqueContract):
    """Only to make trials of it; pytest does not collect it."""

    technique = Dilated


@needs_bf16
def test_a_run_learns_such_a_layer_as_in_float32_and_twice_the_same(tmp_path: Path) -> None:
    gradients: dict[str, Tensor] = {}
    for name, kind in (("float32", "fp32"), ("bf16", "bf16"), ("again", "bf16")):
        trial = Suite().trial_of(Dilated(), tmp_path / name)
        trial = replace(
            trial, recipe=tiny_recipe().model_copy(update={"precision": kind, "patch": 32})
        )
        setup = trial.setup()
        run = Run.start(
            setup, trial.architecture.blueprint(trial.task, trial.context(trial.architecture))
        )
        run.advance()
        gradients[name] = run.model.get_parameter("wide.weight").grad
    right = gradients["float32"]
    assert float((gradients["bf16"] - right).norm() / right.norm()) < 0.05
    assert_same({"wide": gradients["again"]}, {"wide": gradients["bf16"]})
