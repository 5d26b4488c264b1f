"""How the weights of an ONNX file are stored: in how many bits, and in how many bytes.

It is read off the file alone, whatever wrote it: plain tensors of any type, integers that are
dequantized, weights that are packed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from automl_sr.compression.onnx_file import PACKED_DOMAIN, LayerTensors, load_onnx

WEIGHT_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "MatMul": (1,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "ConvInteger": (1,),
    "MatMulInteger": (1,),
    "QLinearConv": (3,),
    "QLinearMatMul": (3,),
}
"""Which inputs of an operator are weights: recurrent ones have two."""
CODED = ("Uniform", "Codebook")
"""Packing functions that read the planes of codes; others read numbers as they are."""
FLOAT_BITS = 32
QUANTIZED = "_quantized"
"""What ONNX Runtime's quantizer puts behind the name of a weight."""
_TYPE = onnx.TensorProto
ELEMENT_BITS: Mapping[int, int] = {
    _TYPE.DOUBLE: 64,
    _TYPE.INT64: 64,
    _TYPE.UINT64: 64,
    _TYPE.FLOAT: FLOAT_BITS,
    _TYPE.INT32: 32,
    _TYPE.UINT32: 32,
    _TYPE.FLOAT16: 16,
    _TYPE.BFLOAT16: 16,
    _TYPE.INT16: 16,
    _TYPE.UINT16: 16,
    _TYPE.INT8: 8,
    _TYPE.UINT8: 8,
    _TYPE.BOOL: 8,
    _TYPE.FLOAT8E4M3FN: 8,
    _TYPE.FLOAT8E4M3FNUZ: 8,
    _TYPE.FLOAT8E5M2: 8,
    _TYPE.FLOAT8E5M2FNUZ: 8,
    _TYPE.INT4: 4,
    _TYPE.UINT4: 4,
    _TYPE.FLOAT4E2M1: 4,
}


@dataclass(frozen=True)
class StoredWeight:
    """The weight of one node of a file."""

    tensors: LayerTensors
    bits: float
    """Of each weight that is not left out as a zero."""
    bytes: int
    """Of all that is stored for it: codes, scales, a codebook, which of them are zero."""
    packed: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is stored as float32, or as more."""
        return not self.packed and self.bits >= FLOAT_BITS


def stored_weights(path: Path | str) -> list[StoredWeight]:
    """Return the weights of a file in the order of its graph.

    Nodes whose second input is computed from the model's input have none. Raises ExportError for
    a file that cannot be read.
    """
    reader = _Reader.of(load_onnx(path))
    found = []
    for node in reader.model.graph.node:
        weight = reader.weight_of(node)
        if weight is not None:
            found.append(weight)
    return found


def is_plain_float(path: Path | str) -> bool:
    """Return whether all weights of a file are stored as float32. Raises ExportError."""
    return all(weight.is_plain for weight in stored_weights(path))


@dataclass(frozen=True)
class _Reader:
    """A file with its tensors and nodes by name."""

    model: onnx.ModelProto
    tensors: Mapping[str, onnx.TensorProto]
    makers: Mapping[str, onnx.NodeProto]
    """The node that gives a tensor."""

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Reader:
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        makers = {}
        for node in model.graph.node:
            for name in node.output:
                makers[name] = node
            constant = _constant(node)
            if constant is not None:
                tensors[node.output[0]] = constant
        return cls(model, tensors, makers)

    def weight_of(self, node: onnx.NodeProto) -> StoredWeight | None:
        """Return how the weight of a node is stored; None for one without."""
        size = 0
        main: _Origin | None = None
        for place in WEIGHT_INPUTS.get(node.op_type, ()):
            if place >= len(node.input):
                continue
            origin = _Origin([], [])
            if not self._follow(node.input[place], origin):
                return None
            size += sum(map(_bytes, origin.tensors))
            # Of a recurrent layer's two the first one, whose form the other shares.
            main = main or origin
        if main is None or not main.tensors:
            return None
        name, bits = self._form(main)
        return StoredWeight(
            LayerTensors(node.name, node.op_type, node.input[0], name, node.output[0]),
            bits,
            size,
            packed=bool(main.packed),
        )

    def _follow(self, name: str, origin: _Origin) -> bool:
        """Collect what a tensor is made of; False where it depends on the model's input."""
        if name in self.tensors:
            origin.tensors.append(self.tensors[name])
            return True
        node = self.makers.get(name)
        if node is None:
            return False
        if node.domain == PACKED_DOMAIN:
            origin.packed.append(node)
        # An input that is left out has an empty name.
        read = [name for name in node.input if name]
        return all(self._follow(name, origin) for name in read)

    def _form(self, origin: _Origin) -> tuple[str, float]:
        """Return the name of a weight, and the bits in which it is stored."""
        if not origin.packed:
            largest = max(origin.tensors, key=_count)
            return largest.name.removesuffix(QUANTIZED), float(_element_bits(largest))

        # The first is the outermost: it gives the weight itself.
        name = origin.packed[0].output[0]
        inner = origin.packed[-1]
        if inner.op_type not in CODED:
            read = [self.tensors[entry] for entry in inner.input if entry in self.tensors]
            if inner.op_type == "Sparse":
                del read[0]  # which of them are zero, a bit for each
            return name, float(_element_bits(max(read, key=_count)))
        codes = self.tensors[inner.input[0]]
        bits = float(codes.dims[0])  # one plane for each bit
        if inner.op_type == "Codebook":
            bits /= self.tensors[inner.input[1]].dims[1]  # a code stands for several weights
        return name, bits


@dataclass(frozen=True)
class _Origin:
    """The stored tensors and the packing functions that a weight is made of."""

    tensors: list[onnx.TensorProto]
    packed: list[onnx.NodeProto]


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant":
        return None
    for attribute in node.attribute:
        if attribute.name == "value":
            named = onnx.TensorProto()
            named.CopyFrom(attribute.t)
            named.name = node.output[0]
            return named
    # A single number or a list: sizes, no weights.
    return onnx.TensorProto(name=node.output[0], data_type=_TYPE.FLOAT)


def _count(tensor: onnx.TensorProto) -> int:
    dims: Sequence[int] = tensor.dims
    return math.prod(dims)


def _element_bits(tensor: onnx.TensorProto) -> int:
    return ELEMENT_BITS.get(tensor.data_type, FLOAT_BITS)


def _bytes(tensor: onnx.TensorProto) -> int:
    return math.ceil(_count(tensor) * _element_bits(tensor) / 8)
