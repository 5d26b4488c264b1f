"""A task as a plugin: take noise away from photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from automl_sr.api import Batch, Interface, Metric, Runner, Shared, Task, TaskData, alone, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

SIDE = 96
"""Side in px of the middle that is cut from each photograph."""


def psnr_restored(restored: Any, clean: Any) -> float:
    """Return the PSNR in dB of two images [3, h, w] in 0..1."""
    from automl_sr.api import psnr

    return psnr(255 * restored.transpose(1, 2, 0), 255 * clean.transpose(1, 2, 0))


@dataclass(frozen=True, eq=False)
class Photographs:
    """Clean images uint8 [N, 3, SIDE, SIDE]."""

    clean: Tensor

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(self.clean.cpu().numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.clean)

    def subset(self, indices: Any) -> Photographs:
        """Keep these images."""
        return Photographs(self.clean[indices])

    def to(self, device: torch.device | str) -> Photographs:
        """Move all of them."""
        return Photographs(self.clean.to(device))


class NoiseRemoval(Task):
    """Take Gaussian noise away from photographs."""

    kind: ClassVar[str] = "noise-removal"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "psnr_restored",
            "maximize",
            "quality",
            psnr_restored,
            unit="dB",
            help="PSNR of restored images.",
        ),
    )
    fixes: ClassVar[dict[str, Any]] = {"loss": "l1"}

    noise: float = Field(25.0, gt=0, le=255, description="Standard deviation of the noise, of 255")
    train: str = "photos-train"
    valid: str = "photos-valid"

    def load(self, seed: int, shared: Shared = alone) -> TaskData:
        """Read both sets; what noise lies on the validation images does not depend on the study."""
        train, valid = Photographs(self._read(self.train, shared)), self.load_test(self.valid)
        content = train.fingerprint + Photographs(valid[0]).fingerprint
        return TaskData(train, valid, fingerprint=hashlib.sha256(content.encode()).hexdigest())

    def find_test(self, name: str) -> None:
        """Raise DataError where the set is not there."""
        from automl_sr.api import Catalog

        Catalog.from_environment().find(name)

    def load_test(self, name: str) -> tuple[Tensor, Tensor]:
        """Read a set: clean images and noisy ones, both in 0..1."""
        from automl_sr.api import generator

        clean = self._read(name, alone).float() / 255
        return clean, self._noisy(clean, generator(0, "noise", name))

    def _read(self, name: str, shared: Shared) -> Tensor:
        from automl_sr.api import Catalog

        files = Catalog.from_environment().find(name).hr
        parts = {"files": [[str(path), path.stat().st_mtime_ns] for path in files], "side": SIDE}
        return shared("photographs", parts, lambda: {"clean": middles(files)})["clean"]

    def _noisy(self, clean: Tensor, numbers: torch.Generator) -> Tensor:
        import torch

        return clean + self.noise / 255 * torch.randn(clean.shape, generator=numbers).to(
            clean.device
        )

    def dims(self) -> dict[str, int]:
        """Tell factories of nets what they have to know."""
        return {"channels": 3, "scale": 1}

    def metadata(self) -> dict[str, str]:
        """Tell readers of the file for which noise it was made."""
        return {"noise": str(self.noise)}

    def draw(
        self, train: Photographs, generator: torch.Generator, *, batch: int, patch: int
    ) -> Batch:  # type: ignore[override]
        """Cut a patch from images drawn at random, and put fresh noise on it."""
        import torch

        rows = torch.randint(len(train), (batch,), generator=generator)
        top, left = torch.randint(SIDE - patch + 1, (2,), generator=generator).tolist()
        clean = train.clean[rows, :, top : top + patch, left : left + patch].float() / 255
        return Batch(self._noisy(clean, generator), clean)

    def loss(self, output: Tensor, batch: Batch, kind: str) -> Tensor:
        """Return the mean absolute error, which `fixes` names."""
        return (output - batch.target).abs().mean()

    def interface(self) -> Interface:
        """Name the file's input and output, and the axes whose length is free."""
        axes = {0: "batch", 2: "height", 3: "width"}
        return Interface(("input",), ("output",), {"input": axes, "output": axes})

    def examples(self, model: nn.Module) -> list[Tensor]:
        """Return inputs of two sizes."""
        import torch

        return [
            torch.linspace(0, 1, 3 * h * w).reshape(1, 3, h, w) for h, w in ((12, 15), (17, 10))
        ]

    def cost_example(self, model: nn.Module) -> Tensor:
        """Return the image for which multiply-adds are quoted."""
        import torch

        return torch.empty(1, 3, 720, 1280, device="meta")

    def training_example(self, model: nn.Module, *, batch: int, patch: int) -> Tensor:
        """Return the shape of a batch."""
        import torch

        return torch.empty(batch, 3, patch, patch, device="meta")

    def measure_quality(
        self, runner: Runner, data: TaskData, metrics: Sequence[Metric]
    ) -> dict[str, float]:
        """Measure on whole validation images."""
        clean, noisy = (images.numpy() for images in data.valid)
        return mean_of(metrics, [runner(image[None])[0].clip(0, 1) for image in noisy], clean)

    def reference(self, data: TaskData, metrics: Sequence[Metric]) -> dict[str, float]:
        """Measure the noisy images as they are."""
        clean, noisy = (images.numpy() for images in data.valid)
        return mean_of(metrics, noisy, clean)

    def calibration(
        self, train: Photographs, runner: Runner, count: int, seed: int
    ) -> list[np.ndarray[Any, Any]]:  # type: ignore[override]
        """Return noisy patches."""
        from automl_sr.api import generator

        batch = self.draw(train, generator(seed, "calibration"), batch=count, patch=48)
        return [image[None] for image in batch.inputs.cpu().numpy()]

    def latency_example(self, runner: Runner, size: tuple[int, int]) -> np.ndarray[Any, Any]:
        """Return an image of the size that the study's device asks for."""
        import numpy as np

        return np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)


def middles(files: Sequence[Any]) -> Tensor:
    """Read the middle of each image: uint8 [N, 3, SIDE, SIDE], made small first where that is most
    of it.
    """
    import numpy as np
    import torch

    from automl_sr.api import imresize, read_image, to_rgb8

    small = [imresize(to_rgb8(read_image(path)), (2 * SIDE, 2 * SIDE)) for path in files]
    cut = slice(SIDE // 2, SIDE // 2 + SIDE)
    return (
        torch.from_numpy(np.stack([image[cut, cut] for image in small]))
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def mean_of(metrics: Sequence[Metric], restored: Any, clean: Any) -> dict[str, float]:
    """Return the mean of each metric over images."""
    import numpy as np

    pairs = list(zip(restored, clean, strict=True))
    return {
        metric.name: float(np.mean([metric.of_sample(*pair) for pair in pairs]))
        for metric in metrics
    }


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Register the task."""
    return [NoiseRemoval]
