"""What core expects of an architecture, on top of what it expects of any technique."""

# ruff: noqa: S101 - tests assert, also those that are inherited
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from automl_sr.evaluation.cost import count_macs, count_params
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.task import Task, as_inputs
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.testing.observing import assert_same
from automl_sr.testing.techniques import TechniqueContract, Trained, about
from automl_sr.testing.tiny import TinyTrial, tiny_task

Color = Literal["y", "rgb"]
Nets = list[tuple[Task, nn.Module, nn.Module]]
"""For each task a net, and its outline on the meta device."""


class ArchitectureContract(TechniqueContract):
    """Inherit in a class whose name begins with `Test`, and set `technique`.

    It is an architecture, or several.
    """

    variants: ClassVar[Sequence[tuple[Any, Color]]] = (
        (2, "y"),
        (3, "rgb"),
        (4, "y"),
    )
    """Scales and colours for which a net must be possible.

    Empty where the task is not super-resolution.
    """

    def tasks(self) -> list[Task]:
        """Return the tasks for which nets are built."""
        tasks: list[Task] = []
        for scale, color in self.variants:
            task = tiny_task(scale=scale, color=color)
            tasks.append(task)
        return tasks or [self.make_task()]

    def sizes_of(self, task: Task, example: Tensor) -> tuple[int, ...]:
        """Return the shape of the output for an input.

        It is overridden where a task maps to anything but a larger image.
        """
        scale = task.dims()["scale"]
        batch, channels, height, width = example.shape
        return (batch, channels, height * scale, width * scale)

    def inputs_of(self, task: Task) -> list[Tensor]:
        """Return inputs of several sizes, odd ones among them."""
        generator = torch.Generator().manual_seed(0)
        channels = task.dims()["channels"]
        inputs: list[Tensor] = []
        for batch, height, width in ((2, 7, 11), (1, 16, 9)):
            shape = (batch, channels, height, width)
            image = torch.rand(shape, generator=generator)
            inputs.append(image)
        return inputs

    @pytest.fixture
    def nets(self, configured: Technique, trial: TinyTrial) -> Nets:
        """A net and its outline on the meta device, for each task."""
        nets = []
        for task in self.tasks():
            context = replace(trial, task=task).context(configured)
            blueprint = configured.blueprint(task, context)
            with torch.device("meta"):
                outline = build(blueprint, trial.registry)
            net = build(blueprint, trial.registry)
            entry = (task, net.eval(), outline.eval())
            nets.append(entry)
        return nets

    def test_it_is_an_architecture(self, technique_class: type[Technique]) -> None:
        """Only its slot is asked for a blueprint, and its factory bears the family's name."""
        assert technique_class.slot is Slot.ARCHITECTURE
        assert technique_class.factories
        for name in technique_class.factories:
            assert "." in name, "name factories family.net"

    def test_it_takes_images_of_any_size(self, nets: Nets) -> None:
        """For every scale, on luma and on RGB, odd sides too; twice the same in evaluation mode."""
        for task, net, outline in nets:
            for image in self.inputs_of(task):
                with torch.no_grad():
                    output = net(image)
                    again = net(image)
                    outlined = outline(image.to("meta"))
                assert torch.equal(again, output)
                assert outlined.shape == output.shape
                assert output.shape == self.sizes_of(task, image)
                assert torch.isfinite(output).all()

    def test_its_cost_is_known_before_training(self, nets: Nets) -> None:
        """Counted on the meta device, where the gate counts, as on the real net."""
        for task, net, outline in nets:
            example = as_inputs(task.cost_example(net))
            assert count_params(outline) == count_params(net) > 0
            macs = count_macs(net, *example)
            assert macs > 0
            assert count_macs(outline, *example) == macs

    @about("compress")
    def test_what_ships_is_left_as_it_is(
        self,
        configured: Technique,
        trained: Trained,
        trial: TinyTrial,
    ) -> None:
        """Training may go on with the form that ships, which is then shipped once more."""
        finished, _ = trained
        context = trial.context(configured)
        again = configured.compress(finished, context)
        assert again.blueprint == finished.blueprint
        assert_same(again.module.state_dict(), finished.module.state_dict())
        smallest, largest = configured.shipped(finished.blueprint, trial.task, context)
        assert smallest == largest == finished.blueprint
