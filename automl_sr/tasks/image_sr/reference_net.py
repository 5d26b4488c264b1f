"""The net that `latency_ratio` divides by: FSRCNN-s, the same file on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from automl_sr.evaluation.latency import cache_folder
from automl_sr.files import write_atomically

REFERENCE_VERSION = 1  # part of the cached file's name: a changed net gets a new one


def reference_net(
    scale: int,
    channels: int = 1,
    folder: Path | str | None = None,
) -> Path:
    """Return the ONNX file of the net that `latency_ratio` divides by.

    It is made where it is not in the folder yet. FSRCNN-s (32, 5, 1) of Dong et al., "Accelerating
    the Super-Resolution Convolutional Neural Network", ECCV 2016.
    """
    if folder is None:
        place = cache_folder()
    else:
        place = Path(folder)
    path = place / f"reference-v{REFERENCE_VERSION}-x{scale}-c{channels}.onnx"
    if not path.exists():
        model = _fsrcnn_small(scale, channels)
        write_atomically(path, bytes(model.SerializeToString()))
    return path


class _Layers:
    """Nodes and weights of a net that is written layer by layer."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        # Random weights, always the same: times do not depend on them.
        self._generator = np.random.default_rng(0)

    def store(
        self,
        name: str,
        *shape: int,
    ) -> str:
        """Draw the values of a tensor and return its name."""
        values = self._generator.uniform(-0.1, 0.1, shape).astype(np.float32)
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def add(
        self,
        kind: str,
        inputs: list[str],
        output: str,
        **settings: Any,
    ) -> str:
        """Add a node and return the name of its output."""
        node = helper.make_node(kind, inputs, [output], **settings)
        self.nodes.append(node)
        return output

    def convolve(
        self,
        index: int,
        before: str,
        shape: tuple[int, int, int],
    ) -> str:
        """Add a convolution (outputs, inputs, kernel size) and its PReLU."""
        outputs, inputs, size = shape
        weight = self.store(f"w{index}", outputs, inputs, size, size)
        bias = self.store(f"b{index}", outputs)
        pads = [size // 2] * 4
        convolved = self.add(
            "Conv",
            [before, weight, bias],
            f"c{index}",
            pads=pads,
        )
        slope = self.store(f"s{index}", outputs, 1, 1)
        return self.add("PRelu", [convolved, slope], f"p{index}")

    def enlarge(
        self,
        before: str,
        scale: int,
        channels: int,
    ) -> str:
        """Add the transposed convolution at the end of the net."""
        weight = self.store("w_up", 32, channels, 9, 9)
        bias = self.store("b_up", channels)
        return self.add(
            "ConvTranspose",
            [before, weight, bias],
            "output",
            strides=[scale] * 2,
            pads=[4] * 4,
            output_padding=[scale - 1] * 2,
        )


def _fsrcnn_small(scale: int, channels: int) -> onnx.ModelProto:
    layers = _Layers()
    last = "input"
    shapes = [(32, channels, 5), (5, 32, 1), (5, 5, 3), (32, 5, 1)]
    for index, shape in enumerate(shapes):
        last = layers.convolve(index, last, shape)
    layers.enlarge(last, scale, channels)

    graph = helper.make_graph(
        layers.nodes,
        "fsrcnn-s",
        [_images("input", channels)],
        [_images("output", channels)],
        layers.tensors,
    )
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)

    color = "rgb"
    if channels == 1:
        color = "y"
    metadata = {"scale": str(scale), "channels": str(channels), "color": color}
    helper.set_model_props(model, metadata)
    return model


def _images(name: str, channels: int) -> onnx.ValueInfoProto:
    """Declare an input or output of images of any number and size."""
    shape: list[str | int] = [f"n_{name}", channels, f"h_{name}", f"w_{name}"]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
