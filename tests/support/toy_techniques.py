"""Toy techniques and a toy task: each one exercises a part of the interface that a real technique
will need.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from sklearn.datasets import load_digits
from torch import Tensor, nn

from automl_sr.api import (
    Batch,
    Blueprint,
    Edit,
    Fixed,
    Float,
    Int,
    Interface,
    Metric,
    ModelUpdate,
    Output,
    ParamGroup,
    Phase,
    Slot,
    Task,
    TaskData,
    Technique,
    TrainStep,
)

TOY = frozenset({"digits"})


# ---- a task that is not image-to-image ----


@dataclass(frozen=True)
class Digits:
    """Flattened 8x8 digits with their labels."""

    x: Tensor
    y: Tensor

    @property
    def fingerprint(self) -> str:
        return f"digits-{len(self.y)}-{int(self.y.sum())}"

    def __len__(self) -> int:
        return len(self.y)

    def subset(self, indices: Any) -> Digits:
        return Digits(self.x[indices], self.y[indices])

    def to(self, device: Any) -> Digits:
        return Digits(self.x.to(device), self.y.to(device))


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return float((scores.argmax(1) == labels).mean())


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """Read the digits once: their file is text, and runs that are stopped after each step begin
    often.
    """
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)


class DigitsTask(Task):
    """Tell handwritten digits apart."""

    kind = "digits"
    metrics = (Metric("accuracy", "maximize", "quality", accuracy, help="share of right labels"),)
    train_size: int = 1200

    def load(self, seed: int, shared: Any = None) -> TaskData:
        inputs, labels = digits()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        train, valid = order[: self.train_size], order[self.train_size :]
        return TaskData(Digits(inputs[train], labels[train]), Digits(inputs[valid], labels[valid]))

    def dims(self) -> dict[str, int]:
        return {"inputs": 64, "classes": 10}

    def draw(self, train: Any, generator: torch.Generator, *, batch: int, patch: int) -> Batch:
        rows = torch.randint(len(train), (batch,), generator=generator)
        return Batch(train.x[rows], train.y[rows])

    def loss(self, output: Tensor, batch: Batch, kind: str) -> Tensor:
        return nn.functional.cross_entropy(output, batch.target)

    def interface(self) -> Interface:
        return Interface(("input",), ("output",), {"input": {0: "batch"}, "output": {0: "batch"}})

    def examples(self, model: nn.Module) -> list[Tensor]:
        return [torch.linspace(0, 1, 64 * n).reshape(n, 64) for n in (2, 5)]

    def cost_example(self, model: nn.Module) -> Tensor:
        return torch.empty(1, 64, device="meta")

    def training_example(self, model: nn.Module, *, batch: int, patch: int) -> Tensor:
        return torch.empty(batch, 64, device="meta")

    def measure_quality(
        self, runner: Any, data: TaskData, metrics: Sequence[Metric]
    ) -> dict[str, float]:
        return {"accuracy": accuracy(runner(data.valid.x.numpy()), data.valid.y.numpy())}

    def calibration(self, train: Any, runner: Any, count: int, seed: int) -> list[np.ndarray]:
        return [train.x[:count].numpy()]


def make_mlp(width: int, depth: int, inputs: int, classes: int, **_: Any) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(inputs, width), nn.ReLU()]
    for _unused in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(width, classes))


def add_layer(model: nn.Sequential, *, width: int) -> nn.Module:
    """Insert an identity-initialised layer before the head."""
    layer = nn.Linear(width, width)
    layers = list(model)
    return nn.Sequential(*layers[:-2], layer, nn.ReLU(), *layers[-2:])


class Mlp(Technique):
    """A small perceptron; dropout makes every step depend on the generators being restored."""

    slot = Slot.ARCHITECTURE
    name = "mlp"
    baseline = True
    tasks = TOY
    factories: ClassVar[Any] = {"toys.mlp": make_mlp}
    width: Annotated[int, Int(4, 64), Field(ge=1)] = 16
    depth: Annotated[int, Int(1, 3), Field(ge=1)] = 1

    def blueprint(self, task: Task, ctx: Any) -> Blueprint:
        return Blueprint("toys.mlp", {**self.dump(), **task.dims()})


# ---- several pruning rounds with rewinding ----


class RewindPruning(Technique):
    """Prune the smallest weights in rounds, going back to the initial ones each time (lottery
    ticket form).
    """

    slot = Slot.PRUNING
    name = "rewind"
    tasks = TOY
    provides = frozenset({"sparse_weights"})
    rounds: Annotated[int, Int(2, 4), Field(ge=2)] = 3
    rate: Annotated[float, Float(0.05, 0.5), Field(gt=0, lt=1)] = 0.3

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        last = phases[-1]
        rounds = [
            Phase(
                f"{last.name} round {i}", last.share / self.rounds, rung=True, resets=i > 0
            ).entering(self.begin if i == 0 else self.prune_and_rewind)
            for i in range(self.rounds)
        ]
        return [*phases[:-1], *rounds]

    def begin(self, run: Any) -> None:
        weights = dict(run.model.named_parameters())
        run.keep_constant("rewind", weights)
        for name in self._prunable(run.model):
            run.state[f"rewind.mask.{name}"] = torch.ones_like(weights[name])

    def prune_and_rewind(self, run: Any) -> ModelUpdate:
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                if name in self._prunable(run.model):
                    mask = run.state[f"rewind.mask.{name}"]
                    threshold = weight[mask > 0].abs().quantile(self.rate)
                    run.state[f"rewind.mask.{name}"] = mask * (weight.abs() >= threshold)
                weight.copy_(run.constants["rewind"][name])
                if name in self._prunable(run.model):
                    weight.mul_(run.state[f"rewind.mask.{name}"])
        return ModelUpdate(optimizer="reset", ema="reset")

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        if not any(key.startswith("rewind.mask.") for key in run.state):
            return step
        return TrainStep(
            **{
                **step.__dict__,
                "step_contexts": (*step.step_contexts, self.masked),
                "eval_weights": self.masked_weights,
            }
        )

    @contextmanager
    def masked(self, run: Any) -> Iterator[None]:
        yield
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                if name in self._prunable(run.model):
                    weight.mul_(run.state[f"rewind.mask.{name}"])

    def masked_weights(self, run: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        masks = {
            key.removeprefix("rewind.mask."): value
            for key, value in run.state.items()
            if ".mask." in key
        }
        return {
            name: value * masks[name] if name in masks else value for name, value in weights.items()
        }

    @staticmethod
    def _prunable(model: nn.Module) -> set[str]:
        return {name for name, value in model.named_parameters() if value.dim() == 2}


# ---- another, larger model between phases ----


class Growth(Technique):
    """Train a shallow net, then add a layer and go on."""

    slot = Slot.DATASET_DISTILLATION  # any slot will do: core does not know what a technique is for
    name = "growth"
    tasks = TOY
    edits: ClassVar[Any] = {"toys.add_layer": Edit(add_layer)}

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        first = phases[0]
        small = Phase("small", first.share, comparable=False)
        return [small, first.entering(self.grow), *phases[1:]]

    def grow(self, run: Any) -> ModelUpdate:
        width = run.blueprint.fields["width"]
        blueprint = run.blueprint.edited("toys.add_layer", width=width)
        return ModelUpdate(add_layer(run.model, width=width), blueprint)


# ---- a teacher's output instead of the labels ----


class TeacherLoss(Technique):
    """Learn from a larger net's scores instead of the labels."""

    slot = Slot.TEACHER
    name = "scores"
    tasks = TOY
    weight: Annotated[float, Float(0.1, 1.0), Field(gt=0)] = 0.5
    teacher_steps: Annotated[int, Fixed(), Field(ge=1)] = 40

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        ctx = run.context.for_technique(self)
        teacher = ctx.fit(
            ctx.build(Slot.ARCHITECTURE, "mlp", width=32),
            run.data,
            steps=self.teacher_steps,
            key="toy",
        )
        spread = ctx.cached("spread", lambda: {"value": teacher(run.data.x).std().reshape(1)})[
            "value"
        ]

        def follow(output: Output, batch: Batch, run: Any) -> Tensor:
            with torch.no_grad():
                wanted = teacher(batch.inputs)
            return self.weight * nn.functional.mse_loss(output.prediction, wanted) / spread[0] ** 2

        return step.without_loss("task").with_loss("teacher", follow)


