"""What is learnt.

A task owns its data, sampler, forward pass, loss, metrics and what a model maps to what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from automl_sr.errors import DataError, PluginError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Tensor, nn

    from automl_sr.plugin.metric import Metric

    Array = np.ndarray[Any, Any]
    Inputs = Tensor | tuple[Tensor, ...]
    """What a module is called with: one tensor, or several in the order of `Interface.inputs`."""
    Feed = Mapping[str, Array]
    """What a file is run on, by the names of its inputs."""


@dataclass(frozen=True)
class Port:
    """An input or output of a net.

    A dimension is a number where the file fixes it, else a name or nothing.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class Runner(Protocol):
    """A model as shipped.

    It is called with one array where it takes one, or `run` with arrays by name.
    """

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the file takes: a state's channels stand in its shape."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What the file gives."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the exporter wrote into the file."""

    def __call__(self, batch: Array, /) -> Array:
        """Return the first output for the one float32 input."""

    def run(self, feed: Feed, /) -> dict[str, Array]:
        """Return all outputs by name for all inputs by name."""


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
    """Training samples and validation set.

    `notes` are sentences for the person (skipped files, near duplicates). `fingerprint` hashes
    both, so that a study is never resumed on other data.
    """

    train: Samples
    valid: Any
    notes: tuple[str, ...] = ()
    fingerprint: str = ""


class NoSamples:
    """Stands in for training samples where a shipped model is only measured."""

    fingerprint = ""

    def __len__(self) -> int:
        return 0

    def subset(self, indices: Any) -> Self:
        """Return itself."""
        return self

    def to(self, device: torch.device | str) -> Self:
        """Return itself."""
        return self


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    `inputs` are for the model (one tensor, or several), `target` is for the loss.
    """

    inputs: Inputs
    target: Tensor


@dataclass(frozen=True)
class Interface:
    """The exported model's names and axes."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic_axes: dict[str, dict[int, str]]
    """By tensor name: index of the axis to its name."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Between which values inputs lie, by name, where that is known: quantization then need not
    estimate it.
    """


