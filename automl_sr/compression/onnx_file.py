"""ONNX files: reading with a clear error, and looking inside."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from automl_sr.errors import ExportError, first_line

WEIGHTED_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")
VALUE_OPERATORS = frozenset(
    {
        *WEIGHTED_OPERATORS,
        "PRelu",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "QuantizeLinear",
        "DequantizeLinear",
        "BatchNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
    }
)
"""What these compute with takes as long whatever its values are.

Elsewhere (Resize, Pad, Reshape) values are sizes.
"""
PACKED_DOMAIN = "automl_sr.packed"
"""Domain of the functions that give packed weights when a file is loaded."""
FIXED_TENSORS = "fixed_tensors"
"""Key of a file's metadata: names, as JSON, of stored tensors that no training changes."""
PARAMETERS = "parameters"
"""Key of a file's metadata: how many parameters its module has, which folded constants hide."""
CHATTY_LOGGERS = ("root", "torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Exported:
    """An ONNX file, and the exporter or quantizer that wrote it.

    `metadata` are its `metadata_props`.
    """

    path: Path
    size_bytes: int
    made_by: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    difference: float = 0.0
    """Largest deviation from the module, relative to its output range; 0 where not compared."""


def source_of(exported: Exported | Path | str) -> Path:
    """Return where a file lies that is given as itself or as what an exporter said of it."""
    if isinstance(exported, Exported):
        return exported.path
    return Path(exported)


def load_onnx(path: Path | str, *, beside: bool = True) -> onnx.ModelProto:
    """Read an ONNX file, with what lies `beside` it.

    Raises ExportError where it is missing or damaged.
    """
    try:
        return onnx.load(str(path), load_external_data=beside)
    except Exception as error:  # protobuf's own exception types differ between its implementations
        raise ExportError(f"{path} cannot be read as ONNX: {first_line(error)}.") from error


def read_metadata(path: Path | str) -> dict[str, str]:
    """Return the file's `metadata_props`."""
    metadata: dict[str, str] = {}
    for entry in load_onnx(path).metadata_props:
        metadata[entry.key] = entry.value
    return metadata


def layer_nodes(path: Path | str) -> list[tuple[str, str]]:
    """List the nodes that hold weights, (name, operator) in the order of the graph.

    [0] and [-1] are first and last.
    """
    graph = load_onnx(path).graph
    nodes: list[tuple[str, str]] = []
    for node in graph.node:
        if node.op_type in WEIGHTED_OPERATORS:
            nodes.append((node.name, node.op_type))
    return nodes


def scope_of(node: str) -> str:
    """Return the name of the module that a node's name tells of.

    The TorchScript exporter gives such names: `/body/body.0/conv1/Conv` is `body.0.conv1`.
    """
    path: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        # A part of a list or sequence repeats the names above it.
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)


@dataclass(frozen=True)
class LayerTensors:
    """A node with weights and the names of its tensors.

    `weight` keeps the module's parameter name, such as `body.0.weight`.
    """

    node: str
    operator: str
    input: str
    weight: str
    output: str


def layer_tensors(path: Path | str) -> list[LayerTensors]:
    """List the nodes whose weight is stored, packed or not, in graph order.

    These are the names that overrides need; `output` is that of a rectifier which alone reads what
    the node gives.
    """
    graph = load_onnx(path).graph
    stored = {tensor.name for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.domain == PACKED_DOMAIN:
            stored.add(node.output[0])
        for name in node.input:
            readers.setdefault(name, []).append(node)

    layers = []
    for node in graph.node:
        if node.op_type not in WEIGHTED_OPERATORS or len(node.input) < 2:
            continue
        read, weight = node.input[:2]
        if weight not in stored:
            continue
        # Where a rectifier alone reads the output, its own output is what gets quantized.
        output = node.output[0]
        following = readers.get(output, [])
        if len(following) == 1 and following[0].op_type in ("Relu", "Clip"):
            output = following[0].output[0]
        layers.append(LayerTensors(node.name, node.op_type, read, weight, output))
    return layers


def graph_digest(path: Path | str) -> str:
    """Name what a file computes but for its weights.

    That is its nodes, attributes, and the shapes and types of its tensors. Files with the same
    digest take the same time on the same machine. One with packed weights has that of the float
    file that it becomes when it is loaded.
    """
    model = load_onnx(path)
    del model.metadata_props[:]
    _forget_packing(model)

    sizes = set()
    for node in model.graph.node:
        if node.op_type not in VALUE_OPERATORS:
            sizes.update(node.input)
    for tensor in model.graph.initializer:
        # int64 tensors are sizes everywhere: of a size that is computed from the image's,
        # quantization makes stored factors.
        if tensor.name in sizes or tensor.data_type == onnx.TensorProto.INT64:
            continue
        empty = onnx.TensorProto(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
        )
        tensor.CopyFrom(empty)

    # Exporters store tensors in any order, which changes no time.
    model.graph.initializer.sort(key=lambda tensor: tensor.name)
    content = model.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()


def without_unused_imports(content: bytes) -> bytes:
    """Return an ONNX file without the operator sets that no node uses."""
    model = onnx.load_model_from_string(content)
    used = {""}
    for node in _all_nodes(model.graph.node):
        used.add(node.domain)
    for function in model.functions:
        for node in _all_nodes(function.node):
            used.add(node.domain)

    # Older runtimes refuse sets that they do not know, even where nothing uses them.
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
    # Once more after each removal: what only a dead node reads is dead as well.
    while True:
        read = {output.name for output in graph.output}
        for node in _all_nodes(graph.node):
            read.update(node.input)
        dead = []
        for node in graph.node:
            if read.isdisjoint(node.output):
                dead.append(node)
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    _remove_tensors(model, {tensor.name for tensor in graph.initializer} - read)


def _remove_tensors(model: onnx.ModelProto, names: Collection[str]) -> None:
    # A list first: protobuf's own cannot be changed while one goes through it.
    for tensor in list(model.graph.initializer):
        if tensor.name in names:
            model.graph.initializer.remove(tensor)


def _forget_packing(model: onnx.ModelProto) -> None:
    """Put an empty tensor of its shape in the place of every packed weight."""
    packed = []
    inner: set[str] = set()
    for node in model.graph.node:
        if node.domain == PACKED_DOMAIN:
            packed.append(node)
            inner.update(node.input)

    for node in packed:
        model.graph.node.remove(node)
        name = node.output[0]
        if name in inner:
            continue  # the values of a sparse weight, which are no weight of their own
        weight = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT)
        for attribute in node.attribute:
            if attribute.name == "shape":
                weight.dims.extend(attribute.ints)
        model.graph.initializer.append(weight)
    _remove_tensors(model, inner)

    for entries in (model.functions, model.opset_import):
        for entry in list(entries):
            if entry.domain == PACKED_DOMAIN:
                entries.remove(entry)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings, log lines and prints of exporters and quantizers off the terminal."""
    levels = {}
    for name in CHATTY_LOGGERS:
        logger = logging.getLogger(name)
        levels[logger] = logger.level
    lost = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(lost),
        contextlib.redirect_stderr(lost),
    ):
        warnings.simplefilter("ignore")
        for logger in levels:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
