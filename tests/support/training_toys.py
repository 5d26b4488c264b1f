"""Toy techniques that swap layers, score, distil and bring gradients and batches of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import toy_techniques as toys
from pydantic import Field
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from automl_sr.api import (
    Batch,
    File,
    Fixed,
    Int,
    ModelUpdate,
    Output,
    Phase,
    Slot,
    Technique,
    TrainStep,
)

# ---- fake quantization: layers that stand in only while the step runs the model ----


class Grid(nn.Module):
    """The learnt step size of a layer's weights; gradients pass as if they were not rounded."""

    def __init__(self, weight: Tensor, levels: int) -> None:
        super().__init__()
        self.step = nn.Parameter((weight.detach().abs().max() / levels).reshape(1))

    def rounded(self, layer: nn.Module, x: Tensor) -> Tensor:
        scaled = layer.weight / self.step
        rounded = scaled + (scaled.round() - scaled).detach()
        return functional.linear(x, rounded * self.step, layer.bias)


class FakeQuant(Technique):
    """Train with rounded weights in a tail phase, and note what rounding costs."""

    slot = Slot.QUANTIZATION
    name = "fake_quant"
    tasks = toys.TOY
    scores = True
    levels: Annotated[int, Int(2, 16), Field(ge=1)] = 4

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        tail = Phase("quantize", 0.2, lr=0.5, tail=True)
        return [*phases, tail.wrapping(self.rounded).leaving(self.keep)]

    def rounded(self, step: TrainStep, run: Any) -> TrainStep:
        linear = [item for item in run.model.named_modules() if isinstance(item[1], nn.Linear)]
        grids = nn.ModuleList([Grid(layer.weight, self.levels) for _, layer in linear])
        step = step.with_aux("grids", grids)
        for (name, _), grid in zip(linear, grids, strict=True):
            step = step.with_layer(name, grid.rounded)
        return step

    def keep(self, run: Any) -> None:
        run.state["fake_quant.quality"] = run.score()


# ---- keeping the best round ----


class KeepBest(Technique):
    """Train in rounds, and end with the best of them; the later ones are made bad on purpose."""

    slot = Slot.PRUNING
    name = "keep_best"
    tasks = toys.TOY
    scores = True
    rounds: Annotated[int, Int(2, 5), Field(ge=2)] = 4

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        *others, last = phases
        share = last.share / self.rounds
        rounds = [Phase(f"round {i}", share).leaving(self.compare) for i in range(self.rounds)]
        rounds[1:] = [phase.entering(self.spoil) for phase in rounds[1:]]
        return [*others, *rounds[:-1], rounds[-1].leaving(self.best)]

    def spoil(self, run: Any) -> None:
        with torch.no_grad():
            for value in run.model.parameters():
                value.add_(torch.randn_like(value))

    def compare(self, run: Any) -> None:
        quality = run.score()
        scores = [*run.state.get("keep_best.scores", []), quality]
        run.state["keep_best.scores"] = scores
        if quality < max(scores) or scores.count(quality) > 1:
            return
        for name, value in run.evaluation_state().items():
            run.state[f"keep_best.weights.{name}"] = value

    def best(self, run: Any) -> ModelUpdate:
        prefix = "keep_best.weights."
        kept = {
            key.removeprefix(prefix): run.state[key] for key in run.state if key.startswith(prefix)
        }
        run.model.load_state_dict(kept)
        return ModelUpdate(ema="reset")


# ---- a set distilled by matching means in the feature spaces of random nets ----


