"""Single-image super-resolution: one low-resolution image in, one `scale` times as large out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from automl_sr.errors import DataError
from automl_sr.hookspecs import hookimpl
from automl_sr.metric import BUILTIN_METRICS, Metric
from automl_sr.task import Batch, Interface, Runner, Samples, Task, TaskData

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Tensor

    from automl_sr.data.catalog import ImageSet

COST_OUTPUT = (720, 1280)
"""Multiply-adds are quoted for this output, as the field does."""


class ImageSR(Task):
    """Image super-resolution by a whole factor, on luma (`color: y`) or on RGB."""

    kind: ClassVar[str] = "image-sr"
    metrics: ClassVar[tuple[Metric, ...]] = tuple(metric for metric in BUILTIN_METRICS if metric.level == "quality")

    scale: Literal[2, 3, 4] = 2
    train: tuple[str, ...] = Field(min_length=1, description="Named sets or folders to train on")
    valid: tuple[str, ...] | str = Field("10%", description="Named sets or folders, or a share of the training images")
    test: tuple[str, ...] = Field((), description="Sets that only refine, evaluate and report touch")
    color: Literal["y", "rgb"] = "y"

    @field_validator("train", "test", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("valid", mode="before")
    @classmethod
    def _share_or_sets(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not value.endswith("%"):
            return (value,)
        try:
            share = float(value[:-1])
        except ValueError:
            raise ValueError("a share is written as in '10%'") from None
        if not 0 < share < 100:
            raise ValueError("a share lies between 0% and 100%")
        return value

    def load(self, seed: int) -> TaskData:
        """Decode every image once, make the low-resolution ones once, and see that no image is in both sets."""
        from automl_sr.data.catalog import Catalog
        from automl_sr.data.overlap import content_overlap, near_duplicates
        from automl_sr.data.samples import load_pairs, load_samples

        catalog = Catalog.from_environment()
        train, valid = self._sets(catalog, seed)
        samples, skipped = load_samples(train, self.scale)
        pairs = load_pairs(valid, self.scale)
        notes = [f"skipped {path}: {reason}" for path, reason in skipped]
        same = content_overlap(train.hr, valid.hr)
        if same:
            first, second = same[0]
            raise DataError(
                f"{len(same)} validation image{'s are' if len(same) > 1 else ' is'} also in the training set: "
                f"{second} has the pixels of {first}.",
                "Take it out of task.train or task.valid.",
            )
        notes += [f"{b} looks much like the training image {a}" for a, b in near_duplicates(train.hr, valid.hr)]
        return TaskData(samples, pairs, tuple(notes))

    def _sets(self, catalog: Any, seed: int) -> tuple[ImageSet, ImageSet]:
        from automl_sr.data.catalog import ImageSet

        train = ImageSet.union([catalog.find(name) for name in self.train])
        if not isinstance(self.valid, str):
            return train, ImageSet.union([catalog.find(name) for name in self.valid])
        return train.split(float(self.valid[:-1]) / 100, seed)

    def dims(self) -> dict[str, int]:
        """Give the model's channels and scale."""
        return {"channels": 1 if self.color == "y" else 3, "scale": self.scale}

    def check_training(self, train: Samples, *, patch: int) -> None:
        """Raise DataError where no image is as large as a patch."""
        from automl_sr.data.batches import largest_patch

        largest = largest_patch(_sr(train))
        if largest < patch:
            raise DataError(
                f"No training image is as large as a patch of {patch} low-resolution px; the largest is {largest}.",
                "Use a smaller recipe.patch or larger images.",
            )

    def draw(self, train: Samples, generator: torch.Generator, *, batch: int, patch: int) -> Batch:
        """Cut, flip and rotate patches on the device, by indexing alone."""
        from automl_sr.data.batches import draw

        lr, hr = draw(_sr(train), generator, batch=batch, patch=patch, color=self.color)
        return Batch(lr, hr)

    def loss(self, output: Tensor, batch: Batch, kind: str) -> Tensor:
        """Give L1, Charbonnier (epsilon 1e-3) or mean squared error, on values in 0..1."""
        import torch
        from torch.nn import functional

        if kind == "l1":
            return functional.l1_loss(output, batch.target)
        if kind == "mse":
            return functional.mse_loss(output, batch.target)
        if kind == "charbonnier":
            return torch.sqrt((output - batch.target) ** 2 + 1e-6).mean()
        raise ValueError(f"unknown loss {kind!r}")

    def interface(self) -> Interface:
        """Name `input` and `output`, with batch, height and width dynamic."""
        axes = {0: "batch", 2: "height", 3: "width"}
        up = {0: "batch", 2: "height_out", 3: "width_out"}
        return Interface(("input",), ("output",), {"input": axes, "output": up})

    def examples(self) -> list[Tensor]:
        """Give two smooth images of odd, different sizes."""
        import torch

        channels = self.dims()["channels"]
        made = []
        for height, width in ((25, 32), (37, 19)):
            rows, columns = torch.linspace(0, 6, height)[:, None], torch.linspace(0, 9, width)[None]
            made.append(((rows.sin() * columns.cos() + 1) / 2).expand(1, channels, height, width).contiguous())
        return made

    def cost_example(self) -> Tensor:
        """Give the input whose output is 1280x720."""
        import torch

        height, width = (side // self.scale for side in COST_OUTPUT)
        return torch.empty(1, self.dims()["channels"], height, width, device="meta")

    def training_example(self, *, batch: int, patch: int) -> Tensor:
        """Give one training input."""
        import torch

        return torch.empty(batch, self.dims()["channels"], patch, patch, device="meta")

    def measure_quality(self, runner: Runner, data: TaskData, metrics: Sequence[Metric]) -> dict[str, float]:
        """Measure on whole validation images, as published tables do."""
        from automl_sr.evaluation.runtime import ImageModel, evaluate_pairs

        model = ImageModel(runner, scale=self.scale, color=self.color)
        return _means(evaluate_pairs(model, data.valid, self.scale, list(metrics)), metrics)

    def reference(self, data: TaskData, metrics: Sequence[Metric]) -> dict[str, float]:
        """Measure bicubic enlargement."""
        from automl_sr.evaluation.runtime import evaluate_pairs

        return _means(evaluate_pairs("bicubic", data.valid, self.scale, list(metrics)), metrics)

    def calibration(self, train: Samples, count: int, seed: int) -> list[np.ndarray[Any, Any]]:
        """Give low-resolution crops of the training images, one at a time."""
        from automl_sr.data.batches import draw, largest_patch
        from automl_sr.training.randomness import generator

        samples = _sr(train)
        patch = min(64, largest_patch(samples))
        lr, _ = draw(samples, generator(seed, "calibration"), batch=count, patch=patch, color=self.color, augment=False)
        return [image[None].cpu().numpy() for image in lr]

    def metadata(self) -> dict[str, str]:
        """Give the colour space on which the model works."""
        return {"color": self.color}

    def latency_example(self, size: tuple[int, int]) -> np.ndarray[Any, Any]:
        """Give one random low-resolution image of this height and width."""
        import numpy as np

        shape = (1, self.dims()["channels"], *size)
        return np.random.default_rng(0).random(shape, dtype=np.float32)

    def reference_net(self) -> Path:
        """Give FSRCNN-s of the same scale and channels."""
        from automl_sr.evaluation.latency import reference_net

        return reference_net(self.scale, self.dims()["channels"])


def _means(result: dict[str, Any], metrics: Sequence[Metric]) -> dict[str, float]:
    return {metric.name: float(result[metric.name]) for metric in metrics}


def _sr(train: Samples) -> Any:
    return train


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Register image super-resolution."""
    return [ImageSR]
