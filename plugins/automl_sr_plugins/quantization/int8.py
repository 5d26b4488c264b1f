"""Post-training quantization of the exported file, and which of its layers are left in float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from automl_sr.api import ExportError, OnnxModel, layer_nodes, layers, quantize_static

if TYPE_CHECKING:
    from pathlib import Path

    from automl_sr.api import Context, Layer, TrainedModel

KeepFloat = Literal["none", "last", "first_last"]
Skips = Literal["int8", "float"]
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
    skips: Skips,
    learnt: Mapping[str, Sequence[float]] | None = None,
) -> TrainedModel:
    """Write the int8 form of the exported model beside it and ship that. Raises ExportError.

    `learnt` are ranges, lowest and highest value by the name of a tensor, that take the place of
    calibrated ones.
    """
    source = _exported(finished)
    inputs = ctx.task.calibration(finished.data, OnnxModel(source), samples, ctx.seed)
    target = source.with_name(f"{source.stem}-int8.onnx")
    exclude = float_layers(finished, keep_float)
    made = quantize_static(
        source,
        inputs,
        target,
        exclude=exclude,
        method=method,
        percentile=percentile,
        weight_bits=weight_bits,
        skips=skips,
        overrides=_overrides(finished, learnt or {}),
    )
    ctx.log.info("int8: %d bytes, %d layers left in float", made.size_bytes, len(exclude))
    return replace(finished, onnx=target)


def _overrides(
    finished: TrainedModel,
    learnt: Mapping[str, Sequence[float]],
) -> dict[str, dict[str, float]]:
    """Return the ranges that are not calibrated."""
    ranges: dict[str, Sequence[float]] = dict(learnt)
    # The crops may show neither black nor white, but images do: 256 levels over 0..1.
    ranges.update(finished.task.interface().ranges)
    overrides = {}
    for name, (low, high) in ranges.items():
        overrides[name] = {"rmin": low, "rmax": high}
    return overrides


def float_layers(finished: TrainedModel, keep_float: KeepFloat) -> list[str]:
    """Return the nodes that stay in float: fixed kernels, and the first and last layers where
    asked.

    What a fixed kernel gives is an image rather than features, and eight bits would round what the
    whole net adds to.
    """
    found = learnt_layers(finished)
    ends = {"none": frozenset(), "last": {"last"}, "first_last": {"first", "last"}}[keep_float]
    kept = []
    for layer in found:
        if layer.roles & ends:
            for node in layer.stored:
                kept.append(node.node)
    return list(dict.fromkeys([*fixed_kernel_layers(finished), *kept]))


def fixed_kernel_layers(finished: TrainedModel) -> list[str]:
    """Return the convolutions of the file whose kernels were never learnt, such as a bicubic
    skip's.
    """
    learnt = set()
    for layer in learnt_layers(finished):
        for node in layer.stored:
            learnt.add(node.node)
    nodes = layer_nodes(_exported(finished))
    found: list[str] = []
    for name, kind in nodes:
        if kind in ("Conv", "ConvTranspose") and name not in learnt:
            found.append(name)
    return found


def learnt_layers(finished: TrainedModel) -> list[Layer]:
    """Return the layers of the trained model, found in its exported file."""
    return layers(finished.module, finished.task, _exported(finished))


def _exported(finished: TrainedModel) -> Path:
    if finished.onnx is None:
        raise ExportError("Nothing was exported that could be quantized.")
    return finished.onnx
