"""Every architecture that is installed, and the nets of other tasks, can be drawn as they ship."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import noise_removal
import pytest
import sequence_denoising
import toy_techniques

from automl_sr.evaluation.cost import count_params
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import Registry, Source, installed
from automl_sr.plugin.task import Task
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.presentation.drawing import Drawing, net_drawing
from automl_sr.presentation.drawing.repeats import MOST_BOXES, size
from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.testing.tiny import TinyNet
from automl_sr.trial.cache import Cache
from automl_sr.trial.context import Context
from automl_sr.trial.ship import export_module

OF_IMAGES = [
    name
    for name, kind in sorted(installed().techniques[Slot.ARCHITECTURE].items())
    if ImageSR.kind in kind.tasks
]


def drawn(kind: type[Technique], task: Task, folder: Path) -> Drawing:
    """Draw a technique's net with fresh weights, written as a trial writes it."""
    registry = Registry()
    registry.add_technique(kind, Source("tests"))
    context = Context(registry, task, 0, "cpu", folder, Cache(folder / "cache"))
    technique = kind()
    _, shipped = technique.shipped(technique.blueprint(task, context), task, context)
    net = build(shipped, registry).eval()
    export_module(net, shipped, task, folder / "model.onnx")

    drawing = net_drawing(folder / "model.onnx")
    ElementTree.fromstring(drawing.file())
    ElementTree.fromstring(drawing.inline())
    assert size(drawing.parts) <= MOST_BOXES
    assert f"{count_params(net):,} parameters" in drawing.caption
    return drawing


@pytest.mark.parametrize("scale", [2, pytest.param(4, marks=pytest.mark.ci)])
@pytest.mark.parametrize("name", OF_IMAGES)
def test_an_installed_architecture(name: str, scale: int, tmp_path: Path) -> None:
    kind = installed().technique(Slot.ARCHITECTURE, name)
    drawing = drawn(kind, ImageSR(scale=scale, train=("none",), valid=("none",)), tmp_path)
    assert f"output, 1 channel, ×{scale} size" in drawing.file()


def test_the_net_of_another_task_of_images(tmp_path: Path) -> None:
    drawing = drawn(TinyNet, noise_removal.NoiseRemoval(), tmp_path)
    assert " size" not in drawing.file(), "its output is as large as its input"


def test_a_net_that_remembers(tmp_path: Path) -> None:
    task = sequence_denoising.SequenceDenoising()
    drawing = drawn(sequence_denoising.RememberingNet, task, tmp_path)
    for words in ("frame, 1 channel", "state, 4 channels", "frame_out", "state_out", "concat"):
        assert words in drawing.file(), words


def test_a_net_of_linear_layers(tmp_path: Path) -> None:
    drawing = drawn(toy_techniques.Mlp, toy_techniques.DigitsTask(), tmp_path)
    assert "Linear · ReLU" in drawing.file()
