"""Post-training quantization of the exported file, and which of its layers are left in float."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from torch import nn

from automl_sr.api import ExportError, OnnxModel, layer_nodes, quantize_static

if TYPE_CHECKING:
    from pathlib import Path

    from automl_sr.api import Context, TrainedModel

KeepFloat = Literal["none", "last", "first_last"]
Method = Literal["minmax", "percentile", "entropy"]


def quantized(
    finished: TrainedModel,
    ctx: Context,
    *,
    method: Method,
    percentile: float,
    keep_float: KeepFloat,
    weight_bits: Literal[7, 8],
    samples: int,
) -> TrainedModel:
    """Write the int8 form of the exported model beside it and ship that. Raises ExportError."""
    if finished.onnx is None:
        raise ExportError("Nothing was exported that could be quantized.")
    inputs = ctx.task.calibration(finished.data, OnnxModel(finished.onnx), samples, ctx.seed)
    target = finished.onnx.with_name(f"{finished.onnx.stem}-int8.onnx")
    exclude = float_layers(finished.onnx, finished.module, keep_float)
    made = quantize_static(
        finished.onnx,
        inputs,
        target,
        exclude=exclude,
        method=method,
        percentile=percentile,
        weight_bits=weight_bits,
        # The crops may show neither black nor white, but images do: 256 levels over 0..1.
        overrides={name: {"rmin": low, "rmax": high} for name, (low, high) in finished.task.interface().ranges.items()},
    )
    ctx.log.info("int8: %d bytes, %d layers left in float", made.size_bytes, len(exclude))
    return replace(finished, onnx=target)


def float_layers(path: Path, module: nn.Module, keep_float: KeepFloat) -> list[str]:
    """Name the nodes that stay in float: those with fixed kernels, and the first and last layer where asked."""
    fixed = fixed_kernel_layers(path, module)
    learnt = [name for name, _ in layer_nodes(path) if name not in fixed]
    ends = {"none": [], "last": learnt[-1:], "first_last": [*learnt[:1], *learnt[-1:]]}[keep_float]
    return list(dict.fromkeys([*fixed, *ends]))


def fixed_kernel_layers(path: Path, module: nn.Module) -> list[str]:
    """Name the nodes whose weights are a buffer of the module: kernels that were never learnt.

    Their output is an image rather than features, and eight bits would round what the whole net adds to.
    """
    graph = onnx.load(str(path)).graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    buffers = [buffer.detach().cpu().numpy() for buffer in module.buffers()]
    return [
        node.name
        for node in graph.node
        if node.op_type in ("Conv", "ConvTranspose")
        and node.input[1] in weights
        and any(np.array_equal(weights[node.input[1]], buffer) for buffer in buffers)
    ]
