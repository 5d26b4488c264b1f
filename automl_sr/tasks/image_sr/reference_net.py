"""The net that `latency_ratio` divides by: FSRCNN-s with fixed random weights, the same file on
every machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from automl_sr.evaluation.latency import cache_folder
from automl_sr.files import write_atomically

REFERENCE_VERSION = 1  # part of the cached file's name: a changed net gets a new one


def reference_net(scale: int, channels: int = 1, folder: Path | str | None = None) -> Path:
    """Return the ONNX file of the net that `latency_ratio` divides by, made where it is not in the
    folder yet.

    FSRCNN-s (32, 5, 1) of Dong et al., "Accelerating the Super-Resolution Convolutional Neural
    Network", ECCV 2016, with fixed random weights: times do not depend on them. The file is the
    same on every machine.
    """
    if folder is not None:
        place = Path(folder)
    else:
        place = cache_folder()
    path = place / f"reference-v{REFERENCE_VERSION}-x{scale}-c{channels}.onnx"
    if not path.exists():
        write_atomically(path, bytes(_fsrcnn_small(scale, channels).SerializeToString()))
    return path


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
        nodes.append(
            helper.make_node("Conv", [before, *weights], [f"c{index}"], pads=[size // 2] * 4)
        )
        nodes.append(
            helper.make_node(
                "PRelu", [f"c{index}", stored(f"s{index}", outputs, 1, 1)], [f"p{index}"]
            )
        )
        return f"p{index}"

    last = "input"
    for index, shape in enumerate([(32, channels, 5), (5, 32, 1), (5, 5, 3), (32, 5, 1)]):
        last = convolve(index, last, shape)
    weights = [stored("w_up", 32, channels, 9, 9), stored("b_up", channels)]
    spread: dict[str, Any] = {
        "strides": [scale] * 2,
        "pads": [4] * 4,
        "output_padding": [scale - 1] * 2,
    }
    nodes.append(helper.make_node("ConvTranspose", [last, *weights], ["output"], **spread))
    ends = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [f"n_{name}", channels, f"h_{name}", f"w_{name}"]
        )
        for name in ("input", "output")
    ]
    graph = helper.make_graph(nodes, "fsrcnn-s", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    metadata = {
        "scale": str(scale),
        "channels": str(channels),
        "color": "y" if channels == 1 else "rgb",
    }
    helper.set_model_props(model, metadata)
    return model
