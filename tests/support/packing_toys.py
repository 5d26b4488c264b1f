"""Toy techniques whose models ship packed: rounded to four bits, taken from a codebook, mostly
zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from automl_sr import api
from automl_sr.api import ModelUpdate, Phase, Slot, Technique, TrainStep, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.api import Context, Run, Task, TrainedModel

TASKS = frozenset({"digits", "image-sr"})
Bounds = tuple[dict[str, float], dict[str, float]]


def smaller(cost: Mapping[str, float]) -> Bounds:
    """Bound the cost of a model that ships packed: a file is at best an eighth as large."""
    least = {name: value / 8 if name == "size_bytes" else value for name, value in cost.items()}
    return least, dict(cost)


class FourBits(Technique):
    """Round weights to four bits, with one scale for each layer.

    Source: R. Krishnamoorthi, Quantizing deep convolutional networks, arXiv 1806.08342, 2018.
    """

    slot = Slot.QUANTIZATION
    name = "four_bits"
    tasks = TASKS

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        for layer in api.layers(finished.module, ctx.task):
            weight = finished.module.get_parameter(layer.weight).detach()
            scale = self.scale_of(weight)
            weight.copy_((weight / scale).round() * scale)
        return finished

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        packings = {}
        for layer in api.layers(finished.module, ctx.task):
            weight = finished.module.get_parameter(layer.weight).detach()
            packings[layer.weight] = api.Uniform(bits=4, scale=self.scale_of(weight))
        api.pack_weights(finished.onnx, finished.onnx, packings)
        return finished

    @staticmethod
    def scale_of(weight: Tensor) -> float:
        return float(weight.abs().max().clamp(min=1e-8) / 7)

    def predict(self, cost: Mapping[str, float], task: Task) -> Bounds:
        return smaller(cost)


class SharedWeights(Technique):
    """Let the weights of a layer share sixteen values, which a phase at the end settles.

    Source: S. Han et al., Deep Compression, ICLR 2016.
    """

    slot = Slot.QUANTIZATION
    name = "shared_weights"
    tasks = TASKS

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        last = Phase("codebook", 0.1, lr=0.1, tail=True).entering(self.choose).leaving(self.assign)
        return [*phases, last]

    def choose(self, run: Run) -> None:
        """Take the values that as many weights lie below as above."""
        for layer in api.layers(run.model, run.setup.task):
            weight = run.model.get_parameter(layer.weight).detach()
            places = weight.new_tensor([place / 15 for place in range(16)])
            run.state[f"shared_weights.{layer.weight}"] = weight.quantile(places)

    def assign(self, run: Run) -> ModelUpdate:
        for layer in api.layers(run.model, run.setup.task):
            weight = run.model.get_parameter(layer.weight).detach()
            entries = run.state[f"shared_weights.{layer.weight}"]
            nearest = (weight.reshape(-1, 1) - entries).abs().argmin(1)
            weight.copy_(entries[nearest].reshape(weight.shape))
        return ModelUpdate(ema="reset")

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        packings = {}
        for layer in api.layers(finished.module, ctx.task):
            entries = finished.state[f"shared_weights.{layer.weight}"]
            packings[layer.weight] = api.Codebook(entries.cpu().numpy())
        api.pack_weights(finished.onnx, finished.onnx, packings)
        return finished

    def predict(self, cost: Mapping[str, float], task: Task) -> Bounds:
        return smaller(cost)


class MostlyZero(Technique):
    """Keep a tenth of the weights half-way through training, and train these on.

    Source: M. Zhu and S. Gupta, To prune, or not to prune, ICLR workshop 2018.
    """

    slot = Slot.PRUNING
    name = "mostly_zero"
    tasks = TASKS

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        last = phases[-1]
        dense = replace(last, share=last.share / 2)
        sparse = replace(dense, name="sparse").entering(self.prune)
        return [*phases[:-1], dense, sparse]

    def prune(self, run: Run) -> None:
        for layer in api.layers(run.model, run.setup.task):
            weight = run.model.get_parameter(layer.weight).detach()
            kept = weight.abs() > weight.abs().quantile(0.9)
            run.state[f"mostly_zero.{layer.weight}"] = kept.to(weight.dtype)

    def wrap_step(self, step: TrainStep, run: Run) -> TrainStep:
        if not self.masks(run):
            return step
        contexts = (*step.step_contexts, self.masked)
        return replace(step, step_contexts=contexts, eval_weights=self.masked_weights)

    @contextmanager
    def masked(self, run: Run) -> Iterator[None]:
        yield
        for name, mask in self.masks(run).items():
            run.model.get_parameter(name).detach().mul_(mask)

    def masked_weights(self, run: Run, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        masks = self.masks(run)
        return {name: value * masks.get(name, 1) for name, value in weights.items()}

    @staticmethod
    def masks(run: Run) -> dict[str, Tensor]:
        prefix = "mostly_zero."
        return {
            key.removeprefix(prefix): mask
            for key, mask in run.state.items()
            if key.startswith(prefix)
        }

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        names = [layer.weight for layer in api.layers(finished.module, ctx.task)]
        api.pack_weights(finished.onnx, finished.onnx, dict.fromkeys(names, api.Sparse()))
        return finished

    def predict(self, cost: Mapping[str, float], task: Task) -> Bounds:
        return smaller(cost)


@hookimpl
def register_techniques() -> list[type[Technique]]:
    return [FourBits, SharedWeights, MostlyZero]
