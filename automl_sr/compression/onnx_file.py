"""ONNX files: reading with a clear error, and looking inside."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from automl_sr.errors import ExportError, first_line

WEIGHTED_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")
VALUE_OPERATORS = frozenset(
    {*WEIGHTED_OPERATORS, "PRelu", "Add", "Sub", "Mul", "Div", "QuantizeLinear", "DequantizeLinear"}
    | {"BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"}
)
"""What these compute with takes as long whatever its values are; elsewhere (Resize, Pad, Reshape) they are sizes.

int64 tensors are sizes everywhere: of a size that is computed from the image's, quantization makes stored factors.
"""
CHATTY_LOGGERS = ("root", "torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Exported:
    """An ONNX file: where it lies, its size, the exporter or quantizer that wrote it, and its `metadata_props`."""

    path: Path
    size_bytes: int
    made_by: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    difference: float = 0.0
    """Largest deviation from the module, relative to its output range (0 where it was not compared)."""


def load_onnx(path: Path | str, *, beside: bool = True) -> onnx.ModelProto:
    """Read an ONNX file, with what lies beside it; raises ExportError where it is missing or damaged."""
    try:
        return onnx.load(str(path), load_external_data=beside)
    except Exception as error:  # protobuf's own exception types differ between its implementations
        raise ExportError(f"{path} cannot be read as ONNX: {first_line(error)}.") from error


def read_metadata(path: Path | str) -> dict[str, str]:
    """Return the file's `metadata_props`."""
    return {entry.key: entry.value for entry in load_onnx(path).metadata_props}


def layer_nodes(path: Path | str) -> list[tuple[str, str]]:
    """List the nodes that hold weights, (name, operator) in the order of the graph: [0] and [-1] are first and last."""
    graph = load_onnx(path).graph
    return [(node.name, node.op_type) for node in graph.node if node.op_type in WEIGHTED_OPERATORS]


@dataclass(frozen=True)
class LayerTensors:
    """A node with weights and the names of its tensors: `weight` keeps the module's parameter name, `body.0.weight`."""

    node: str
    operator: str
    input: str
    weight: str
    output: str


def layer_tensors(path: Path | str) -> list[LayerTensors]:
    """List the nodes whose weight is a stored tensor, in graph order: the names that quantization overrides need.

    Where a rectifier is the only reader of the node's output, `output` is the rectifier's: that is what gets quantized.
    """
    graph = load_onnx(path).graph
    stored = {tensor.name for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.node:
        if node.op_type in WEIGHTED_OPERATORS and len(node.input) > 1 and node.input[1] in stored:
            output = node.output[0]
            following = readers.get(output, [])
            if len(following) == 1 and following[0].op_type in ("Relu", "Clip"):
                output = following[0].output[0]
            found.append(LayerTensors(node.name, node.op_type, node.input[0], node.input[1], output))
    return found


def graph_digest(path: Path | str) -> str:
    """Name what a file computes but for its weights: nodes, attributes, and shapes and types of its tensors.

    Files with the same digest take the same time on the same machine.
    """
    model = load_onnx(path)
    del model.metadata_props[:]
    sizes = {name for node in model.graph.node if node.op_type not in VALUE_OPERATORS for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name not in sizes and tensor.data_type != onnx.TensorProto.INT64:
            empty = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(empty)
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def without_unused_imports(content: bytes) -> bytes:
    """Return an ONNX file without the operator sets that no node uses: older runtimes refuse those they do not know."""
    model = onnx.load_model_from_string(content)
    nodes = [*_all_nodes(model.graph.node)]
    for function in model.functions:
        nodes += _all_nodes(function.node)
    used = {node.domain for node in nodes} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return bytes(model.SerializeToString())


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes with those of the graphs inside of them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _all_nodes(attribute.g.node)
            for graph in attribute.graphs:
                yield from _all_nodes(graph.node)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings, log lines and prints of exporters and quantizers off the terminal."""
    loggers = [logging.getLogger(name) for name in CHATTY_LOGGERS]
    levels = [logger.level for logger in loggers]
    lost = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(lost), contextlib.redirect_stderr(lost):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
