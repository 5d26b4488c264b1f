"""From an ONNX file to the parts of a drawing: what computes, in the order in which it does.

The file is what ships, so that a drawing of it shows what pruning, packing and quantization have
made of a net. Reading it runs nobody's code, needs no plugin, and takes milliseconds.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import onnx
from onnx import numpy_helper

from automl_sr.compression.onnx_file import FIXED_TENSORS, PACKED_DOMAIN, scope_of
from automl_sr.errors import DataError
from automl_sr.presentation.drawing.operators import (
    ACTIVATIONS,
    MODES,
    PASSED,
    PLAIN,
    RECURRENT,
    SHUFFLES,
    SIGNS,
    SIZES,
)
from automl_sr.presentation.drawing.parts import Kind, Look, Part
from automl_sr.presentation.drawing.patterns import ROLL, in_order, joined_attention, put_together

MOST_NODES = 20_000
MOST_PARTS = 4000
FEW = 64
"""Constants of so many numbers are read: larger ones are weights."""
LONGEST = 46
"""Characters up to which a title takes in what follows."""
_ENDINGS = ("_DequantizeLinear_Output", "_quantized", "_dequantized")


def read_parts(model: onnx.ModelProto) -> list[Part]:
    """Return what a net computes, in the order of its graph, inputs first and outputs last.

    Raises DataError for a file that is too large to be drawn.
    """
    if len(model.graph.node) > MOST_NODES:
        raise DataError(
            f"The net has {len(model.graph.node):,} operations, too many for a drawing.",
            f"Nets of up to {MOST_NODES:,} are drawn.",
        )
    parts = _Reading(model).parts()
    if len(parts) > MOST_PARTS:
        raise DataError(
            f"The net has {len(parts):,} layers and sums, too many for a drawing.",
            f"Nets of up to {MOST_PARTS:,} are drawn.",
        )
    return parts


@dataclass(frozen=True)
class _Constant:
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


@dataclass
class _Draft:
    """A part while it is put together."""

    id: int
    look: Look
    title: str
    inputs: list[int] = field(default_factory=list)
    kind: Kind = "plain"
    suffixes: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    ins: int | None = None
    outs: int | None = None
    weights: dict[str, int] = field(default_factory=dict)
    stored: str = ""
    name: str = ""
    layers: int = 0
    tip: str = ""
    """The value that it gives, behind its suffixes."""
    scale: Fraction | None = Fraction(1)
    """Of its map, relative to the net's input."""

    def part(self) -> Part:
        return Part(
            self.id,
            self.look,
            self.title,
            tuple(dict.fromkeys(self.inputs)),
            kind=self.kind,
            suffixes=tuple(self.suffixes),
            details=tuple(self.details),
            ins=() if self.ins is None else (self.ins,),
            outs=() if self.outs is None else (self.outs,),
            weights=self.weights,
            stored=self.stored,
            name=self.name,
            layers=self.layers,
        )


