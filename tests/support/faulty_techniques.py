"""Techniques that each break one promise, under the contract that should find it; run in a process
of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.metric import Metric
from automl_sr.plugin.technique import Int, Slot, Technique
from automl_sr.testing import ArchitectureContract, MetricContract, TechniqueContract
from automl_sr.testing.tiny_net import ContractNet
from automl_sr.training.phases import Phase

CALLS = itertools.count()


class Architecture(Technique):
    """Build a net for a test of tests, 2026."""

    slot = Slot.ARCHITECTURE
    made: ClassVar[type[nn.Module]]
    width: int = 4

    def blueprint(self, task, ctx):
        return Blueprint(next(iter(self.factories)), {**self.dump(), **task.dims()})


class IdleParameter(ContractNet):
    def __init__(self, **fields):
        super().__init__(**fields)
        self.idle = nn.Parameter(torch.zeros(3))


class EvenSizesOnly(ContractNet):
    def forward(self, image):
        height, width = (side // 2 * 2 for side in image.shape[2:])
        return super().forward(image[..., :height, :width])


class NoisyInEvaluation(ContractNet):
    def forward(self, image):
        return super().forward(image) + 1e-3 * torch.rand_like(image[:, :1, :1, :1])


def architecture(net: type[nn.Module]) -> type[Technique]:
    name = net.__name__.lower()
    attributes = {
        "name": name,
        "factories": {f"faulty.{name}": net},
        "__doc__": Architecture.__doc__,
    }
    attributes["__module__"] = __name__
    attributes["__annotations__"] = {"factories": ClassVar}
    return type(Architecture)(net.__name__, (Architecture,), attributes)


class TestSound(ArchitectureContract):
    technique = architecture(type("Sound", (ContractNet,), {}))


class TestIdleParameter(ArchitectureContract):
    technique = architecture(IdleParameter)


class TestEvenSizesOnly(ArchitectureContract):
    technique = architecture(EvenSizesOnly)


class TestNoisyInEvaluation(ArchitectureContract):
    technique = architecture(NoisyInEvaluation)


class Forgetful(Technique):
    """Weigh the loss by a number that no checkpoint knows, 2026."""

    slot = Slot.TEACHER
    name = "forgetful"

    def wrap_step(self, step, run):
        return step.with_loss(
            "extra", lambda out, batch, run: out.prediction.mean() * (next(CALLS) % 7)
        )


class TestForgetful(TechniqueContract):
    technique = Forgetful


class Whimsical(Technique):
    """Select other samples each time, 2026."""

    slot = Slot.SELECTION
    name = "whimsical"

    def select_data(self, data, ctx):
        cut = data.sub_images(32, 16)
        return cut.subset(np.random.default_rng().permutation(len(cut))[:5])


class TestWhimsical(TechniqueContract):
    technique = Whimsical


class Repeating(Technique):
    """Select a sample twice, 2026."""

    slot = Slot.SELECTION
    name = "repeating"

    def select_data(self, data, ctx):
        return data.subset([0, 0, 1])


class TestRepeating(TechniqueContract):
    technique = Repeating


class Boastful(Technique):
    """Promise half the size and ship all of it, 2026."""

    slot = Slot.PRUNING
    name = "boastful"

    def predict(self, cost, task):
        half = {name: value / 2 for name, value in cost.items()}
        return half, half


class TestBoastful(TechniqueContract):
    technique = Boastful


class Swapping(Technique):
    """Ship a file of another model, 2026."""

    slot = Slot.QUANTIZATION
    name = "swapping"

    def export(self, finished, ctx):
        from automl_sr.compression.export import export_onnx

        other = ContractNet(1, 2, 8)
        nn.init.constant_(other.tail.bias, 0.5)
        examples = finished.task.examples(finished.module)
        axes = finished.task.interface().dynamic_axes
        path = export_onnx(
            other, finished.folder / "other.onnx", (examples[0],), dynamic_axes=axes
        ).path
        return replace(finished, onnx=path)


class TestSwapping(TechniqueContract):
    technique = Swapping


class Undocumented(Technique):
    """do something"""

    slot = Slot.PRUNING
    name = "undocumented"


class TestUndocumented(TechniqueContract):
    technique = Undocumented


class Undeclarable(Technique):
    """Search beyond its own limits, 2026."""

    slot = Slot.PRUNING
    name = "undeclarable"
    count: Annotated[int, Int(1, 5), Field(ge=1, le=9), Int(0, 5)] = 3


class TestUndeclarable(TechniqueContract):
    technique = Undeclarable


def upside_down(prediction, truth, scale):
    return float(np.mean(np.square(prediction.astype(float) - truth)))


class TestWrongDirection(MetricContract):
    metric = Metric("error", "maximize", "quality", upside_down, help="Mean squared error.")


class ForgetfulAsStudiesTrain(Technique):
    """Weigh the loss by what no checkpoint knows, with the default recipe alone, 2026."""

    slot = Slot.TEACHER
    name = "forgetful_as_studies_train"

    def wrap_step(self, step, run):
        if run.recipe.precision != "auto":
            return step
        return step.with_loss(
            "extra", lambda out, batch, run: out.prediction.mean() * (next(CALLS) % 7)
        )


class TestForgetfulAsStudiesTrain(TechniqueContract):
    technique = ForgetfulAsStudiesTrain


class ForgetfulInAPhase(Technique):
    """Count steps since a phase began, or since the run was resumed in it, 2026."""

    slot = Slot.TEACHER
    name = "forgetful_in_a_phase"

    def phases(self, phases, ctx):
        return [Phase("first", 4.0), Phase("second", 4.0), Phase("third", 4.0)]

    def wrap_step(self, step, run):
        calls = itertools.count()  # every entering makes it anew, and so does every resume
        return step.with_loss("extra", lambda out, batch, run: out.prediction.mean() * next(calls))


class TestForgetfulInAPhase(TechniqueContract):
    technique = ForgetfulInAPhase


class ForgetfulWhileIterating(Technique):
    """Keep what an iteration has seen where no interruption leaves it, 2026."""

    slot = Slot.SELECTION
    name = "forgetful_while_iterating"

    def select_data(self, data, ctx):
        cut = data.sub_images(32, 16)
        seen = []

        def step(state, number):
            seen.append(number)
            return {"kept": state["kept"] + len(seen)}

        kept = ctx.iterate("kept", lambda: {"kept": torch.zeros(())}, step, 4)["kept"]
        return cut.subset(list(range(1 + int(kept) % 13)))


class TestForgetfulWhileIterating(TechniqueContract):
    technique = ForgetfulWhileIterating


class Dependable(Technique):
    """Do all of that as it is meant, 2026."""

    slot = Slot.SELECTION
    name = "dependable"

    def select_data(self, data, ctx):
        cut = data.sub_images(32, 16)

        def step(state, number):
            return {"kept": state["kept"] + torch.rand(()) + number}

        kept = ctx.iterate("kept", lambda: {"kept": torch.zeros(())}, step, 4)["kept"]
        return cut.subset(list(range(1 + int(kept) % 13)))


class TestDependable(TechniqueContract):
    technique = Dependable


class Restless(Technique):
    """Call another setting the canonical one each time, 2026."""

    slot = Slot.PRUNING
    name = "restless"
    count: Annotated[int, Int(1, 5)] = 3

    def canonical(self):
        return self.model_copy(update={"count": self.count % 5 + 1})


class TestRestless(TechniqueContract):
    technique = Restless
