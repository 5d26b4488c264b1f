"""Small techniques, a task and metrics, for tests of the search space that need no model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.metric import Metric
from automl_sr.plugin.registry import Registry, discover
from automl_sr.plugin.task import Task
from automl_sr.plugin.technique import Choice, Each, Fixed, Float, Int, Pick, Slot, Technique, When
from automl_sr.space.search_space import SearchSpace
from automl_sr.tasks.image_sr.metrics import IMAGE_METRICS


class ToyTask(Task):
    """Enlarge toy images."""

    kind: ClassVar[str] = "image-sr"
    metrics: ClassVar = IMAGE_METRICS
    scale: Literal[2, 3, 4] = 2
    train: tuple[str, ...] = ("T91",)

    def reference_net(self) -> Path:
        """Give a file that nobody opens."""
        return Path("reference.onnx")


class NoSelection(Technique):
    """Train on everything."""

    slot = Slot.SELECTION
    name = "none"
    baseline = True


class LossSelection(Technique):
    """Train on the hardest samples."""

    slot = Slot.SELECTION
    name = "loss"
    keep: Annotated[float, Float(0.25, 1.0, step=0.05), Field(gt=0, le=1)] = 0.5
    order: Literal["descending", "ascending"] = "descending"
    drop_hardest: Annotated[
        float, Float(0.0, 0.10), When(order=["descending"]), Field(ge=0, lt=1)
    ] = 0.05


class Fsrcnn(Technique):
    """A small network."""

    slot = Slot.ARCHITECTURE
    name = "fsrcnn"
    baseline = True
    width: Annotated[int, Int(8, 64, step=8), Field(ge=1, le=128)] = 32


class Edsr(Technique):
    """A large network."""

    slot = Slot.ARCHITECTURE
    name = "edsr"
    provides = frozenset({"residual_blocks"})
    width: Annotated[int, Int(16, 256, log=True), Field(ge=1)] = 64
    scaling: Annotated[float, Field(gt=0, le=1)] = 1.0


class Cells(Technique):
    """A network of searched operations."""

    slot = Slot.ARCHITECTURE
    name = "cells"
    provides = frozenset({"recurrent"})
    layers: Annotated[int, Int(1, 4), Field(ge=1, le=8)] = 2
    ops: Annotated[
        tuple[str, ...], Each(Choice("conv3", "conv5", "skip"), count="layers", max=4)
    ] = ("conv3", "skip")
    gain: Annotated[float, Float(1e-4, 1e-1, log=True), Fixed()] = 1e-2


class Edges(Technique):
    """A cell with an operation on each edge, from every node to every later one."""

    slot = Slot.ARCHITECTURE
    name = "edges"
    nodes: Annotated[int, Int(1, 3)] = 2
    ops: Annotated[tuple[str, ...], Each(Choice("conv3", "skip"), count="edges", max=6)] = (
        "conv3",
        "skip",
        "conv3",
    )

    @staticmethod
    def edges(nodes: int) -> int:
        return nodes * (nodes + 1) // 2


class Jumps(Technique):
    """A cell of nodes counted from its output, each of which takes its input from one some places
    further on.

    A node that no other one takes its input from is dead, with all that is said of it.
    """

    slot = Slot.ARCHITECTURE
    name = "jumps"
    nodes: Annotated[int, Int(1, 3)] = 2
    back: Annotated[
        tuple[int, ...],
        Each(
            tuple(Int(1, 3 - place) for place in range(3)), count="nodes", max=3, used="is_reached"
        ),
    ] = (1, 1)
    ops: Annotated[
        tuple[str, ...], Each(Choice("conv3", "skip"), count="nodes", max=3, used="has_input")
    ] = (
        "conv3",
        "skip",
    )

    @staticmethod
    def is_reached(place: int, back: tuple[int, ...]) -> bool:
        return place == 0 or any(node + steps == place for node, steps in enumerate(back))

    @staticmethod
    def has_input(place: int, back: tuple[int, ...]) -> bool:
        nodes = {0}
        for node, steps in enumerate(back):
            if node in nodes:
                nodes.add(node + steps)
        return place in nodes


class Sum(Technique):
    """A node that adds two others: in which order they are named means nothing."""

    slot = Slot.ARCHITECTURE
    name = "sum"
    inputs: Annotated[tuple[int, ...], Each(Int(0, 3), count=2, max=2)] = (0, 1)

    def canonical(self) -> Sum:
        settled = super().canonical()
        return settled.model_copy(update={"inputs": tuple(sorted(settled.inputs))})


class NoTeacher(Technique):
    """Learn from the truth alone."""

    slot = Slot.TEACHER
    name = "none"
    baseline = True


class Distilled(Technique):
    """Learn from a larger network."""

    slot = Slot.TEACHER
    name = "kd"
    weight: Annotated[float, Float(0.1, 1.0)] = 0.5
    architecture: Annotated[Technique | None, Pick(Slot.ARCHITECTURE)] = None


class NoPruning(Technique):
    """Keep all weights."""

    slot = Slot.PRUNING
    name = "none"
    baseline = True


class Sparse(Technique):
    """Set weights to zero."""

    slot = Slot.PRUNING
    name = "sparse"
    provides = frozenset({"sparse_weights"})
    conflicts = frozenset({"recurrent"})
    share: Annotated[float, Float(0.1, 0.9)] = 0.5


class NoQuantization(Technique):
    """Ship float32."""

    slot = Slot.QUANTIZATION
    name = "none"
    baseline = True


class Int8(Technique):
    """Ship int8."""

    slot = Slot.QUANTIZATION
    name = "int8_ptq"
    conflicts = frozenset({"sparse_weights"})
    per_channel: bool = True


class Packed(Technique):
    """Ship sparse weights, packed."""

    slot = Slot.QUANTIZATION
    name = "packed"
    requires = frozenset({"sparse_weights"})


class Recipe(Technique):
    """How to train."""

    slot = Slot.RECIPE
    name = "recipe"
    baseline = True
    lr: Annotated[float, Float(1e-4, 1e-2, log=True), Field(gt=0, le=1)] = 1e-3
    batch: Annotated[int, Choice(8, 16, 32), Field(ge=1, le=256)] = 16
    ema: float = Field(default=0.99, ge=0, lt=1)


CELLS: tuple[type[Technique], ...] = (Edges, Jumps, Sum)
TECHNIQUES: tuple[type[Technique], ...] = (
    NoSelection,
    LossSelection,
    Fsrcnn,
    Edsr,
    Cells,
    NoTeacher,
    Distilled,
    NoPruning,
    Sparse,
    NoQuantization,
    Int8,
    Packed,
    Recipe,
)


def plugin(
    techniques: Iterable[Any] = (),
    tasks: Iterable[Any] = (),
    metrics: Iterable[Metric] = (),
    name: str = "toys",
) -> Any:
    """Make a plugin that registers what is given."""

    class Toys:
        __name__ = name

        @hookimpl
        def register_techniques(self) -> list[Any]:
            return list(techniques)

        @hookimpl
        def register_tasks(self) -> list[Any]:
            return list(tasks)

        @hookimpl
        def register_metrics(self) -> list[Metric]:
            return list(metrics)

    return Toys()


def registry(techniques: Iterable[Any] = TECHNIQUES, tasks: Iterable[Any] = (ToyTask,)) -> Registry:
    """Make a registry of toys alone."""
    return discover(entry_points=(), plugins=[plugin(techniques, tasks)])


def resolve(section: Any, registry: Registry) -> SearchSpace:
    """Make the space of a study's `space` section, for the toy task."""
    return SearchSpace.resolve(section, ToyTask.kind, registry)