class Matching(Technique):
    """Learn a few digits with the mean features of the real ones, in a new random net each step."""

    slot = Slot.SELECTION
    name = "matching"
    tasks = toys.TOY
    iterations: Annotated[int, Fixed(), Field(ge=1)] = 12

    def select_data(self, data: Any, ctx: Any) -> Any:
        def init() -> dict[str, Tensor]:
            return {"x": torch.rand(20, 64)}

        found = ctx.iterate(f"matching/{len(data)}", init, self.step_on(data), self.iterations)
        labels = torch.arange(20, device=data.x.device) % 10
        return toys.Digits(found["x"].to(data.x.device), labels)

    def step_on(self, data: Any) -> Any:
        means = torch.stack([data.x[data.y == label].mean(0) for label in range(10)])

        def step(state: dict[str, Tensor], i: int) -> dict[str, Tensor]:
            made = state["x"].clone().requires_grad_()
            net = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Dropout(0.2))
            wanted = net(means.cpu()).repeat(2, 1)
            (slope,) = torch.autograd.grad(((net(made) - wanted) ** 2).sum(), [made])
            return {"x": (made - 0.1 * slope).detach().clamp(0, 1)}

        return step


# ---- a teacher from a file ----


class FileTeacher(Technique):
    """Learn from the scores of a linear net whose weights lie in a file."""

    slot = Slot.TEACHER
    name = "file"
    tasks = toys.TOY
    weights: Annotated[str, File()] = ""

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        ctx = run.context.for_technique(self)
        weight = load(ctx.file(self.weights).read_bytes())["weight"].to(run.setup.device)
        scale = ctx.cached("scale", lambda: {"value": (run.data.x @ weight.T).std().reshape(1)})

        def follow(output: Output, batch: Batch, run: Any) -> Tensor:
            wanted = batch.inputs @ weight.T / scale["value"].to(weight.device)
            return functional.mse_loss(output.prediction, wanted)

        return step.with_loss("teacher", follow)


def write_teacher(path: Path, seed: int) -> Path:
    """Write a teacher with random weights; another seed changes the content and not the size."""
    numbers = torch.Generator().manual_seed(seed)
    path.write_bytes(save({"weight": torch.randn(10, 64, generator=numbers)}))
    return path


# ---- gradients and batches of one's own ----


class SecondOrder(Technique):
    """Step by gradients on one half of the data that see how steep the other half is."""

    slot = Slot.PRUNING
    name = "second_order"
    tasks = toys.TOY

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        middle = len(run.data) // 2
        first = run.data.subset(slice(0, middle))
        second = run.data.subset(slice(middle, None))

        def update(run: Any, batch: Batch) -> dict[str, Tensor]:
            total, terms = run.loss(run.batch("first half", first))
            named = dict(run.model.named_parameters())
            slopes = torch.autograd.grad(total, list(named.values()), create_graph=True)
            penalty = sum((slope**2).sum() for slope in slopes)
            other, _ = run.loss(run.batch("second half", second))
            found = torch.autograd.grad(other + 0.01 * penalty, list(named.values()))
            run.last_loss = total.detach()
            run.apply(dict(zip(named, found, strict=True)), ["main"])
            return terms

        return replace(step, update=update)


class HalvedGenotype(toys.Genotype):
    """Search on halves of the data that share no sample: weights on one, choices on the other."""

    name = "halved_genotype"

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        if run.blueprint.factory != "toys.supernet":
            return step
        middle = len(run.data) // 2
        weights = run.data.subset(slice(0, middle))
        choices = run.data.subset(slice(middle, None))
        searched = super().wrap_step(step, run)

        def alternate(run: Any, batch: Batch) -> dict[str, Tensor]:
            run.update(run.batch("choices", choices), groups=["alpha"])
            return run.update(batch)

        return replace(searched, update=alternate, batch=lambda run: run.batch("train", weights))


class SparseGradients(Technique):
    """Hold the small gradients back, in a step context."""

    slot = Slot.FEDERATION
    name = "sparse_gradients"
    tasks = toys.TOY

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        return step.with_step_context(self.held)

    @contextmanager
    def held(self, run: Any) -> Iterator[None]:
        for value in run.model.parameters():
            value.grad.mul_(value.grad.abs() >= value.grad.abs().mean())
        yield


ALL = (FakeQuant, FileTeacher, KeepBest, Matching, SecondOrder, HalvedGenotype, SparseGradients)
