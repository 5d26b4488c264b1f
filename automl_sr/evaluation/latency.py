"""Latency of shipped models, measured in turns with a fixed reference net and by one process of the host at a time."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from filelock import FileLock
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from automl_sr.files import write_atomically

Array = NDArray[Any]
LATENCY = "latency"
"""Name of the shared result that keeps a graph's times."""
REFERENCE_VERSION = 1  # part of the cached file's name: a changed net gets a new one
STEADY = 0.1
"""The medians of the two halves of a steady round differ by this share at most."""
RESOLUTION_MS = 0.02
"""Differences below this say nothing about the machine."""


class Timed(Protocol):
    """A model that can make an input of a size for itself."""

    def __call__(self, batch: Array, /) -> Array:
        """Run one batch."""

    def example(self, height: int, width: int) -> Array:
        """Make an input of this size."""


@dataclass(frozen=True)
class Latency:
    """Times of single forward passes in ms: median, fastest, 90th percentile, and how many were taken."""

    median_ms: float
    fastest_ms: float
    p90_ms: float
    runs: int


def latency(
    models: Mapping[str, Timed], input_hw: tuple[int, int], warmup: int = 2, runs: int = 20
) -> dict[str, Latency]:
    """Time models on one random image of `input_hw` = (height, width), in turns: A B, B A, A B, ...

    What slows the machine down for a while then slows all of them, so that their ratio holds. Waits for other
    processes of this host that measure.
    """

    def call(model: Timed) -> Callable[[], Array]:
        batch = model.example(*input_hw)
        return lambda: model(batch)

    return timed_in_turns({name: call(model) for name, model in models.items()}, warmup, runs)


def timed_in_turns(
    calls: Mapping[str, Callable[[], Any]], warmup: int = 2, runs: int = 20, rounds: int = 4
) -> dict[str, Latency]:
    """Time calls of any kind as `latency` does.

    A machine whose load changes meanwhile slows some calls and not others: where the two halves of a round disagree, it
    is repeated, and of `rounds` that all do, the steadiest one counts.
    """
    with measuring_lock():
        best = _round(calls, warmup, runs)
        for _ in range(1, rounds):
            if _unsteady(best) <= STEADY:
                break
            best = min(best, _round(calls, 0, runs), key=_unsteady)
    return {name: _summary(values) for name, values in best.items()}


def latency_ms(own: Latency, reference: Latency) -> float:
    """Measure of the metric `latency_ms`."""
    return own.median_ms


def latency_ratio(own: Latency, reference: Latency) -> float:
    """Measure of the metric `latency_ratio`."""
    return own.median_ms / reference.median_ms


def measuring_lock() -> FileLock:
    """Give the lock under which anything on this host measures time, shared by all users and studies."""
    return FileLock(Path(tempfile.gettempdir()) / "automl-sr-measuring.lock", mode=0o666)


def reference_net(scale: int, channels: int = 1, folder: Path | str | None = None) -> Path:
    """Give the ONNX file of the net that `latency_ratio` divides by, made where it is not in the folder yet.

    FSRCNN-s (32, 5, 1) of Dong et al., "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016,
    with fixed random weights: times do not depend on them. The file is the same on every machine.
    """
    place = Path(folder) if folder is not None else cache_folder()
    path = place / f"reference-v{REFERENCE_VERSION}-x{scale}-c{channels}.onnx"
    if not path.exists():
        write_atomically(path, bytes(_fsrcnn_small(scale, channels).SerializeToString()))
    return path


def cache_folder() -> Path:
    """Give the user's cache folder of automl-sr (XDG_CACHE_HOME, or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "automl-sr"


def _round(calls: Mapping[str, Callable[[], Any]], warmup: int, runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for turn in range(warmup + runs):
        for name in order:
            start = time.perf_counter()
            calls[name]()
            elapsed = time.perf_counter() - start
            if turn >= warmup:
                times[name].append(elapsed * 1000)
        order.reverse()
    return times


def _unsteady(times: Mapping[str, list[float]]) -> float:
    """Say by which share the halves of a round differ, for the call for which they differ most."""
    worst = 0.0
    for values in times.values():
        half = len(values) // 2
        if half:
            first, second = float(np.median(values[:half])), float(np.median(values[half:]))
            worst = max(worst, (abs(first - second) - RESOLUTION_MS) / min(first, second))
    return worst


def _summary(values: list[float]) -> Latency:
    return Latency(float(np.median(values)), min(values), float(np.percentile(values, 90)), len(values))


def _fsrcnn_small(scale: int, channels: int) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def stored(name: str, *shape: int) -> str:
        values = generator.uniform(-0.1, 0.1, shape).astype(np.float32)
        tensors.append(numpy_helper.from_array(values, name))
        return name

    def convolve(index: int, before: str, shape: tuple[int, int, int]) -> str:
        outputs, inputs, size = shape
        weights = [stored(f"w{index}", outputs, inputs, size, size), stored(f"b{index}", outputs)]
        nodes.append(helper.make_node("Conv", [before, *weights], [f"c{index}"], pads=[size // 2] * 4))
        nodes.append(helper.make_node("PRelu", [f"c{index}", stored(f"s{index}", outputs, 1, 1)], [f"p{index}"]))
        return f"p{index}"

    last = "input"
    for index, shape in enumerate([(32, channels, 5), (5, 32, 1), (5, 5, 3), (32, 5, 1)]):
        last = convolve(index, last, shape)
    weights = [stored("w_up", 32, channels, 9, 9), stored("b_up", channels)]
    spread: dict[str, Any] = {"strides": [scale] * 2, "pads": [4] * 4, "output_padding": [scale - 1] * 2}
    nodes.append(helper.make_node("ConvTranspose", [last, *weights], ["output"], **spread))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"n_{name}", channels, f"h_{name}", f"w_{name}"])
        for name in ("input", "output")
    ]
    graph = helper.make_graph(nodes, "fsrcnn-s", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    metadata = {"scale": str(scale), "channels": str(channels), "color": "y" if channels == 1 else "rgb"}
    helper.set_model_props(model, metadata)
    return model
