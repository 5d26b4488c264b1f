"""Rate of the training loop beside the usual one, in the same run: `python
tests/benchmarks/training.py --device cpu`.

The usual loop: PNG sub-images on disk, decoded and cropped by a DataLoader with `--workers`, fp32,
default memory format, Adam. Ours: images decoded once, patches cut on the device by indexing,
channels_last and bf16 where the device computes in it. The two take turns, so that a machine that
slows down slows both; the median of the rates counts.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import installed
from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.training.phases import Phase, Timetable
from automl_sr.training.randomness import repeat_kernels
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run, Setup
from automl_sr.trial.cache import Cache
from automl_sr.trial.context import Context

PATCH, SCALE = 48, 2
WARMUP = 4
NETS = {
    "FSRCNN(56,12,4)": ("fsrcnn", {"d": 56, "s": 12, "m": 4}),
    "MSRResNet 4 blocks, 32 channels": ("msrresnet", {"width": 32, "blocks": 4}),
}


class Folder(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of PNG sub-images, cropped and flipped as they are read."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*_hr.png"))

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(index)
        hr_file = self.files[int(rng.integers(len(self.files)))]
        hr = np.asarray(Image.open(hr_file).convert("RGB"))
        lr = np.asarray(Image.open(str(hr_file).replace("_hr", "_lr")).convert("RGB"))
        top, left = (int(rng.integers(side - PATCH + 1)) for side in lr.shape[:2])
        lr = lr[top : top + PATCH, left : left + PATCH]
        hr = hr[top * SCALE : (top + PATCH) * SCALE, left * SCALE : (left + PATCH) * SCALE]
        if rng.random() < 0.5:
            lr, hr = lr[:, ::-1], hr[:, ::-1]
        if rng.random() < 0.5:
            lr, hr = lr.transpose(1, 0, 2), hr.transpose(1, 0, 2)
        return tuple(
            torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))).float() / 255
            for x in (lr, hr)
        )  # type: ignore[return-value]


def usual(
    model: nn.Module, folder: Path, device: str, batch: int, workers: int
) -> Generator[None, None, None]:
    pinned = device != "cpu"
    loader = iter(
        DataLoader(Folder(folder), batch_size=batch, num_workers=workers, pin_memory=pinned)
    )
    model = model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    for pair in loader:
        lr, hr = (tensor.to(device, non_blocking=pinned) for tensor in pair)
        optimizer.zero_grad()
        nn.functional.l1_loss(model(lr), hr).backward()
        optimizer.step()
        yield


def ours(run: Run) -> Generator[None, None, None]:
    while True:
        run.advance()
        yield


def rate(steps: Iterator[None], count: int, device: str) -> float:
    start = time.perf_counter()
    for _ in range(count):
        next(steps)
    if device != "cpu":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=15, help="steps in a round")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that read images for the usual loop"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile ours (recipe.compile)"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    device, batch = arguments.device, arguments.batch
    repeat_kernels(device)
    registry = installed()
    task = ImageSR(scale=SCALE, train=("photos-train",), valid=("photos-valid",), color="rgb")
    data = task.load(0).train.to(device)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sub_images(data, folder)
        for title, (architecture, fields) in NETS.items():
            context = Context(
                registry, task, 0, device, folder, Cache(folder / "cache"), data.fingerprint
            )
            technique = context.build("architecture", architecture, **fields)
            blueprint = technique.blueprint(task, context)
            recipe = Recipe(
                batch=batch, patch=PATCH, precision=arguments.precision, compile=arguments.compile
            )
            table = Timetable.of([Phase("train", 1.0)], 1_000_000, recipe.cooldown)
            run = Run.start(Setup(context, task, data, recipe, (), table, 0, device), blueprint)
            model = build(blueprint, registry)
            rates: dict[str, list[float]] = {"usual": [], "ours": []}
            for _ in range(arguments.rounds):
                # Loops of their own for every round: waiting workers would go on decoding while the
                # other is timed.
                for key, steps in (
                    ("usual", usual(model, folder, device, batch, arguments.workers)),
                    ("ours", ours(run)),
                ):
                    rate(steps, WARMUP, device)
                    rates[key].append(batch * rate(steps, arguments.steps, device))
                    steps.close()
            median = {key: statistics.median(values) for key, values in rates.items()}
            ratio = median["ours"] / median["usual"]
            rows.append({"net": title, **median, "ratio": ratio, "format": run.precision.kind})
    if arguments.json:
        print(json.dumps(rows))
        return
    print(
        f"{'net':34} {'usual':>9} {'ours':>9} {'ratio':>6}   images/s, {PATCH}x{PATCH} patches at"
        f" x{SCALE}, RGB"
    )
    for row in rows:
        print(
            f"{row['net']:34} {row['usual']:9.1f} {row['ours']:9.1f} {row['ratio']:6.2f}   ours in"
            f" {row['format']}"
        )


def write_sub_images(data: object, folder: Path) -> None:
    """Write 480-pixel sub-images as a training set of the field has them."""
    for indices, lr, hr in data.sub_images(480, 240).crops():  # type: ignore[attr-defined]
        for index, *pair in zip(indices.tolist(), lr, hr, strict=True):
            for kind, image in zip(("lr", "hr"), pair, strict=True):
                Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(
                    folder / f"{index:05d}_{kind}.png"
                )


if __name__ == "__main__":
    main()
