"""How much slower a model is in a process of its own than in this one: `python
tests/benchmarks/guarded_model.py`.

Prints for nets from tiny to usual and several sizes of a tile the median milliseconds of both, and
the median of the ratios of neighbouring runs; and what opening the file takes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from nets import IMAGE_AXES, Espcn, seeded

from automl_sr.compression.export import export_onnx
from automl_sr.evaluation.runtime import Guard, OnnxModel

RUNS = 15


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        for width, depth in ((8, 2), (32, 4), (64, 8)):
            path = Path(folder) / f"{width}.onnx"
            example = (torch.rand(1, 3, 12, 14),)
            export_onnx(
                seeded(Espcn, channels=3, width=width, depth=depth),
                path,
                example,
                dynamic_axes=IMAGE_AXES,
            )
            local, opened = timed(lambda path=path: OnnxModel(path))
            guarded, guarded_opened = timed(lambda path=path: OnnxModel(path, guard=Guard()))
            print(
                f"width {width}, depth {depth}: opened in {opened:.0f} ms and"
                f" {guarded_opened:.0f} ms"
            )
            for side in (64, 256, 512):
                compare(local, guarded, side)


def compare(local: OnnxModel, guarded: OnnxModel, side: int) -> None:
    """Run both in turns on a square image."""
    batch = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    ratios, own, apart = [], [], []
    for turn in range(RUNS + 2):
        first, second = (local, guarded) if turn % 2 else (guarded, local)
        times = {
            first: timed(lambda first=first: first(batch))[1],
            second: timed(lambda second=second: second(batch))[1],
        }
        if turn >= 2:
            own.append(times[local])
            apart.append(times[guarded])
            ratios.append(times[guarded] / times[local])
    medians = f"{statistics.median(own):8.1f} ms, apart {statistics.median(apart):8.1f} ms"
    print(f"  {side:4}x{side:<4} {medians}, ratio {statistics.median(ratios):.3f}")


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Give what a call gives, and its milliseconds."""
    begin = time.perf_counter()
    result = call()
    return result, 1000 * (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