class _Reading:
    """Goes through a graph once."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.drafts: list[_Draft] = []
        self.sources: dict[str, int] = {}
        self.constants = {tensor.name: _stored(tensor) for tensor in self.graph.initializer}
        self.fixed = _fixed_names(model)
        self.nodes = put_together(list(self.graph.node))
        self.readers = _readers(self.nodes, self.graph)

    def parts(self) -> list[Part]:
        for value in self.graph.input:
            if value.name not in self.constants:
                self._port(value, [])
        for node in self.nodes:
            self._take(node)
        for value in self.graph.output:
            if value.name in self.sources:
                self._port(value, [self.sources[value.name]])
        return in_order(joined_attention([draft.part() for draft in self.drafts]))

    def _port(self, value: onnx.ValueInfoProto, inputs: list[int]) -> None:
        draft = self._new("port", value.name, inputs, value.name)
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1 and dims[1].dim_value > 0:
            draft.outs = int(dims[1].dim_value)
            draft.details.append(_channels(draft.outs))
        if inputs:
            draft.scale = self.drafts[inputs[0]].scale
            draft.details += _times(draft.scale)

    def _new(self, look: Look, title: str, inputs: Sequence[int], tip: str) -> _Draft:
        draft = _Draft(len(self.drafts), look, title, list(inputs), tip=tip)
        if inputs:
            draft.outs = self.drafts[inputs[0]].outs
            draft.scale = self.drafts[inputs[0]].scale
        self.drafts.append(draft)
        self.sources[tip] = draft.id
        return draft

    def _take(self, node: onnx.NodeProto) -> None:
        read = [self.sources[name] for name in node.input if name in self.sources]
        if not read or node.op_type in ("Shape", "Size"):
            self._constant(node)
            return
        given = [self.constants[name] for name in node.input if name in self.constants]
        weight = self.constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type in ("Conv", "ConvTranspose") and weight is not None and weight.dims:
            self._convolution(node, read, weight, given)
        elif node.op_type in ("MatMul", "Gemm") and given:
            self._linear(node, read, given)
        elif node.op_type in RECURRENT:
            self._recurrent(node, read, given)
        elif node.op_type in ACTIVATIONS:
            self._follow(node, read, _activation(node, given), given)
        elif node.op_type in SIGNS:
            self._arithmetic(node, read, given)
        elif node.op_type in PASSED or self._rolls_again(node):
            self._pass(node, read, given)
        else:
            self._other(node, read, given)

    # What does not depend on the inputs.

    def _constant(self, node: onnx.NodeProto) -> None:
        given = [self.constants[name] for name in node.input if name in self.constants]
        made = _Constant()
        if node.op_type == "Constant":
            tensors = [entry.t for entry in node.attribute if entry.name == "value"]
            floats = [entry.f for entry in node.attribute if entry.name == "value_float"]
            if floats:
                tensors = [onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [], floats)]
            made = _stored(tensors[0], "") if tensors else _Constant()
        elif node.domain == PACKED_DOMAIN:
            shape = _attribute(node, "shape", ())
            bits = len(_attribute(node, "powers", ()))
            words = f"{bits} bit" if bits else "packed"
            dims = tuple(shape)
            made = _Constant(node.output[0], dims or None, math.prod(dims), words)
        elif given and node.op_type == "DequantizeLinear":
            made = replace(given[0], stored="int8", tensor=None)
        elif given and node.op_type == "Transpose" and given[0].dims is not None:
            made = replace(given[0], dims=_permuted(given[0].dims, node), tensor=None)
        elif given and node.op_type in PASSED:
            made = replace(given[0], dims=None)
        elif given:
            made = replace(max(given, key=lambda item: item.numbers), dims=None, tensor=None)
            if made.numbers == 1:
                made = _Constant()  # a setting, such as one over the root of a size
        for name in node.output:
            self.constants[name] = made

    def _weights(self, given: Sequence[_Constant]) -> dict[str, int]:
        """Return what is learnt of these, under the names of their parameters."""
        found = {}
        for item in given:
            name = _plain_name(item.name)
            alone = item.numbers == 1 and (not name or name.startswith(("/", "onnx::")))
            if item.numbers and name and name not in self.fixed and not alone:
                found[name] = item.numbers
        return found

    # Layers.

    def _convolution(
        self,
        node: onnx.NodeProto,
        read: list[int],
        weight: _Constant,
        given: Sequence[_Constant],
    ) -> None:
        dims = weight.dims or ()
        if len(dims) < 3:
            self._other(node, read, given)
            return
        groups = max(1, int(_attribute(node, "group", 1)))
        transposed = node.op_type == "ConvTranspose"
        ins, outs = dims[1] * groups, dims[0]
        if transposed:
            ins, outs = dims[0], dims[1] * groups
        kernel = "×".join(str(side) for side in dims[2:])
        depthwise = groups > 1 and groups == ins
        words = "Depthwise conv" if depthwise else "Conv"
        strides = tuple(_attribute(node, "strides", ()))
        stride = strides[-1] if strides else 1
        title = f"{words} {kernel}"
        if transposed:
            title = f"Transposed {words.lower()} {kernel}"
        draft = self._layer(node, title, read, given)
        draft.kind = "transposed" if transposed else "convolution"
        if draft.kind == "convolution" and _plain_name(weight.name) in self.fixed:
            draft.kind, draft.title = "fixed", f"Fixed filter {kernel}"
        draft.ins, draft.outs = ins, outs
        if groups > 1 and not depthwise:
            draft.details.append(f"{groups} groups")
        if stride > 1:
            draft.details.append(f"×{stride}" if transposed else f"stride {stride}")
        dilations = tuple(_attribute(node, "dilations", ()))
        if any(step > 1 for step in dilations):
            draft.details.append(f"dilation {max(dilations)}")
        draft.scale = _scaled(draft.scale, Fraction(stride) ** (1 if transposed else -1))

    def _linear(self, node: onnx.NodeProto, read: list[int], given: Sequence[_Constant]) -> None:
        weight = max(given, key=lambda item: item.numbers)
        draft = self._layer(node, "Linear", read, given)
        draft.kind = "linear"
        if weight.dims is not None and len(weight.dims) >= 2:
            ins, outs = weight.dims[-2:]
            if node.op_type == "Gemm" and _attribute(node, "transB", 0):
                ins, outs = outs, ins
            draft.ins, draft.outs = ins, outs

    def _recurrent(self, node: onnx.NodeProto, read: list[int], given: Sequence[_Constant]) -> None:
        draft = self._layer(node, RECURRENT[node.op_type], read, given)
        draft.kind = "recurrent"
        both = _text(node, "direction") == "bidirectional"
        if both:
            draft.details.append("both directions")
        hidden = int(_attribute(node, "hidden_size", 0))
        dims = given[0].dims if given else None
        draft.ins = dims[-1] if dims else None
        draft.outs = hidden * (2 if both else 1) or None

    def _layer(
        self, node: onnx.NodeProto, title: str, read: list[int], given: Sequence[_Constant]
    ) -> _Draft:
        draft = self._new("box", title, read, node.output[0])
        for name in node.output[1:]:
            self.sources[name] = draft.id
        draft.weights = self._weights(given)
        draft.layers = 1
        draft.stored = next((item.stored for item in given if item.stored), "")
        draft.name = _module(node, given)
        return draft

    # What lies between layers.

    def _follow(
        self, node: onnx.NodeProto, read: list[int], words: str, given: Sequence[_Constant]
    ) -> None:
        """Write an operation behind what it reads, if nothing else reads that; else draw it."""
        before = self.drafts[read[0]]
        weights = {} if node.op_type in SIZES else self._weights(given)
        if words and self._joins(node, before, words):
            before.suffixes.append(words)
        elif words:
            before = self._new("pill", words, read, node.output[0])
            before.name = scope_of(node.name)
        before.weights.update(weights)
        self._move(node, before)

    def _joins(self, node: onnx.NodeProto, before: _Draft, words: str) -> bool:
        if before.look not in ("box", "pill") or before.tip not in node.input:
            return False
        length = len(" · ".join([before.title, *before.suffixes, words]))
        return self.readers[before.tip] == 1 and (length <= LONGEST or before.title == "matmul")

    def _move(self, node: onnx.NodeProto, draft: _Draft) -> None:
        """Let a node's outputs be those of a part."""
        if self.readers[draft.tip] == 1 and draft.tip in node.input and len(node.output) == 1:
            draft.tip = node.output[0]
        for name in node.output:
            self.sources[name] = draft.id

    def _arithmetic(
        self, node: onnx.NodeProto, read: list[int], given: Sequence[_Constant]
    ) -> None:
        if len(read) > 1:
            draft = self._new("circle", SIGNS[node.op_type], read, node.output[0])
            draft.name = scope_of(node.name)
            return
        before = self.drafts[read[0]]
        if node.op_type == "Add" and before.kind == "linear" and not before.suffixes:
            words = ""  # a bias, which exporters write apart
        else:
            words = _scale_words(node.op_type, given)
        self._follow(node, read, words, given)

    def _pass(self, node: onnx.NodeProto, read: list[int], given: Sequence[_Constant]) -> None:
        before = self.drafts[read[0]]
        shuffle = SHUFFLES.get(tuple(_attribute(node, "perm", ())))
        if node.op_type == "Transpose" and shuffle is not None:
            draft = self._new("pill", shuffle, read[:1], node.output[0])
            draft.outs, draft.scale = None, None
            return
        if node.op_type == "QuantizeLinear" and before.look == "box":
            self._clipped(node, before)
        self._move(node, before)

    def _rolls_again(self, node: onnx.NodeProto) -> bool:
        """Whether a map is rolled along a second axis."""
        if node.op_type != ROLL or node.input[0] not in self.sources:
            return False
        before = self.drafts[self.sources[node.input[0]]]
        return before.title == PLAIN[ROLL] and before.tip == node.input[0]

    def _clipped(self, node: onnx.NodeProto, before: _Draft) -> None:
        """Say where the range of an integer map does what a rectifier did, which is left out of the
        file then.
        """
        zero = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.tensor is None or before.suffixes or before.tip not in node.input:
            return
        lowest = {int(onnx.TensorProto.UINT8): 0.0, int(onnx.TensorProto.INT8): -128.0}
        if zero.values()[:1] == [lowest.get(zero.tensor.data_type)]:
            before.suffixes.append("clipped at 0")

    def _other(self, node: onnx.NodeProto, read: list[int], given: Sequence[_Constant]) -> None:
        before = self.drafts[read[0]]
        if node.op_type in ("Slice", "Gather", "Split") and not self._takes_channels(node):
            self._move(node, before)
            return
        words, outs, factor = self._words(node, read, given)
        draft = self._new("pill", words, read, node.output[0])
        for name in node.output[1:]:
            self.sources[name] = draft.id
        draft.name = scope_of(node.name)
        draft.outs = outs
        draft.scale = _scaled(draft.scale, factor)
        if node.op_type not in SIZES:
            draft.weights = self._weights(given)

    def _takes_channels(self, node: onnx.NodeProto) -> bool:
        """Whether a piece is cut along the channels; along others it is a crop, or one of several
        maps that lie in one tensor.
        """
        if node.op_type == "Gather":
            index = self.constants.get(node.input[1]) if len(node.input) > 1 else None
            one = index is not None and math.prod(index.dims or (1,)) == 1
            return int(_attribute(node, "axis", 0)) == 1 and not one
        if node.op_type == "Split":
            return int(_attribute(node, "axis", 0)) == 1
        axes = self.constants.get(node.input[3]) if len(node.input) > 3 else None
        return axes is not None and axes.values() == [1.0]

    def _words(
        self, node: onnx.NodeProto, read: list[int], given: Sequence[_Constant]
    ) -> tuple[str, int | None, Fraction | None]:
        """Return the words of an operation, the channels that it gives, and how it scales a map."""
        outs = self.drafts[read[0]].outs
        one = Fraction(1)
        if node.op_type in ("DepthToSpace", "SpaceToDepth"):
            return _block_words(node, outs)
        if node.op_type in ("Resize", "Upsample"):
            return _resize_words(node, given, outs)
        if node.op_type in ("MaxPool", "AveragePool"):
            sides = "×".join(str(side) for side in _attribute(node, "kernel_shape", ()))
            strides = tuple(_attribute(node, "strides", ())) or (1,)
            factor = Fraction(1, strides[-1]) if strides[-1] > 0 else None
            return f"{PLAIN[node.op_type]} {sides}".strip(), outs, factor
        if node.op_type == "Concat":
            return self._concat_words(node, read)
        if node.op_type == "Slice":
            starts, ends = (item.values()[:1] for item in [*given, _Constant(), _Constant()][:2])
            if starts and ends:
                return f"channels {starts[0]:.0f} to {_end(ends[0])}", None, one
        if node.op_type.startswith(("Reduce", "Global")):
            return PLAIN.get(node.op_type, node.op_type), outs, None
        return PLAIN.get(node.op_type, node.op_type), None, one

    def _concat_words(
        self, node: onnx.NodeProto, read: list[int]
    ) -> tuple[str, int | None, Fraction | None]:
        axis = int(_attribute(node, "axis", 1))
        widths = [self.drafts[item].outs for item in read]
        known = [width for width in widths if width is not None]
        outs = sum(known) if len(known) == len(widths) and axis == 1 else None
        return PLAIN["Concat"], outs, Fraction(1)


