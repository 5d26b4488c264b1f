"""From an ONNX file to the parts of a drawing: what computes, in the order in which it does.

The file is what ships, so that a drawing of it shows what pruning, packing and quantization have
made of a net. Reading it runs nobody's code, needs no plugin, and takes milliseconds.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import onnx

from automl_sr.compression.onnx_file import FIXED_TENSORS, PARAMETERS, scope_of
from automl_sr.errors import DataError
from automl_sr.presentation.drawing.node_words import (
    Words,
    activation_words,
    block_words,
    channel_words,
    convolution_words,
    end_words,
    resize_words,
    scale_words,
    scaled,
    size_words,
)
from automl_sr.presentation.drawing.operators import (
    ACTIVATIONS,
    PASSED,
    PLAIN,
    RECURRENT,
    SHUFFLES,
    SIGNS,
    SIZES,
)
from automl_sr.presentation.drawing.parts import Kind, Look, Part
from automl_sr.presentation.drawing.patterns import ROLL, in_order, joined_attention, put_together
from automl_sr.presentation.drawing.tensors import (
    Constant,
    integer_of,
    integers_of,
    made_constant,
    plain_name,
    stored,
    text_of,
)

MOST_DIGITS = 15
MOST_NODES = 20_000
MOST_PARTS = 4000
LONGEST = 46
"""Characters up to which a title takes in what follows."""


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
            ins=_known(self.ins),
            outs=_known(self.outs),
            weights=self.weights,
            stored=self.stored,
            name=self.name,
            layers=self.layers,
        )


def _known(width: int | None) -> tuple[int, ...]:
    return () if width is None else (width,)


class _Reading:
    """Goes through a graph once."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.drafts: list[_Draft] = []
        self.sources: dict[str, int] = {}
        self.constants = {tensor.name: stored(tensor) for tensor in self.graph.initializer}
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
            draft.details.append(channel_words(draft.outs))
        if inputs:
            draft.scale = self.drafts[inputs[0]].scale
            draft.details += size_words(draft.scale)

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
        weight = self._setting(node, 1)
        if node.op_type in ("Conv", "ConvTranspose") and weight is not None and weight.dims:
            self._convolution(node, read, weight, given)
        elif node.op_type in ("MatMul", "Gemm") and given:
            self._linear(node, read, given)
        elif node.op_type in RECURRENT:
            self._recurrent(node, read, given)
        elif node.op_type in ACTIVATIONS:
            self._follow(node, read, activation_words(node, given), given)
        elif node.op_type in SIGNS:
            self._arithmetic(node, read, given)
        elif node.op_type in PASSED or self._rolls_again(node):
            self._pass(node, read, given)
        else:
            self._other(node, read, given)

    # What does not depend on the inputs.

    def _constant(self, node: onnx.NodeProto) -> None:
        given = [self.constants[name] for name in node.input if name in self.constants]
        made = made_constant(node, given)
        for name in node.output:
            self.constants[name] = made

    def _setting(self, node: onnx.NodeProto, place: int) -> Constant | None:
        """Return the input at a place, where it is a constant."""
        if len(node.input) <= place:
            return None
        return self.constants.get(node.input[place])

    def _weights(self, given: Sequence[Constant]) -> dict[str, int]:
        """Return what is learnt of these, under the names of their parameters."""
        found = {}
        for item in given:
            name = plain_name(item.name)
            alone = item.numbers == 1 and (not name or name.startswith(("/", "onnx::")))
            if item.numbers and name and name not in self.fixed and not alone:
                found[name] = item.numbers
        return found

    # Layers.

    def _convolution(
        self,
        node: onnx.NodeProto,
        read: list[int],
        weight: Constant,
        given: Sequence[Constant],
    ) -> None:
        dims = weight.dims or ()
        if len(dims) < 3:
            self._other(node, read, given)
            return

        draft = self._layer(node, "Conv", read, given)
        draft.kind = "convolution"
        groups = max(1, integer_of(node, "group", 1))
        draft.ins, draft.outs = dims[1] * groups, dims[0]
        stride = max(1, *integers_of(node, "strides")[-1:], 1)
        if node.op_type == "ConvTranspose":
            draft.kind = "transposed"
            draft.ins, draft.outs = dims[0], dims[1] * groups
            draft.scale = scaled(draft.scale, Fraction(stride))
        else:
            draft.scale = scaled(draft.scale, Fraction(1, stride))

        depthwise = groups > 1 and groups == draft.ins
        if plain_name(weight.name) in self.fixed:
            draft.kind = "fixed"
        kernel = "×".join(str(side) for side in dims[2:])
        draft.title = f"{convolution_words(draft.kind, depthwise=depthwise)} {kernel}"

        if groups > 1 and not depthwise:
            draft.details.append(f"{groups} groups")
        if stride > 1 and node.op_type == "ConvTranspose":
            draft.details.append(f"×{stride}")
        elif stride > 1:
            draft.details.append(f"stride {stride}")
        widest = max(integers_of(node, "dilations"), default=1)
        if widest > 1:
            draft.details.append(f"dilation {widest}")

    def _linear(self, node: onnx.NodeProto, read: list[int], given: Sequence[Constant]) -> None:
        weight = max(given, key=lambda item: item.numbers)
        draft = self._layer(node, "Linear", read, given)
        draft.kind = "linear"
        if weight.dims is not None and len(weight.dims) >= 2:
            ins, outs = weight.dims[-2:]
            if node.op_type == "Gemm" and integer_of(node, "transB", 0):
                ins, outs = outs, ins
            draft.ins, draft.outs = ins, outs

    def _recurrent(self, node: onnx.NodeProto, read: list[int], given: Sequence[Constant]) -> None:
        draft = self._layer(node, RECURRENT[node.op_type], read, given)
        draft.kind = "recurrent"
        both = text_of(node, "direction") == "bidirectional"
        if both:
            draft.details.append("both directions")
        hidden = integer_of(node, "hidden_size", 0)
        draft.outs = 2 * hidden if both else hidden
        if given and given[0].dims:
            draft.ins = given[0].dims[-1]

    def _layer(
        self, node: onnx.NodeProto, title: str, read: list[int], given: Sequence[Constant]
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
        self, node: onnx.NodeProto, read: list[int], words: str, given: Sequence[Constant]
    ) -> None:
        """Write an operation behind what it reads, if nothing else reads that; else draw it."""
        before = self.drafts[read[0]]
        weights: dict[str, int] = {}
        if node.op_type not in SIZES:
            weights = self._weights(given)
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

    def _arithmetic(self, node: onnx.NodeProto, read: list[int], given: Sequence[Constant]) -> None:
        if len(read) > 1:
            draft = self._new("circle", SIGNS[node.op_type], read, node.output[0])
            draft.name = scope_of(node.name)
            return
        before = self.drafts[read[0]]
        if node.op_type == "Add" and before.kind == "linear" and not before.suffixes:
            words = ""  # a bias, which exporters write apart
        else:
            words = scale_words(node.op_type, given)
        self._follow(node, read, words, given)

    def _pass(self, node: onnx.NodeProto, read: list[int], given: Sequence[Constant]) -> None:
        before = self.drafts[read[0]]
        shuffle = SHUFFLES.get(integers_of(node, "perm"))
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
        zero = self._setting(node, 2)
        if zero is None or zero.tensor is None or before.suffixes or before.tip not in node.input:
            return
        lowest = {int(onnx.TensorProto.UINT8): 0.0, int(onnx.TensorProto.INT8): -128.0}
        if zero.values()[:1] == [lowest.get(zero.tensor.data_type)]:
            before.suffixes.append("clipped at 0")

    def _other(self, node: onnx.NodeProto, read: list[int], given: Sequence[Constant]) -> None:
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
        draft.scale = scaled(draft.scale, factor)
        if node.op_type not in SIZES:
            draft.weights = self._weights(given)

    def _takes_channels(self, node: onnx.NodeProto) -> bool:
        """Whether a piece is cut along the channels; along others it is a crop, or one of several
        maps that lie in one tensor.
        """
        if node.op_type == "Gather":
            index = self._setting(node, 1)
            one = index is not None and math.prod(index.dims or (1,)) == 1
            return integer_of(node, "axis", 0) == 1 and not one
        if node.op_type == "Split":
            return integer_of(node, "axis", 0) == 1
        axes = self._setting(node, 3)
        return axes is not None and axes.values() == [1.0]

    def _words(self, node: onnx.NodeProto, read: list[int], given: Sequence[Constant]) -> Words:
        """Return the words of an operation, the channels that it gives, and how it scales a map."""
        outs = self.drafts[read[0]].outs
        one = Fraction(1)
        if node.op_type in ("DepthToSpace", "SpaceToDepth"):
            return block_words(node, outs)
        if node.op_type in ("Resize", "Upsample"):
            return resize_words(node, given, outs)
        if node.op_type in ("MaxPool", "AveragePool"):
            sides = "×".join(str(side) for side in integers_of(node, "kernel_shape"))
            strides = integers_of(node, "strides") or (1,)
            factor = Fraction(1, strides[-1]) if strides[-1] > 0 else None
            return f"{PLAIN[node.op_type]} {sides}".strip(), outs, factor
        if node.op_type == "Concat":
            return self._concat_words(node, read)
        if node.op_type == "Slice":
            starts, ends = (item.values()[:1] for item in [*given, Constant(), Constant()][:2])
            if starts and ends:
                return f"channels {starts[0]:.0f} to {end_words(ends[0])}", None, one
        if node.op_type.startswith(("Reduce", "Global")):
            return PLAIN.get(node.op_type, node.op_type), outs, None
        return PLAIN.get(node.op_type, node.op_type), None, one

    def _concat_words(self, node: onnx.NodeProto, read: list[int]) -> Words:
        axis = integer_of(node, "axis", 1)
        widths = [self.drafts[item].outs for item in read]
        known = [width for width in widths if width is not None]
        if len(known) < len(widths) or axis != 1:
            return PLAIN["Concat"], None, Fraction(1)
        return PLAIN["Concat"], sum(known), Fraction(1)


def told_parameters(model: onnx.ModelProto) -> int | None:
    """Return how many parameters the module has, where the file says so in its metadata."""
    told = _metadata(model).get(PARAMETERS, "")
    if told.isdecimal() and len(told) <= MOST_DIGITS:
        return int(told)
    return None


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _fixed_names(model: onnx.ModelProto) -> frozenset[str]:
    told = _metadata(model).get(FIXED_TENSORS, "[]")
    try:
        names = json.loads(told)
    except (ValueError, RecursionError):
        return frozenset()
    if not isinstance(names, list):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str))


def _module(node: onnx.NodeProto, given: Sequence[Constant]) -> str:
    """Name the module of a layer: by its node, else by its weight."""
    scope = scope_of(node.name)
    if scope:
        return scope
    for item in given:
        owner, _, last = plain_name(item.name).rpartition(".")
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
