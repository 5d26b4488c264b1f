"""Tensors that do not depend on a net's inputs, and attributes, whatever a damaged file holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import numpy_helper

from automl_sr.compression.onnx_file import PACKED_DOMAIN
from automl_sr.presentation.drawing.operators import PASSED

FEW = 64
"""Constants of so many numbers are read: larger ones are weights."""
_ENDINGS = ("_DequantizeLinear_Output", "_quantized", "_dequantized")


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the inputs."""

    name: str = ""
    dims: tuple[int, ...] | None = None
    numbers: int = 0
    """How many of its numbers may be learnt."""
    stored: str = ""
    tensor: onnx.TensorProto | None = None

    def values(self) -> list[float]:
        """Return its numbers, if they are few and in the file."""
        if self.tensor is None or math.prod(self.tensor.dims) > FEW:
            return []
        try:
            return [float(value) for value in numpy_helper.to_array(self.tensor).reshape(-1)]
        except Exception:  # noqa: BLE001 - a damaged tensor raises anything, and is not needed
            return []


def made_constant(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    """Return what a node makes of constants alone."""
    if node.op_type == "Constant":
        return _written(node)
    if node.domain == PACKED_DOMAIN:
        return _unpacked(node)
    if not given:
        return Constant()
    if node.op_type == "DequantizeLinear":
        return replace(given[0], stored="int8", tensor=None)
    if node.op_type == "Transpose":
        return replace(given[0], dims=_permuted(given[0].dims, node), tensor=None)
    if node.op_type in PASSED:
        return replace(given[0], dims=None)

    largest = max(given, key=lambda item: item.numbers)
    if largest.numbers == 1:
        return Constant()  # a setting, such as one over the root of a size
    return replace(largest, dims=None, tensor=None)


def _written(node: onnx.NodeProto) -> Constant:
    for entry in node.attribute:
        if entry.name == "value":
            return stored(entry.t, "")
        if entry.name == "value_float":
            tensor = onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [], [entry.f])
            return stored(tensor, "")
    return Constant()


def _unpacked(node: onnx.NodeProto) -> Constant:
    dims = integers_of(node, "shape")
    if not dims:
        return Constant()
    bits = len(floats_of(node, "powers"))
    words = f"{bits} bit"
    if node.op_type == "Sparse":
        words = "sparse"
    elif node.op_type == "Float16":
        words = "16 bit"
    return Constant(node.output[0], dims, math.prod(dims), words)


def stored(tensor: onnx.TensorProto, name: str | None = None) -> Constant:
    """Return a stored tensor; sizes, which are whole numbers of 64 bits, are never learnt."""
    dims = tuple(int(size) for size in tensor.dims)
    called = name
    if called is None:
        called = tensor.name
    if tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL):
        return Constant(called, dims, 0, "", tensor)
    return Constant(called, dims, math.prod(dims), "", tensor)


def plain_name(name: str) -> str:
    """Return the parameter's name, without what a quantizer put behind it."""
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


def _permuted(dims: tuple[int, ...] | None, node: onnx.NodeProto) -> tuple[int, ...] | None:
    if dims is None:
        return None
    order = integers_of(node, "perm") or tuple(reversed(range(len(dims))))
    if sorted(order) != list(range(len(dims))):
        return None
    return tuple(dims[axis] for axis in order)


# Attributes, whatever kind a damaged file gives them.


def integer_of(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return a number that is written in an attribute."""
    for entry in node.attribute:
        if entry.name == name and entry.type == onnx.AttributeProto.INT:
            return int(entry.i)
    return default


def integers_of(node: onnx.NodeProto, name: str) -> tuple[int, ...]:
    """Return the whole numbers of an attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return tuple(int(value) for value in entry.ints)
    return ()


def floats_of(node: onnx.NodeProto, name: str) -> tuple[float, ...]:
    """Return the numbers of an attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return tuple(float(value) for value in entry.floats)
    return ()


def float_of(node: onnx.NodeProto, name: str, default: float) -> float:
    """Return a number with a fraction that is written in an attribute."""
    for entry in node.attribute:
        if entry.name == name and entry.type == onnx.AttributeProto.FLOAT:
            return float(entry.f)
    return default


def text_of(node: onnx.NodeProto, name: str) -> str:
    """Return the text of an attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return bytes(entry.s).decode("utf-8", "replace")
    return ""