def _stored(tensor: onnx.TensorProto, name: str | None = None) -> _Constant:
    learnable = tensor.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    dims = tuple(int(size) for size in tensor.dims)
    numbers = math.prod(dims) if learnable else 0
    return _Constant(tensor.name if name is None else name, dims, numbers, "", tensor)


def _fixed_names(model: onnx.ModelProto) -> frozenset[str]:
    told = {entry.key: entry.value for entry in model.metadata_props}.get(FIXED_TENSORS, "[]")
    try:
        names = json.loads(told)
    except (ValueError, RecursionError):
        return frozenset()
    if not isinstance(names, list):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str))


def _plain_name(name: str) -> str:
    """Return the parameter's name, without what a quantizer put behind it."""
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


def _module(node: onnx.NodeProto, given: Sequence[_Constant]) -> str:
    """Name the module of a layer: by its node, else by its weight."""
    scope = scope_of(node.name)
    if scope:
        return scope
    for item in given:
        owner, _, last = _plain_name(item.name).rpartition(".")
        if owner and last:
            return owner
    return ""


def _readers(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto) -> Counter[str]:
    """Count who reads each value; those who only ask for its size do not."""
    found: Counter[str] = Counter()
    for node in nodes:
        if node.op_type not in ("Shape", "Size"):
            found.update(set(node.input))
    found.update(value.name for value in graph.output)
    return found


