"""What is learnt: a task owns its data, sampler, forward pass, loss, metrics and what a model maps to what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict

from automl_sr.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Tensor, nn

    from automl_sr.plugin.metric import Metric

Runner = Callable[["np.ndarray[Any, Any]"], "np.ndarray[Any, Any]"]
"""A model as shipped: one input array to one output array, both float32."""


class Samples(Protocol):
    """Training samples of any task; techniques that need more name the tasks that they serve."""

    @property
    def fingerprint(self) -> str:
        """Hash of the content, so that results computed from other data are never reused."""

    def __len__(self) -> int: ...

    def subset(self, indices: Any) -> Self:
        """Keep the samples with these indices."""

    def to(self, device: torch.device | str) -> Self:
        """Move all samples to the device on which batches are made."""


@dataclass(frozen=True)
class TaskData:
    """Training samples and validation set; `notes` are sentences for the person (skipped files, near duplicates).

    `fingerprint` hashes both, so that a study is never resumed on other data.
    """

    train: Samples
    valid: Any
    notes: tuple[str, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class Batch:
    """What one training step sees: `inputs` for the model, `target` for the loss."""

    inputs: Tensor
    target: Tensor


@dataclass(frozen=True)
class Interface:
    """The exported model's names and axes."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic_axes: dict[str, dict[int, str]]
    """By tensor name: index of the axis to its name."""


@dataclass(frozen=True)
class Piece:
    """One of several things that are looked at side by side: the truth, what needs no model, or a model's output."""

    what: str
    picture: np.ndarray[Any, Any] | None = None
    """uint8 [H, W, 3]; None where the task shows texts."""
    text: str = ""
    runner: str | None = None
    """The name of the runner that made it."""
    values: Mapping[str, float | None] = field(default_factory=dict)
    note: str = ""
    """What stands below it: its values, in words."""


@dataclass(frozen=True)
class Example:
    """One sample of the validation set with everything that is made of it; `about` is JSON."""

    name: str
    pieces: tuple[Piece, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gallery:
    """What `Task.show` gives: a sentence that explains all examples, and the examples; `about` is JSON."""

    caption: str
    examples: tuple[Example, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


class Shared(Protocol):
    """Keeps tensors that are made once for all trials, workers and studies of this machine."""

    def __call__(
        self, name: str, parts: Mapping[str, Any], make: Callable[[], dict[str, Tensor]], /
    ) -> dict[str, Tensor]:
        """Give the tensors of these parts, JSON that holds everything on which they depend, made where nobody has."""


def alone(name: str, parts: Mapping[str, Any], make: Callable[[], dict[str, Tensor]], /) -> dict[str, Tensor]:
    """Make tensors anew, and keep them for nobody."""
    return make()


class Task(BaseModel):
    """A task as the study file states it (`task: {kind: ..., ...}`); subclasses add its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]] = ()
    """The quality metrics that `measure_quality` can measure."""

    def load(self, seed: int, shared: Shared = alone) -> TaskData:
        """Read the training and validation sets; test sets are not touched. Raises DataError.

        What takes long and depends on the images alone goes through `shared`.
        """
        raise NotImplementedError

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of the sets that only refine, evaluate and report touch."""
        return ()

    def find_test(self, name: str) -> None:
        """Raise DataError where a test set is not there; nothing of it is read."""
        raise DataError(f"The task {self.kind!r} has no test sets that can be read.")

    def load_test(self, name: str) -> Any:
        """Read a test set, in the form of the validation set (`TaskData.valid`). Raises DataError."""
        raise DataError(f"The task {self.kind!r} has no test sets that can be read.")

    def load_examples(self, seed: int, count: int) -> Any:
        """Read the first validation samples and nothing else, in the form of `TaskData.valid`. Raises DataError."""
        raise DataError(f"The task {self.kind!r} has no images to show.")

    def show(self, runners: Mapping[str, Runner], data: Any, count: int) -> Gallery:
        """Set what shipped models make of the first samples of `data` side by side, in pictures or in texts."""
        raise DataError(f"The task {self.kind!r} has no images to show.")

    def dims(self) -> dict[str, int]:
        """Give what a model factory has to know of the task, for instance `{"channels": 1, "scale": 2}`."""
        raise NotImplementedError

    def check_training(self, train: Samples, *, patch: int) -> None:
        """Raise DataError where no batch could be drawn with these settings."""

    def draw(self, train: Samples, generator: torch.Generator, *, batch: int, patch: int) -> Batch:
        """Make one batch on the samples' device; all randomness comes from the generator."""
        raise NotImplementedError

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Run the model on a batch."""
        output: Tensor = model(batch.inputs)
        return output

    def loss(self, output: Tensor, batch: Batch, kind: str) -> Tensor:
        """Compare output and target; `kind` is the recipe's loss, where the task has a choice."""
        raise NotImplementedError

    def interface(self) -> Interface:
        """Name the exported model's inputs, outputs and dynamic axes."""
        raise NotImplementedError

    def examples(self) -> list[Tensor]:
        """Give inputs of two different sizes, on which the exported model is compared with the trained one."""
        raise NotImplementedError

    def cost_example(self) -> Tensor:
        """Give the input (on the meta device) for which multiply-adds are quoted."""
        raise NotImplementedError

    def training_example(self, *, batch: int, patch: int) -> Tensor:
        """Give one training input on the meta device, from which memory is estimated."""
        raise NotImplementedError

    def measure_quality(self, runner: Runner, data: TaskData, metrics: Sequence[Metric]) -> dict[str, float]:
        """Measure quality metrics of a shipped model on the validation set."""
        raise NotImplementedError

    def as_validation(self, samples: Samples) -> Any:
        """Return a few training samples in the form of the validation set (`TaskData.valid`).

        `run.score` measures on them.
        """
        return samples

    def reference(self, data: TaskData, metrics: Sequence[Metric]) -> dict[str, float]:
        """Measure the obvious alternative that needs no model (bicubic for super-resolution), where there is one."""
        return {}

    def calibration(self, train: Samples, count: int, seed: int) -> list[np.ndarray[Any, Any]]:
        """Give inputs of the shipped model, drawn from the training samples, to calibrate quantization."""
        raise NotImplementedError

    def metadata(self) -> dict[str, str]:
        """Give what a reader of the exported file has to know besides `dims`."""
        return {}

    def latency_example(self, size: tuple[int, int]) -> np.ndarray[Any, Any]:
        """Give the input on which latency is measured; `size` is the study's `device.input`."""
        raise NotImplementedError

    def reference_net(self) -> Path:
        """Give the exported net with which latency is measured in turns."""
        raise NotImplementedError