@dataclass(frozen=True)
class Piece:
    """One of several things that are looked at side by side.

    It is the truth, what needs no model, or a model's output.
    """

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
    """What `Task.show` gives.

    It is a sentence that explains all examples, and the examples; `about` is JSON.
    """

    caption: str
    examples: tuple[Example, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


class Shared(Protocol):
    """Keeps tensors that are made once for all trials, workers and studies of this machine."""

    def __call__(
        self, name: str, parts: Mapping[str, Any], make: Callable[[], dict[str, Tensor]], /
    ) -> dict[str, Tensor]:
        """Return the tensors of these parts, made where nobody has.

        The parts are JSON that holds everything on which the tensors depend.
        """


def as_inputs(given: Inputs) -> tuple[Tensor, ...]:
    """Return the inputs of a module as a tuple, also where it is a single tensor."""
    if isinstance(given, tuple):
        return given
    return (given,)


def alone(
    name: str, parts: Mapping[str, Any], make: Callable[[], dict[str, Tensor]], /
) -> dict[str, Tensor]:
    """Make tensors anew, and keep them for nobody."""
    return make()


class Task(BaseModel):
    """A task as the study file states it (`task: {kind: ..., ...}`); subclasses add its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]] = ()
    """The quality metrics that `measure_quality` can measure."""
    fixes: ClassVar[Mapping[str, Any]] = {}
    """Fields of the recipe that are not searched for this task, with the values that they have:
    `{"patch": 32}`.
    """

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
        """Read a test set, in the form of the validation set (`TaskData.valid`).

        Raises DataError.
        """
        raise DataError(f"The task {self.kind!r} has no test sets that can be read.")

    def load_examples(self, seed: int, count: int) -> Any:
        """Read the first validation samples and nothing else, in the form of `TaskData.valid`.

        Raises DataError.
        """
        raise DataError(f"The task {self.kind!r} has no images to show.")

    def show(
        self,
        runners: Mapping[str, Runner],
        data: Any,
        count: int,
    ) -> Gallery:
        """Set what shipped models make of the first samples of `data` side by side.

        The gallery shows pictures or texts.
        """
        raise DataError(f"The task {self.kind!r} has no images to show.")

    def dims(self) -> dict[str, int]:
        """Return what a model factory has to know of the task.

        For instance `{"channels": 1, "scale": 2}`.
        """
        raise NotImplementedError

    def check_training(self, train: Samples, *, patch: int) -> None:
        """Raise DataError where no batch could be drawn with these settings."""

    def draw(
        self,
        train: Samples,
        generator: torch.Generator,
        *,
        batch: int,
        patch: int,
    ) -> Batch:
        """Make one batch on the samples' device; all randomness comes from the generator."""
        raise NotImplementedError

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Run the model on a batch."""
        output: Tensor = model(*as_inputs(batch.inputs))
        return output

    def loss(self, output: Tensor, batch: Batch, kind: str) -> Tensor:
        """Compare output and target; `kind` is the recipe's loss, where the task has a choice."""
        raise NotImplementedError

    def interface(self) -> Interface:
        """Name the exported model's inputs, outputs and dynamic axes."""
        raise NotImplementedError

    def examples(self, model: nn.Module) -> Sequence[Inputs]:
        """Return inputs of two different sizes.

        The exported model is compared with the trained one on them. Where a model takes several
        inputs, each entry is a tuple of them; their shapes may depend on the model.
        """
        raise NotImplementedError

    def cost_example(self, model: nn.Module) -> Inputs:
        """Return the input (on the meta device) for which multiply-adds are quoted."""
        raise NotImplementedError

    def training_example(
        self,
        model: nn.Module,
        *,
        batch: int,
        patch: int,
    ) -> Inputs:
        """Return one training input on the meta device, from which memory is estimated."""
        raise NotImplementedError

    def measure_quality(
        self, runner: Runner, data: TaskData, metrics: Sequence[Metric]
    ) -> dict[str, float]:
        """Measure quality metrics of a shipped model on the validation set."""
        raise NotImplementedError

    def as_validation(self, samples: Samples) -> Any:
        """Return a few training samples in the form of the validation set (`TaskData.valid`).

        `run.score` measures on them.
        """
        return samples

    def reference(self, data: TaskData, metrics: Sequence[Metric]) -> dict[str, float]:
        """Measure the obvious alternative that needs no model, where there is one.

        For super-resolution it is bicubic interpolation.
        """
        return {}

    def calibration(
        self, train: Samples, runner: Runner, count: int, seed: int
    ) -> Sequence[Array | Feed]:
        """Return inputs of the shipped model to calibrate quantization.

        They are drawn from the training samples. `runner` is the float file: states of a recurrent
        net come from running it.
        """
        raise NotImplementedError

    def metadata(self) -> dict[str, str]:
        """Return what a reader of the exported file has to know besides `dims`."""
        return {}

    def latency_example(self, runner: Runner, size: tuple[int, int]) -> Array | Feed:
        """Return the input on which a file is timed; `size` is the study's `device.input`.

        Each timed file is asked for its own, the reference net too: `runner.inputs` says what it
        takes.
        """
        raise NotImplementedError

    def reference_net(self) -> Path:
        """Return the exported net with which latency is measured in turns.

        A task without one leaves this out. Only metrics that need it ask for it (`Metric.needs`): a
        study file that names one is refused where there is none.
        """
        raise PluginError(f"The task {self.kind!r} has no reference net.")

    @classmethod
    def has_reference_net(cls) -> bool:
        """Return whether the task brings a reference net."""
        return cls.reference_net is not Task.reference_net

    @classmethod
    def of_file(cls, metadata: Mapping[str, str]) -> Self:
        """Return the task of a shipped model, from what `dims` and `metadata` told the file.

        Fields that the file does not tell have their defaults. Raises DataError.
        """
        # A file tells more than the fields of its task, and a task forbids what is none.
        told: dict[str, str] = {}
        for name in cls.model_fields:
            if name in metadata:
                told[name] = metadata[name]
        try:
            return cls.model_validate(told)
        except ValidationError as error:
            missing = ", ".join(str(item["loc"][0]) for item in error.errors() if item["loc"])
            raise DataError(
                f"The file does not tell what its task {cls.kind!r} has to know ({missing}).",
                "Export it again.",
            ) from error