def _activation(node: onnx.NodeProto, given: Sequence[_Constant]) -> str:
    words = ACTIVATIONS[node.op_type]
    if node.op_type == "LeakyRelu":
        return f"{words} {_attribute(node, 'alpha', 0.01):.3g}"
    if node.op_type == "Clip":
        limits = [item.values()[:1] for item in given]
        flat = [limit[0] for limit in limits if limit]
        if len(flat) == 2:
            return "ReLU6" if flat == [0.0, 6.0] else f"clip {flat[0]:.3g} to {flat[1]:.3g}"
    return words


def _scale_words(operator: str, given: Sequence[_Constant]) -> str:
    """Say by what a map is multiplied, or what is added to it."""
    values = given[0].values() if given else []
    sign = SIGNS[operator]
    if not given or (given[0].numbers == 0 and not values):
        return ""  # worked out from sizes, as the scale of attention is
    if len(values) == 1:
        return "" if operator == "Mul" and values == [1.0] else f"{sign} {values[0]:.3g}"
    return f"{sign} constant"


def _block_words(node: onnx.NodeProto, outs: int | None) -> tuple[str, int | None, Fraction | None]:
    side = max(1, int(_attribute(node, "blocksize", 1)))
    if node.op_type == "DepthToSpace":
        left = None if outs is None else outs // side**2
        return f"pixel shuffle ×{side}", left, Fraction(side)
    more = None if outs is None else outs * side**2
    return f"pixel unshuffle ÷{side}", more, Fraction(1, side)


