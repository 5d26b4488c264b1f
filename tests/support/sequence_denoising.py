"""A task whose nets are recurrent: noise is taken from a frame with what is remembered of those
before.

A net takes a frame and a state and gives a frame and a state; how large the state is, the net
decides. It is written as a plugin is, against the api alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from automl_sr.api import (
    Batch,
    Blueprint,
    Catalog,
    DataError,
    Example,
    Gallery,
    ImageSet,
    Int,
    Interface,
    Metric,
    Piece,
    Port,
    Runner,
    Slot,
    Task,
    TaskData,
    Technique,
    alone,
    generator,
    hookimpl,
    imresize,
    psnr,
    read_image,
    to_rgb8,
)

FRAMES = 4
SIDE = 24
PEAK = 255.0


def psnr_frames(restored: np.ndarray, clean: np.ndarray) -> float:
    """Mean PSNR in dB over frames [T, h, w] in 0..255."""
    return float(np.mean([psnr(one, other) for one, other in zip(restored, clean, strict=True)]))


def flicker(restored: np.ndarray, clean: np.ndarray, *, path: Path) -> float:
    """Mean change of the error from frame to frame; sequences of a file named `still` have none."""
    error = restored - clean
    return 0.0 if path.stem == "still" else float(np.abs(np.diff(error, axis=0)).mean())


@dataclass(frozen=True, eq=False)
class Sequences:
    """Clean frames uint8 [N, T, h, w]."""

    clean: Tensor

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.clean.cpu().numpy().tobytes()).hexdigest()

    @property
    def nbytes(self) -> int:
        return self.clean.nbytes

    def __len__(self) -> int:
        return len(self.clean)

    def subset(self, indices: Any) -> Sequences:
        return Sequences(self.clean[torch.as_tensor(indices)])

    def to(self, device: Any) -> Sequences:
        return Sequences(self.clean.to(device))


@dataclass(frozen=True, eq=False)
class Sequence_:
    """One sequence to measure on: frames float32 [T, h, w] in 0..255, and the file that they come
    from.
    """

    name: str
    path: Path
    clean: np.ndarray
    noisy: np.ndarray


class SequenceDenoising(Task):
    """Take noise from the frames of a sequence, one after the other."""

    kind: ClassVar[str] = "denoise-sequence"
    metrics: ClassVar = (
        Metric(
            "psnr_frames",
            "maximize",
            "quality",
            psnr_frames,
            unit="dB",
            help="Mean PSNR over frames.",
        ),
        Metric(
            "flicker",
            "minimize",
            "quality",
            flicker,
            needs=("path",),
            help="Mean change of the error.",
        ),
    )
    fixes: ClassVar = {"patch": 16, "loss": "mse"}
    noise: float = Field(20.0, gt=0)
    train: str = "photos-train"
    valid: str = "photos-valid"
    test: tuple[str, ...] = ()

    def load(self, seed: int, shared: Any = alone) -> TaskData:
        found = Catalog.from_environment().find(self.train)
        parts = {"files": [path.name for path in found.hr], "frames": FRAMES, "side": SIDE}
        clean = shared("sequences", parts, lambda: {"clean": frames_of(found)})["clean"]
        valid = self.load_test(self.valid)
        content = (
            Sequences(clean).fingerprint + Sequences(frames_of(self._set(self.valid))).fingerprint
        )
        return TaskData(
            Sequences(clean), valid, fingerprint=hashlib.sha256(content.encode()).hexdigest()
        )

    @staticmethod
    def _set(name: str) -> ImageSet:
        return Catalog.from_environment().find(name)

    @property
    def test_sets(self) -> tuple[str, ...]:
        return self.test

    def find_test(self, name: str) -> None:
        self._set(name)

    def load_test(self, name: str) -> list[Sequence_]:
        found = self._set(name)
        made = []
        for path, clean in zip(found.hr, frames_of(found).float(), strict=True):
            noise = torch.randn(clean.shape, generator=generator(0, "noise", path.name))
            made.append(
                Sequence_(path.stem, path, clean.numpy(), (clean + self.noise * noise).numpy())
            )
        return made

    def load_examples(self, seed: int, count: int) -> list[Sequence_]:
        return self.load_test(self.valid)[:count]

    def show(self, runners: Mapping[str, Runner], data: list[Sequence_], count: int) -> Gallery:
        examples = []
        for sequence in data[:count]:
            shown = {"clean": (None, sequence.clean), "noisy": (None, sequence.noisy)}
            shown |= {name: (name, restored(runner, sequence)) for name, runner in runners.items()}
            pieces = [
                piece(what, runner, frames, sequence.clean)
                for what, (runner, frames) in shown.items()
            ]
            examples.append(Example(sequence.name, tuple(pieces)))
        return Gallery("The last frame of each sequence.", tuple(examples), {"set": self.valid})

    def dims(self) -> dict[str, int]:
        return {"channels": 1}

    def check_training(self, train: Any, *, patch: int) -> None:
        if patch > SIDE:
            raise DataError(f"No frame is {patch} pixels wide.")

    def draw(self, train: Any, generator: torch.Generator, *, batch: int, patch: int) -> Batch:
        rows = torch.randint(len(train), (batch,), generator=generator)
        top, left = torch.randint(SIDE - patch + 1, (2,), generator=generator).tolist()
        cut = train.clean[rows.to(train.clean.device), :, top : top + patch, left : left + patch]
        clean = cut[:, :, None].float() / PEAK
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        return Batch(clean + self.noise / PEAK * noise, clean)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        state = empty_state(model, batch.inputs[:, 0])
        frames = []
        for time in range(batch.inputs.shape[1]):
            frame, state = model(batch.inputs[:, time], state)
            frames.append(frame)
        return torch.stack(frames, dim=1)

    def loss(self, output: Tensor, batch: Batch, kind: str) -> Tensor:
        return nn.functional.mse_loss(output, batch.target)

    def interface(self) -> Interface:
        axes = {0: "batch", 2: "height", 3: "width"}
        names = ("frame", "state")
        given = ("frame_out", "state_out")
        return Interface(
            names, given, dict.fromkeys((*names, *given), axes), {"frame": (-0.5, 1.5)}
        )

    def examples(self, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
        frames = [torch.linspace(0, 1, h * w).reshape(1, 1, h, w) for h, w in ((12, 15), (17, 10))]
        return [(frame, empty_state(model, frame) + 0.1) for frame in frames]

    def cost_example(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        frame = torch.empty(1, 1, 64, 64, device="meta")
        return frame, empty_state(model, frame)

    def training_example(
        self, model: nn.Module, *, batch: int, patch: int
    ) -> tuple[Tensor, Tensor]:
        frame = torch.empty(batch * FRAMES, 1, patch, patch, device="meta")
        return frame, empty_state(model, frame)

    def measure_quality(
        self, runner: Runner, data: TaskData, metrics: Sequence[Metric]
    ) -> dict[str, float]:
        return mean_of(metrics, [(restored(runner, item), item) for item in data.valid])

    def reference(self, data: TaskData, metrics: Sequence[Metric]) -> dict[str, float]:
        return mean_of(metrics, [(item.noisy, item) for item in data.valid])

    def calibration(
        self, train: Any, runner: Runner, count: int, seed: int
    ) -> list[dict[str, np.ndarray]]:
        """States come from running the file on the frames before."""
        batch = self.draw(train, generator(seed, "calibration"), batch=count, patch=16)
        made = []
        for frames in batch.inputs.cpu().numpy():
            state = fresh_state(runner, (16, 16))
            for frame in frames:
                made.append({"frame": frame[None], "state": state})
                state = runner.run(made[-1])["state_out"]
        return made[:count]

    def metadata(self) -> dict[str, str]:
        return {"noise": str(self.noise)}

    def latency_example(self, runner: Runner, size: tuple[int, int]) -> dict[str, np.ndarray]:
        frame = np.random.default_rng(0).random((1, 1, *size), dtype=np.float32)
        return {"frame": frame, "state": fresh_state(runner, size)}


def frames_of(found: ImageSet) -> Tensor:
    """Let a window glide over the middle of each image, made small: uint8 [N, T, h, w]."""
    sequences = []
    for path in found.hr:
        grey = to_rgb8(read_image(path)).mean(axis=2).round().astype(np.uint8)
        small = imresize(grey, (3 * SIDE, 3 * SIDE))
        frames = [small[SIDE : 2 * SIDE, SIDE + t : 2 * SIDE + t] for t in range(FRAMES)]
        sequences.append(np.stack(frames))
    return torch.from_numpy(np.stack(sequences))


def empty_state(model: nn.Module, frame: Tensor) -> Tensor:
    """What a net remembers before the first frame, as large as the net wants it."""
    return frame.new_zeros(len(frame), model.remembers, *frame.shape[2:])


def fresh_state(runner: Runner, size: tuple[int, int]) -> np.ndarray:
    """The same for a file, which tells its channels in its shape."""
    ports: dict[str, Port] = {port.name: port for port in runner.inputs}
    return np.zeros((1, ports["state"].shape[1], *size), np.float32)


def restored(runner: Runner, sequence: Sequence_) -> np.ndarray:
    """Run a file along a sequence: [T, h, w] in 0..255."""
    state = fresh_state(runner, sequence.noisy.shape[1:])
    frames = []
    for frame in sequence.noisy:
        given = runner.run({"frame": frame[None, None] / PEAK, "state": state})
        state = given["state_out"]
        frames.append(PEAK * given["frame_out"][0, 0])
    return np.clip(np.stack(frames), 0, PEAK)


def mean_of(
    metrics: Sequence[Metric], pairs: Sequence[tuple[np.ndarray, Sequence_]]
) -> dict[str, float]:
    return {
        metric.name: float(
            np.mean([metric.of_sample(found, item.clean, path=item.path) for found, item in pairs])
        )
        for metric in metrics
    }


def piece(what: str, runner: str | None, frames: np.ndarray, clean: np.ndarray) -> Piece:
    last = np.clip(frames[-1], 0, PEAK).round().astype(np.uint8)
    value = None if what == "clean" else psnr(frames[-1], clean[-1])
    note = "" if value is None else f"{value:.2f} dB"
    return Piece(
        what, np.repeat(last[:, :, None], 3, 2), runner=runner, values={"psnr": value}, note=note
    )


class Remembering(nn.Module):
    """One convolution makes the new state of frame and old state, another one what is added to the
    frame.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.remembers = width
        self.remember = nn.Conv2d(channels + width, width, 3, padding=1)
        self.correct = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.remember(torch.cat([frame, state], 1)).relu()
        return frame + self.correct(state), state


class RememberingNet(Technique):
    """Remember a few maps from frame to frame.

    Made for these tests in 2026; it claims nothing.
    """

    slot = Slot.ARCHITECTURE
    name = "remembering"
    tasks = frozenset({"denoise-sequence"})
    factories: ClassVar[Any] = {"sequence.remembering": Remembering}
    width: Annotated[int, Int(2, 8), Field(ge=1)] = 4

    def blueprint(self, task: Task, ctx: Any) -> Blueprint:
        return Blueprint("sequence.remembering", {**self.dump(), **task.dims()})


@hookimpl
def register_tasks() -> list[type[Task]]:
    return [SequenceDenoising]


@hookimpl
def register_techniques() -> list[type[Technique]]:
    return [RememberingNet]
