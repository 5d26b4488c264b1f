"""What packing weights and keeping skips in float cost and save: ratios to the float file.

    python tests/benchmarks/packing.py

Each net is trained a little on photographs that scikit-image ships, then shipped in every form.
Times are taken in turns with the float file, on one thread; `load` is the time to open a session.
"""

from __future__ import annotations

import argparse
import copy
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from automl_sr.compression.export import layer_nodes, quantize_static
from automl_sr.compression.packing import Codebook, Packing, Sparse, Uniform, pack_weights
from automl_sr.evaluation.latency import timed_in_turns
from automl_sr.evaluation.layers import layers
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.technique import Technique
from automl_sr.testing.tiny import (
    TinyTrial,
    contract_registry,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.trial.ship import export_module
from automl_sr_plugins.reference import EDSR, FSRCNN, MSRResNet

Array = NDArray[np.float32]
NETS: dict[str, Technique] = {
    "edsr 32x8": EDSR(width=32, blocks=8),
    "msrresnet 32x4": MSRResNet(width=32, blocks=4),
    "fsrcnn 56 12 4": FSRCNN(d=56, s=12, m=4),
}
SHARE = 0.9
"""Of the weights that a sparse form sets to zero."""


def uniform(weight: Array, axis: int, bits: int) -> tuple[Array, Packing]:
    others = tuple(place for place in range(weight.ndim) if place != axis)
    top = 2 ** (bits - 1) - 1
    scale = np.abs(weight).max(axis=others) / top
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    shaped = scale.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])
    return (np.rint(weight / shaped) * shaped).astype(np.float32), Uniform(bits, scale)


def codebook(weight: Array, axis: int, count: int) -> tuple[Array, Packing]:
    entries = np.quantile(weight, np.linspace(0, 1, count)).astype(np.float32)
    return entries[np.abs(weight[..., None] - entries).argmin(-1)], Codebook(entries)


def sparse(weight: Array, axis: int) -> tuple[Array, Packing]:
    kept = np.abs(weight) > np.quantile(np.abs(weight), SHARE)
    return np.where(kept, weight, 0).astype(np.float32), Sparse()


def sparse_uniform(weight: Array, axis: int, bits: int) -> tuple[Array, Packing]:
    return uniform(sparse(weight, axis)[0], axis, bits)


Form = Callable[[Array, int], tuple[Array, Packing]]
FORMS: dict[str, Form] = {
    "8 bits": functools.partial(uniform, bits=8),
    "4 bits": functools.partial(uniform, bits=4),
    "codebook of 16": functools.partial(codebook, count=16),
    "90 % zero": sparse,
    "90 % zero, 4 bits": functools.partial(sparse_uniform, bits=4),
}


def trained(net: Technique, steps: int, folder: Path) -> nn.Module:
    recipe = tiny_recipe().model_copy(update={"batch": 8, "lr": 1e-3})
    registry = contract_registry([type(net)])
    trial = TinyTrial(registry, tiny_task(), tiny_samples(), (net,), steps, folder, recipe)
    return trial.shipped(trial.train()).module


def changed(net: nn.Module, form: Form) -> tuple[nn.Module, dict[str, Packing]]:
    other = copy.deepcopy(net)
    packings = {}
    for layer in layers(other, tiny_task()):
        weight = other.get_parameter(layer.weight).detach()
        axis = 1 if layer.kind == "transposed" else 0
        values, packings[layer.weight] = form(weight.numpy(), axis)
        weight.copy_(torch.from_numpy(values))
    return other, packings


def opening(path: Path) -> float:
    """Give the fastest of five loads in ms."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        times.append(time.perf_counter() - begun)
    return min(times) * 1000


def compared(name: str, plain: Path, other: Path, image: Array) -> None:
    calls = {
        key: functools.partial(OnnxModel(path), image)
        for key, path in (("plain", plain), ("other", other))
    }
    latency = timed_in_turns(calls)
    outputs = [call() for call in calls.values()]
    grey = 255 * float(np.sqrt(np.mean(np.square(outputs[0] - outputs[1]))))
    ratio = latency["other"].median_ms / latency["plain"].median_ms
    size = other.stat().st_size
    print(
        f"{name:34} {size:8d} bytes = {size / plain.stat().st_size:.3f}  "
        f"load {opening(plain):4.0f} -> {opening(other):4.0f} ms  run {ratio:.2f}  "
        f"rms {grey:.3f} grey levels, largest {np.abs(outputs[0] - outputs[1]).max():.1e}",
        flush=True,
    )


def photograph(height: int, width: int) -> Array:
    """Give a photograph in grey, [1, 1, height, width]."""
    import skimage.data
    from skimage.transform import resize

    grey = resize(skimage.data.astronaut().mean(axis=2) / 255, (height, width), anti_aliasing=True)
    return grey[None, None].astype(np.float32)


def crops(plain: Path) -> list[Array]:
    return tiny_task().calibration(tiny_samples(), OnnxModel(plain), 32, 0)


def measure(name: str, net: nn.Module, folder: Path, image: Array) -> None:
    task = tiny_task()
    plain = folder / "plain.onnx"
    for form, make in FORMS.items():
        module, packings = changed(net, make)
        export_module(module, Blueprint("net"), task, plain)
        packed = pack_weights(plain, folder / "packed.onnx", packings)
        compared(f"{name}, {form}", plain, packed.path, image)
    export_module(net, Blueprint("net"), task, plain)
    found = layers(net, task, plain)
    learnt = {node.node for layer in found for node in layer.stored}
    fixed = [key for key, kind in layer_nodes(plain) if kind == "Conv" and key not in learnt]
    ends = {
        node.node for layer in found if layer.roles & {"first", "last"} for node in layer.stored
    }
    for skips in ("int8", "float"):
        target = folder / f"{skips}.onnx"
        quantize_static(plain, crops(plain), target, exclude=[*ends, *fixed], skips=skips)
        compared(f"{name}, int8, skips {skips}", plain, target, image)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--input", type=int, nargs=2, default=(180, 320))
    options = parser.parse_args()
    torch.set_num_threads(1)
    image = photograph(*options.input)
    with tempfile.TemporaryDirectory() as scratch:
        for place, (name, net) in enumerate(NETS.items()):
            folder = Path(scratch) / str(place)
            measure(name, trained(net, options.steps, folder), folder, image)


if __name__ == "__main__":
    main()
