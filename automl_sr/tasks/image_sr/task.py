"""Single-image super-resolution: one low-resolution image in, one `scale` times as large out."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field, field_validator

from automl_sr.errors import DataError
from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.metric import Metric
from automl_sr.plugin.task import (
    Batch,
    Gallery,
    Interface,
    Runner,
    Samples,
    Shared,
    Task,
    TaskData,
    alone,
)
from automl_sr.tasks.image_sr.metrics import IMAGE_METRICS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from automl_sr.data.catalog import Catalog, ImageSet
    from automl_sr.data.overlap import ImageMark
    from automl_sr.plugin.task import Array
    from automl_sr.tasks.image_sr.batches import PatchSource
    from automl_sr.tasks.image_sr.samples import Pair, SRSamples

SCORED_SIDE = 96
"""Side in low-resolution px of the middle of a training image on which `run.score` measures."""
CALIBRATION_PATCH = 64
"""Side in low-resolution px of the crops on which quantization is calibrated."""


class ImageSR(Task):
    """Image super-resolution by a whole factor, on luma (`color: y`) or on RGB."""

    kind: ClassVar[str] = "image-sr"
    metrics: ClassVar[tuple[Metric, ...]] = IMAGE_METRICS

    scale: Literal[2, 3, 4] = 2
    train: tuple[str, ...] = Field(min_length=1, description="Named sets or folders to train on")
    valid: tuple[str, ...] | str = Field(
        "10%",
        description="Named sets or folders, or a share of the training images",
    )
    test: tuple[str, ...] = Field(
        (),
        description="Sets that only refine, evaluate and report touch",
    )
    color: Literal["y", "rgb"] = "y"

    @field_validator("train", "test", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        return value

    @field_validator("valid", mode="before")
    @classmethod
    def _share_or_sets(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not value.endswith("%"):
            return (value,)
        try:
            share = float(value.removesuffix("%"))
        except ValueError:
            raise ValueError("a share is written as in '10%'") from None
        if not 0 < share < 100:
            raise ValueError("a share lies between 0% and 100%")
        return value

    def load(
        self,
        seed: int,
        shared: Shared = alone,
    ) -> TaskData:
        """Decode every image once, and see that no image is in both sets.

        Low-resolution images that have to be made are made once, too.
        """
        from automl_sr.data.catalog import Catalog
        from automl_sr.data.overlap import mark_pixels
        from automl_sr.tasks.image_sr.samples import load_pairs, load_samples

        catalog = Catalog.from_environment()
        train, valid = self._sets(catalog, seed)
        samples = load_samples(train, self.scale, shared=shared)
        loaded = load_pairs(valid, self.scale, shared=shared)
        everything = dict(zip(valid.hr, loaded, strict=True))
        pairs = _without_flat(everything)

        notes = []
        for _, reason in samples.skipped:
            notes.append(f"skipped: {reason}")
        for path in everything:
            if path not in pairs:
                notes.append(
                    f"left out of validation: {path} is one flat colour, its PSNR is infinite"
                )

        in_training = _marks_of(samples, train)
        in_validation = []
        for path, pair in pairs.items():
            in_validation.append(mark_pixels(path, pair.hr))
        if isinstance(self.valid, str):
            # Nobody chose which of two equal images is validated on: the draw did.
            samples, in_training, said = _without_copies(samples, in_training, in_validation)
            notes.extend(said)
        notes.extend(_overlap(in_training, in_validation))

        # Of what is in the files: the same images under other names give the same results.
        contents = [samples.fingerprint]
        for mark in in_validation:
            contents.append(mark.content)
        fingerprint = hashlib.sha256(";".join(contents).encode()).hexdigest()
        return TaskData(samples, list(pairs.values()), tuple(notes), fingerprint)

    def _sets(
        self,
        catalog: Catalog,
        seed: int,
    ) -> tuple[ImageSet, ImageSet]:
        """Find the sets to train and to validate on."""
        train = _union([catalog.find(name) for name in self.train])
        if isinstance(self.valid, str):
            percent = float(self.valid.removesuffix("%"))
            return _split(train, percent / 100, seed)
        valid = _union([catalog.find(name) for name in self.valid])
        return train, valid

    @property
    def test_sets(self) -> tuple[str, ...]:
        """The sets that only refine, evaluate and report touch."""
        return self.test

    def find_test(self, name: str) -> None:
        """Raise DataError where a test set is not there; none of its images is read."""
        from automl_sr.data.catalog import Catalog

        Catalog.from_environment().find(name)

    def load_test(self, name: str) -> list[Pair]:
        """Return the pairs of a named set, as `load` makes those of the validation set.

        Raises DataError.
        """
        from automl_sr.data.catalog import Catalog
        from automl_sr.tasks.image_sr.samples import load_pairs

        found = Catalog.from_environment().find(name)
        return load_pairs(found, self.scale)

    def load_examples(
        self,
        seed: int,
        count: int,
    ) -> list[Pair]:
        """Return the first validation pairs only; training images stay where they are.

        Raises DataError.
        """
        from automl_sr.data.catalog import Catalog, ImageSet
        from automl_sr.tasks.image_sr.samples import load_pairs

        catalog = Catalog.from_environment()
        _, valid = self._sets(catalog, seed)
        # Cut before it is read: the rest of the set need not be decoded.
        lr = {}
        for scale, paths in valid.lr.items():
            lr[scale] = paths[:count]
        first = ImageSet(valid.name, valid.hr[:count], lr)
        return load_pairs(first, self.scale)

    def show(
        self,
        runners: Mapping[str, Runner],
        data: list[Pair],
        count: int,
    ) -> Gallery:
        """Cut a piece from each of the first images.

        It shows the original, bicubic, and what each runner makes of it.
        """
        from automl_sr.tasks.image_sr.image_model import ImageModel
        from automl_sr.tasks.image_sr.pictures import SIDE, example

        models = {}
        for name, runner in runners.items():
            models[name] = ImageModel(runner, self.scale, self.color)
        examples = []
        for pair in data[:count]:
            examples.append(example(pair, self.scale, models))

        sets = self.valid
        if not isinstance(sets, str):
            sets = ", ".join(sets)
        caption = (
            f"Cuts of {SIDE} pixels from images of {sets}, where they have the most detail, at"
            f" x{self.scale}. PSNR on luma is that of the whole image."
        )
        about = {"set": sets, "scale": self.scale, "side": SIDE}
        return Gallery(caption, tuple(examples), about)

    def dims(self) -> dict[str, int]:
        """Return the model's channels and scale."""
        channels = 3
        if self.color == "y":
            channels = 1
        return {"channels": channels, "scale": self.scale}

    def check_training(
        self,
        train: Samples,
        *,
        patch: int,
    ) -> None:
        """Raise DataError where no image is as large as a patch."""
        _patches(_sr(train), patch)

    def draw(
        self,
        train: Samples,
        generator: torch.Generator,
        *,
        batch: int,
        patch: int,
    ) -> Batch:
        """Cut, flip and rotate patches on the device, by indexing alone."""
        source = _patches(_sr(train), patch)
        lr, hr = source.draw(generator, batch, color=self.color)
        return Batch(lr, hr)

    def loss(
        self,
        output: Tensor,
        batch: Batch,
        kind: str,
    ) -> Tensor:
        """Return L1, Charbonnier (epsilon 1e-3) or mean squared error, on values in 0..1."""
        import torch
        from torch.nn import functional

        if kind == "l1":
            return functional.l1_loss(output, batch.target)
        if kind == "mse":
            return functional.mse_loss(output, batch.target)
        if kind == "charbonnier":
            squares = (output - batch.target) ** 2
            return torch.sqrt(squares + 1e-6).mean()  # the square of epsilon
        raise ValueError(f"unknown loss {kind!r}")

    def interface(self) -> Interface:
        """Name `input` and `output`, with batch, height and width dynamic."""
        # Height and width have other names behind the net: one name would mean one size.
        axes = {0: "batch", 2: "height", 3: "width"}
        up = {0: "batch", 2: "height_out", 3: "width_out"}
        return Interface(
            inputs=("input",),
            outputs=("output",),
            dynamic_axes={"input": axes, "output": up},
            ranges={"input": (0.0, 1.0)},
        )

    def examples(self, model: nn.Module) -> list[Tensor]:
        """Return two smooth images of odd, different sizes."""
        import torch

        channels = self.dims()["channels"]
        images = []
        for height, width in ((25, 32), (37, 19)):
            rows = torch.linspace(0, 6, height)[:, None]
            columns = torch.linspace(0, 9, width)[None]
            waves = rows.sin() * columns.cos()
            image = (waves + 1) / 2
            images.append(image.expand(1, channels, height, width).contiguous())
        return images

    def cost_example(self, model: nn.Module) -> Tensor:
        """Return the input whose output is 1280x720, its sides rounded up."""
        import torch

        from automl_sr.tasks.image_sr.cost import OUTPUT_720P

        height, width = (-(-side // self.scale) for side in OUTPUT_720P)
        channels = self.dims()["channels"]
        # On the meta device a tensor has a shape and no values: counting takes no memory.
        return torch.empty(1, channels, height, width, device="meta")

    def training_example(
        self,
        model: nn.Module,
        *,
        batch: int,
        patch: int,
    ) -> Tensor:
        """Return one training input."""
        import torch

        channels = self.dims()["channels"]
        return torch.empty(batch, channels, patch, patch, device="meta")

    def measure_quality(
        self,
        runner: Runner,
        data: TaskData,
        metrics: Sequence[Metric],
    ) -> dict[str, float]:
        """Measure on whole validation images, as published tables do."""
        from automl_sr.tasks.image_sr.image_model import ImageModel, evaluate_pairs

        model = ImageModel(runner, scale=self.scale, color=self.color)
        result = evaluate_pairs(model, data.valid, self.scale, list(metrics))
        return _means(result, metrics)

    def as_validation(self, samples: Samples) -> list[Pair]:
        """Return the middle of each training image as a pair.

        Raises DataError where all are of one flat colour.
        """
        from automl_sr.tasks.image_sr.samples import middles

        named = {}
        for place, pair in enumerate(middles(_sr(samples), SCORED_SIDE)):
            named[Path(str(place))] = pair
        return list(_without_flat(named).values())

    def reference(
        self,
        data: TaskData,
        metrics: Sequence[Metric],
    ) -> dict[str, float]:
        """Measure bicubic enlargement."""
        from automl_sr.tasks.image_sr.image_model import evaluate_pairs

        result = evaluate_pairs("bicubic", data.valid, self.scale, list(metrics))
        return _means(result, metrics)

    def calibration(
        self,
        train: Samples,
        runner: Runner,
        count: int,
        seed: int,
    ) -> list[Array]:
        """Return low-resolution crops of the training images, one at a time."""
        from automl_sr.training.randomness import generator

        samples = _sr(train)
        # Small images are taken as they are: a patch has to fit into one at least.
        largest = int(samples.windows[:, 3:].amin(dim=1).max())
        source = _patches(samples, min(CALIBRATION_PATCH, largest))
        numbers = generator(seed, "calibration")
        lr, _ = source.draw(numbers, count, augment=False, color=self.color)
        crops: list[Array] = []
        for image in lr:
            crops.append(image[None].cpu().numpy())
        return crops

    def metadata(self) -> dict[str, str]:
        """Return the colour space on which the model works."""
        return {"color": self.color}

    def latency_example(
        self,
        runner: Runner,
        size: tuple[int, int],
    ) -> Array:
        """Return one random low-resolution image of this height and width."""
        import numpy as np

        shape = (1, self.dims()["channels"], *size)
        numbers = np.random.default_rng(0)
        return numbers.random(shape, dtype=np.float32)

    def reference_net(self) -> Path:
        """Return FSRCNN-s of the same scale and channels."""
        from automl_sr.tasks.image_sr.reference_net import reference_net

        return reference_net(self.scale, self.dims()["channels"])


def _means(result: dict[str, Any], metrics: Sequence[Metric]) -> dict[str, float]:
    means: dict[str, float] = {}
    for metric in metrics:
        means[metric.name] = float(result[metric.name])
    return means


def _overlap(training: Sequence[ImageMark], validation: Sequence[ImageMark]) -> list[str]:
    """Say which validation images look like training images.

    Raises DataError where some are the same.
    """
    from automl_sr.data.overlap import alike, identical

    same = identical(training, validation)
    if same:
        first, second = same[0]
        images = " is"
        if len(same) > 1:
            images = "s are"
        raise DataError(
            f"{len(same)} validation image{images} also in the training set: {second} has the"
            f" pixels of {first}.",
            "Take it out of task.train or task.valid.",
        )
    notes = []
    for match in alike(training, validation):
        notes.append(f"{match.second} looks much like the training image {match.first}")
    return notes


def _without_copies(
    samples: SRSamples,
    training: Sequence[ImageMark],
    validation: Sequence[ImageMark],
) -> tuple[SRSamples, list[ImageMark], list[str]]:
    """Take training images out that are validated on under another name, and say so.

    Raises DataError where no other image is left.
    """
    from automl_sr.data.overlap import identical

    drawn = dict(identical(training, validation))
    kept = []
    left: list[ImageMark] = []
    for index, mark in enumerate(training):
        if mark.path not in drawn:
            kept.append(index)
            left.append(mark)
    if not left:
        raise DataError("All training images are copies of validation images.", "Use more images.")

    notes = []
    for copy, other in drawn.items():
        notes.append(f"left out of training: {copy} has the pixels of the validation image {other}")
    if notes:
        samples = samples.subset(kept)
    return samples, left, notes


def _without_flat(pairs: dict[Path, Pair]) -> dict[Path, Pair]:
    """Take out images of one colour.

    Any model gets them right, so that every mean over them would be infinite.
    """
    kept = {}
    for path, pair in pairs.items():
        corner = pair.hr[:1, :1]
        if not (pair.hr == corner).all():
            kept[path] = pair
    if not kept:
        raise DataError("Every validation image is one flat colour.", "Validate on photographs.")
    return kept


def _marks_of(samples: SRSamples, files: ImageSet) -> list[ImageMark]:
    """Hash the decoded training images; those that were skipped have no pixels."""
    from automl_sr.data.overlap import mark_pixels

    skipped = {path for path, _ in samples.skipped}
    marks: list[ImageMark] = []
    for path in files.hr:
        if path in skipped:
            continue
        # Images lie in the store as their files do, without the skipped ones.
        pixels = samples.hr.image(len(marks)).permute(1, 2, 0)
        marks.append(mark_pixels(path, pixels.numpy()))
    return marks


def _sr(train: Samples) -> SRSamples:
    """Take the samples for what they are: only this task's `load` made them."""
    return cast("SRSamples", train)


@functools.lru_cache(maxsize=8)
def _patches(train: SRSamples, patch: int) -> PatchSource:
    """Keep what does not change from batch to batch.

    Raises DataError where no image is as large as a patch.
    """
    from automl_sr.tasks.image_sr.batches import PatchSource

    return PatchSource.of(train, patch)


def _union(sets: Sequence[ImageSet]) -> ImageSet:
    """Put sets together.

    Low-resolution files count where every set has them, the others are made.
    """
    from automl_sr.data.catalog import ImageSet

    names = [one.name for one in sets]
    hr: list[Path] = []
    for one in sets:
        hr.extend(one.hr)

    lr = {}
    for scale in set.intersection(*(set(one.lr) for one in sets)):
        paths: list[Path] = []
        for one in sets:
            paths.extend(one.lr[scale])
        lr[scale] = tuple(paths)
    return ImageSet("+".join(names), tuple(hr), lr)


def _split(
    whole: ImageSet,
    share: float,
    seed: int,
) -> tuple[ImageSet, ImageSet]:
    """Take a share of the images (at least one) away for validation, drawn by the seed."""
    import numpy as np

    total = len(whole.hr)
    count = max(1, round(share * total))
    if count >= total:
        raise DataError(
            f"{whole.name} has {total} images: a validation share of {share:.0%} leaves"
            " none to train on.",
            "Name a validation set, or use more images.",
        )
    order = np.random.default_rng(seed).permutation(total)
    # Sorted, so that both parts keep the order of the files.
    train = _pick(whole, sorted(order[count:]))
    valid = _pick(whole, sorted(order[:count]))
    return train, valid


def _pick(whole: ImageSet, indices: Sequence[int]) -> ImageSet:
    from automl_sr.data.catalog import ImageSet

    hr = tuple(whole.hr[index] for index in indices)
    lr = {}
    for scale, paths in whole.lr.items():
        lr[scale] = tuple(paths[index] for index in indices)
    return ImageSet(whole.name, hr, lr)


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Register image super-resolution."""
    return [ImageSR]