def _resize_words(
    node: onnx.NodeProto, given: Sequence[_Constant], outs: int | None
) -> tuple[str, int | None, Fraction | None]:
    mode = _text(node, "mode") or "nearest"
    words = MODES.get(mode, mode)
    scales = [item.values() for item in given if len(item.values()) >= 3]
    if not scales or not math.isfinite(scales[0][-1]) or scales[0][-1] <= 0:
        return f"resize, {words}", outs, None
    factor = Fraction(scales[0][-1]).limit_denominator(100)
    return f"{words} {_factor_words(factor)}", outs, factor


def _factor_words(factor: Fraction) -> str:
    if factor < 1 and factor.numerator == 1:
        return f"÷{factor.denominator}"
    return f"×{float(factor):.3g}"


def _scaled(scale: Fraction | None, factor: Fraction | None) -> Fraction | None:
    return None if scale is None or factor is None else scale * factor


def _times(scale: Fraction | None) -> list[str]:
    if scale is None or scale in (0, 1):
        return []
    return [f"{_factor_words(scale)} size"]


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count:,} channels"


def _end(value: float) -> str:
    return "the last" if abs(value) > 2**30 else f"{value:.0f}"


def _permuted(dims: tuple[int, ...], node: onnx.NodeProto) -> tuple[int, ...] | None:
    order = tuple(_attribute(node, "perm", range(len(dims))[::-1]))
    if sorted(order) != list(range(len(dims))):
        return None
    return tuple(dims[axis] for axis in order)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for entry in node.attribute:
        if entry.name == name:
            found = onnx.helper.get_attribute_value(entry)
            return found if isinstance(found, type(default)) or not _number(default) else default
    return default


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _text(node: onnx.NodeProto, name: str) -> str:
    found = _attribute(node, name, b"")
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""