# ---- a genotype searched on a supernet ----


class MixedNet(nn.Module):
    """One edge with several activations, mixed by architecture weights."""

    OPS = ("relu", "tanh", "sigmoid")

    def __init__(self, width: int, inputs: int, classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.alpha = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        mix = self.alpha.softmax(0)
        return self.last(mix[0] * h.relu() + mix[1] * h.tanh() + mix[2] * h.sigmoid())


class PlainNet(nn.Module):
    def __init__(self, op: str, width: int, inputs: int, classes: int) -> None:
        super().__init__()
        self.first, self.last, self.op = nn.Linear(inputs, width), nn.Linear(width, classes), op

    def forward(self, x: Tensor) -> Tensor:
        return self.last(getattr(torch, self.op)(self.first(x)))


class Genotype(Technique):
    """Search the activation on a supernet first, then train the net that it names from scratch
    (DARTS form).
    """

    slot = Slot.ARCHITECTURE
    name = "genotype"
    tasks = TOY
    factories: ClassVar[Any] = {"toys.supernet": MixedNet, "toys.plain": PlainNet}
    width: Annotated[int, Int(8, 32), Field(ge=1)] = 16

    def blueprint(self, task: Task, ctx: Any) -> Blueprint:
        return Blueprint("toys.supernet", {"width": self.width, **task.dims()})

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        search = Phase("search", 0.5, comparable=False, counts=False)
        return [search, replace(phases[0].entering(self.derive), resets=True), *phases[1:]]

    def derive(self, run: Any) -> ModelUpdate:
        op = MixedNet.OPS[int(run.model.alpha.argmax())]
        run.state["genotype"] = op
        blueprint = Blueprint("toys.plain", {**run.blueprint.fields, "op": op})
        return ModelUpdate(PlainNet(**blueprint.fields), blueprint, optimizer="reset", ema="reset")

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        if run.blueprint.factory != "toys.supernet":
            return step
        inner = step.update

        def alternate(run: Any, batch: Batch) -> dict[str, Tensor]:
            run.update(run.batch("architecture"), groups=["alpha"])
            return inner(run, batch)

        alpha = ParamGroup(
            ("alpha",), lr=3e-2, betas=(0.5, 0.999), automatic=False, scheduled=False
        )
        return TrainStep(**{**step.with_group("alpha", alpha).__dict__, "update": alternate})


# ---- learnt parameters that are not exported ----


class Projection(Technique):
    """Predict the digit's parity from a hidden layer through a projection of its own."""

    slot = Slot.QUANTIZATION
    name = "projection"
    tasks = TOY

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        width = run.blueprint.fields["width"]
        projection = nn.Linear(width, 2)

        def parity(output: Output, batch: Batch, run: Any) -> Tensor:
            (hidden,) = output.taps["0"]
            return 0.1 * nn.functional.cross_entropy(projection(hidden), batch.target % 2)

        return step.tapping("0").with_aux("projection", projection).with_loss("parity", parity)


# ---- a tail phase on every branch ----


class FineTail(Technique):
    """Round the weights at the end of a tail phase of its own, as quantization-aware training
    would.
    """

    slot = Slot.SELECTION
    name = "tail"
    tasks = TOY

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        return [*phases, Phase("round", 0.1, lr=0.1, tail=True).leaving(self.round)]

    def round(self, run: Any) -> ModelUpdate:
        with torch.no_grad():
            for value in run.model.parameters():
                value.copy_((value * 64).round() / 64)
        return ModelUpdate(ema="reset")


ALL = (Mlp, RewindPruning, Growth, TeacherLoss, Genotype, Projection, FineTail)


def folder_of(path: Path) -> set[str]:
    """Name what lies in a folder."""
    return {item.name for item in path.iterdir()}
