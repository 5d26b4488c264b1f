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
"""What these compute with takes as long whatever its values are; elsewhere (Resize, Pad, Reshape)
they are sizes.

int64 tensors are sizes everywhere: of a size that is computed from the image's, quantization makes
stored factors.
"""
PACKED_DOMAIN = "automl_sr.packed"
"""Domain of the functions that give packed weights when a file is loaded."""
CHATTY_LOGGERS = ("root", "torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Exported:
    """An ONNX file: where it lies, its size, the exporter or quantizer that wrote it, and its
    `metadata_props`.
    """

    path: Path
    size_bytes: int
    made_by: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    difference: float = 0.0
    """Largest deviation from the module, relative to its output range (0 where it was not
    compared).
    """


def load_onnx(path: Path | str, *, beside: bool = True) -> onnx.ModelProto:
    """Read an ONNX file, with what lies beside it; raises ExportError where it is missing or
    damaged.
    """
    try:
        return onnx.load(str(path), load_external_data=beside)
    except Exception as error:  # protobuf's own exception types differ between its implementations
        raise ExportError(f"{path} cannot be read as ONNX: {first_line(error)}.") from error


def read_metadata(path: Path | str) -> dict[str, str]:
    """Return the file's `metadata_props`."""
    found: dict[str, str] = {}
    for entry in load_onnx(path).metadata_props:
        found[entry.key] = entry.value
    return found


def layer_nodes(path: Path | str) -> list[tuple[str, str]]:
    """List the nodes that hold weights, (name, operator) in the order of the graph: [0] and [-1]
    are first and last.
    """
    graph = load_onnx(path).graph
    found: list[tuple[str, str]] = []
    for node in graph.node:
        if node.op_type in WEIGHTED_OPERATORS:
            found.append((node.name, node.op_type))
    return found


def scope_of(node: str) -> str:
    """Return the name of the module that a node's name tells of, where the TorchScript exporter
    gave it.

    `/body/body.0/conv1/Conv` is `body.0.conv1`: a part of a list or sequence repeats the names
    above it.
    """
    path: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)


@dataclass(frozen=True)
class LayerTensors:
    """A node with weights and the names of its tensors: `weight` keeps the module's parameter name,
    `body.0.weight`.
    """

    node: str
    operator: str
    input: str
    weight: str
    output: str


def layer_tensors(path: Path | str) -> list[LayerTensors]:
    """List the nodes whose weight is stored, packed or not, in graph order: the names that
    overrides need.

    Where a rectifier is the only reader of the node's output, `output` is the rectifier's: that is
    what gets quantized.
    """
    graph = load_onnx(path).graph
    stored = set()
    for tensor in graph.initializer:
        stored.add(tensor.name)
    stored |= {node.output[0] for node in graph.node if node.domain == PACKED_DOMAIN}
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
            found.append(
                LayerTensors(node.name, node.op_type, node.input[0], node.input[1], output)
            )
    return found


def graph_digest(path: Path | str) -> str:
    """Name what a file computes but for its weights: nodes, attributes, and shapes and types of its
    tensors.

    Files with the same digest take the same time on the same machine. One with packed weights has
    that of the float file that it becomes when it is loaded.
    """
    model = load_onnx(path)
    del model.metadata_props[:]
    _forget_packing(model)
    sizes = set()
    for node in model.graph.node:
        if node.op_type not in VALUE_OPERATORS:
            for name in node.input:
                sizes.add(name)
    for tensor in model.graph.initializer:
        if tensor.name not in sizes and tensor.data_type != onnx.TensorProto.INT64:
            empty = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(empty)
    model.graph.initializer.sort(key=lambda tensor: tensor.name)
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def without_unused_imports(content: bytes) -> bytes:
    """Return an ONNX file without the operator sets that no node uses: older runtimes refuse those
    they do not know.
    """
    model = onnx.load_model_from_string(content)
    nodes = [*_all_nodes(model.graph.node)]
    for function in model.functions:
        nodes += _all_nodes(function.node)
    used = {node.domain for node in nodes} | {""}
    kept = []
    for entry in model.opset_import:
        if entry.domain in used:
            kept.append(entry)
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


def drop_unread(model: onnx.ModelProto) -> None:
    """Take nodes and stored tensors out that nothing reads any more."""
    graph = model.graph
    wanted = {output.name for output in graph.output}
    while True:
        read = wanted.union(*(node.input for node in _all_nodes(graph.node)))
        dead = [node for node in graph.node if read.isdisjoint(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _forget_packing(model: onnx.ModelProto) -> None:
    """Put an empty tensor of its shape in the place of every packed weight."""
    packed = [node for node in model.graph.node if node.domain == PACKED_DOMAIN]
    inner = {name for node in packed for name in node.input}
    for node in packed:
        model.graph.node.remove(node)
        if node.output[0] not in inner:
            [shape] = [entry.ints for entry in node.attribute if entry.name == "shape"]
            weight = onnx.TensorProto(
                name=node.output[0], data_type=onnx.TensorProto.FLOAT, dims=shape
            )
            model.graph.initializer.append(weight)
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in inner]:
        model.graph.initializer.remove(tensor)
    for entries in (model.functions, model.opset_import):
        for entry in [entry for entry in entries if entry.domain == PACKED_DOMAIN]:
            entries.remove(entry)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings, log lines and prints of exporters and quantizers off the terminal."""
    loggers = []
    for name in CHATTY_LOGGERS:
        loggers.append(logging.getLogger(name))
    levels = [logger.level for logger in loggers]
    lost = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(lost),
        contextlib.redirect_stderr(lost),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
