"""Weights of few bits, from a codebook or mostly zero, packed inside the ONNX file that ships.

A packed weight is the output of a function that lies in the file too. ONNX Runtime works it out
once, when it loads the file, and runs the float convolutions that it runs without packing: packing
saves bytes, not time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from automl_sr.compression.onnx_file import (
    PACKED_DOMAIN,
    Exported,
    drop_unread,
    load_onnx,
    source_of,
)
from automl_sr.errors import ExportError, nearest
from automl_sr.files import write_atomically

Array = NDArray[Any]

MOST_BITS = 16
CLOSE = 1e-6
"""How far an unpacked weight may be from the stored one, relative to the largest of the tensor."""
METADATA = "packed_weights"
ONE = "automl_sr.one"
"""Name of the scale of weights that have none."""

FUNCTIONS = {
    # Each byte holds one bit of eight weights: any number of bits is a number of such planes.
    "Codes": (
        """
        Codes <powers, count> (planes) => (codes)
        {
            shifts = Constant <value = uint8[8] {0, 1, 2, 3, 4, 5, 6, 7}> ()
            one = Constant <value = uint8 {1}> ()
            last = Constant <value_ints = [-1]> ()
            rows = Constant <value_ints = [0, -1]> ()
            start = Constant <value_ints = [0]> ()
            powers = Constant <value_floats: floats = @powers> ()
            count = Constant <value_ints: ints = @count> ()
            bytes = Unsqueeze (planes, last)
            moved = BitShift <direction = "RIGHT"> (bytes, shifts)
            bits = BitwiseAnd (moved, one)
            numbers = Cast <to = 1> (bits)
            flat = Reshape (numbers, rows)
            all = MatMul (powers, flat)
            codes = Slice (all, start, count)
        }"""
    ),
    "Uniform": (
        """
        Uniform <powers, count, low, shape> (planes, scale) => (weight)
        {
            low = Constant <value_float: float = @low> ()
            shape = Constant <value_ints: ints = @shape> ()
            codes = automl_sr.packed.Codes <powers: floats = @powers, count: ints = @count> (planes)
            moved = Add (codes, low)
            shaped = Reshape (moved, shape)
            weight = Mul (shaped, scale)
        }"""
    ),
    "Codebook": (
        """
        Codebook <powers, count, shape> (planes, entries) => (weight)
        {
            shape = Constant <value_ints: ints = @shape> ()
            codes = automl_sr.packed.Codes <powers: floats = @powers, count: ints = @count> (planes)
            indices = Cast <to = 7> (codes)
            found = Gather (entries, indices)
            weight = Reshape (found, shape)
        }"""
    ),
    "Float16": (
        """
        Float16 <shape> (values) => (weight)
        {
            shape = Constant <value_ints: ints = @shape> ()
            shaped = Reshape (values, shape)
            weight = Cast <to = 1> (shaped)
        }"""
    ),
    "Sparse": (
        """
        Sparse <powers, count, shape> (mask, values, scale) => (weight)
        {
            shape = Constant <value_ints: ints = @shape> ()
            axis = Constant <value_int = 0> ()
            zero = Constant <value_floats = [0.0]> ()
            bits = automl_sr.packed.Codes <powers: floats = @powers, count: ints = @count> (mask)
            kept = Cast <to = 7> (bits)
            counted = CumSum (kept, axis)
            places = Mul (counted, kept)
            with_zero = Concat <axis = 0> (zero, values)
            flat = Gather (with_zero, places)
            shaped = Reshape (flat, shape)
            weight = Mul (shaped, scale)
        }"""
    ),
}


@dataclass(frozen=True)
class Uniform:
    """Weights that are whole multiples of a scale: `low` to `low + 2**bits - 1` times it.

    scale: one number, or one per output channel. low: -2**(bits - 1) unless given.
    """

    bits: int
    scale: float | Sequence[float] | Array
    low: int | None = None

    @property
    def lowest(self) -> int:
        """The smallest multiple."""
        if self.low is None:
            return -int(2 ** (self.bits - 1))
        return self.low


@dataclass(frozen=True)
class Codebook:
    """Weights that are taken from a list.

    `entries` is [K], or [K, d] for d weights that follow each other in memory.
    """

    entries: Sequence[float] | Array

    @property
    def table(self) -> Array:
        """The entries as float32 [K, d]."""
        table = np.asarray(self.entries, dtype=np.float32)
        if table.ndim == 1:
            return table[:, None]
        return table


@dataclass(frozen=True)
class Sparse:
    """Weights that are mostly zero: a bit for each, and the others as float32."""


@dataclass(frozen=True)
class Float16:
    """Weights that half precision holds: a sign, 5 bits of exponent and 10 of fraction."""


Packing = Uniform | Codebook | Sparse | Float16


def pack_weights(
    exported: Exported | Path | str,
    out_path: Path | str,
    weights: Mapping[str, Packing],
) -> Exported:
    """Return the file written to `out_path`, in which these weights are packed.

    Each is packed where that saves bytes. weights: by name of the stored tensor, which is the
    parameter's name in the module; `Layer.stored` tells others. They have the packing's values
    already: nothing is rounded here. Zeros of a `Uniform`, a one-dimensional `Codebook` or a
    `Float16` are left out as those of a `Sparse` where that is smaller, and weights that were
    packed before are packed anew. Raises ExportError for an unknown name, or a weight that the
    packing cannot give.
    """
    source = source_of(exported)
    model = load_onnx(source)
    _unpack(model, weights)
    stored = {}
    for tensor in model.graph.initializer:
        stored[tensor.name] = tensor
    for name, packing in weights.items():
        if name not in stored:
            raise ExportError(
                f"{source} stores no tensor {name!r} that could be packed.",
                nearest(name, stored),
            )
        _pack(model, stored[name], packing)

    # The functions weigh more than the weights of a very small net.
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    _unpack(plain)
    best = plain
    if model.ByteSize() < plain.ByteSize():
        best = model
    return _write(best, Path(out_path))


def unpack_weights(exported: Exported | Path | str, out_path: Path | str) -> Exported:
    """Return the file written to `out_path`, with all weights in float.

    It is for runtimes that do not fold constants; its output is the packed file's, and so is
    everything else. Raises ExportError for a file that cannot be read.
    """
    model = load_onnx(source_of(exported))
    _unpack(model)
    return _write(model, Path(out_path))


def is_packed(path: Path | str) -> bool:
    """Return whether weights of this file are packed.

    Raises ExportError for a file that cannot be read.
    """
    nodes = _packed_nodes(load_onnx(path))
    return bool(nodes)


def _write(model: onnx.ModelProto, target: Path) -> Exported:
    metadata = {}
    for entry in model.metadata_props:
        if entry.key != METADATA:
            metadata[entry.key] = entry.value
    packed = len(_packed_weights(model))
    if packed:
        metadata[METADATA] = str(packed)
    onnx.helper.set_model_props(model, metadata)
    write_atomically(target, bytes(model.SerializeToString()))
    return Exported(target, target.stat().st_size, "automl_sr.packing", metadata)


def _packed_weights(model: onnx.ModelProto) -> list[str]:
    """Name the weights that are packed."""
    nodes = _packed_nodes(model)
    read: set[str] = set()
    for node in nodes:
        read.update(node.input)
    names: list[str] = []
    for node in nodes:
        output = node.output[0]
        # The values of a sparse weight, which only its own function reads, are no weight.
        if output not in read:
            names.append(output)
    return names


def _packed_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain == PACKED_DOMAIN:
            nodes.append(node)
    return nodes


def _pack(model: onnx.ModelProto, tensor: onnx.TensorProto, packing: Packing) -> None:
    """Replace a stored tensor by the smallest form that gives it, which may be itself."""
    if tensor.data_type != onnx.TensorProto.FLOAT:
        raise ExportError(
            f"{tensor.name!r} is not stored as float32.",
            "Only weights can be packed.",
        )
    weight = onnx.numpy_helper.to_array(tensor)
    axis = _output_axis(model, tensor.name, weight.ndim)
    forms = _forms(tensor.name, weight, packing, axis)
    best = min(forms, key=lambda form: form.size)
    if best.size >= tensor.ByteSize():
        return

    model.graph.initializer.remove(tensor)
    known = {entry.name for entry in model.graph.initializer}
    for entry in best.tensors:
        if entry.name not in known:  # several weights share the scale of 1
            model.graph.initializer.append(entry)
    # In front: a node may read only what stands before it.
    for position, node in enumerate(best.nodes):
        model.graph.node.insert(position, node)
    _declare(model)


@dataclass(frozen=True)
class _Form:
    """Nodes, in the order in which they run, and the tensors that they read."""

    nodes: tuple[onnx.NodeProto, ...]
    tensors: tuple[onnx.TensorProto, ...]

    @property
    def size(self) -> int:
        nodes = sum(node.ByteSize() for node in self.nodes)
        tensors = sum(tensor.ByteSize() for tensor in self.tensors)
        return int(nodes + tensors)


def _forms(
    name: str,
    weight: Array,
    packing: Packing,
    axis: int,
) -> list[_Form]:
    """Return the forms in which a weight can be packed, dense and sparse."""
    flat = weight.reshape(-1)
    kept = flat != 0
    inner = f"{name}.values"
    count = (int(kept.sum()),)
    if isinstance(packing, Sparse):
        values = _Form((), (_tensor(inner, flat[kept]),))
        return [_sparse(name, weight.shape, kept, values, None)]

    if isinstance(packing, Codebook):
        table = packing.table
        indices = _indices(name, flat, table)
        dense = _codebook(name, indices, table, weight.shape)
        # Entries of several weights are kept or left out together: there is no sparse form.
        if table.shape[1] > 1 or not kept.any():
            return [dense]
        values = _codebook(inner, indices[kept], table, count)
        return [dense, _sparse(name, weight.shape, kept, values, None)]

    if isinstance(packing, Float16):
        halves = _halves(name, flat)
        dense = _float16(name, halves, weight.shape)
        if not kept.any():
            return [dense]
        values = _float16(inner, halves[kept], count)
        return [dense, _sparse(name, weight.shape, kept, values, None)]

    scale = _scale(name, packing, weight, axis)
    codes = _codes(name, weight, packing, scale).reshape(-1)
    dense = _uniform(name, codes, packing, weight.shape, scale)
    if not kept.any():
        return [dense]
    values = _uniform(inner, codes[kept], packing, count, None)
    return [dense, _sparse(name, weight.shape, kept, values, scale)]


def _uniform(
    name: str,
    codes: Array,
    packing: Uniform,
    shape: Sequence[int],
    scale: Array | None,
) -> _Form:
    planes, powers = _planes(codes - packing.lowest, packing.bits)
    stored = [_tensor(f"{name}.planes", planes), _scale_tensor(name, scale)]
    call = _call(
        "Uniform",
        name,
        stored,
        powers=powers,
        count=[len(codes)],
        low=float(packing.lowest),
        shape=shape,
    )
    return _Form((call,), tuple(stored))


def _codebook(
    name: str,
    indices: Array,
    table: Array,
    shape: Sequence[int],
) -> _Form:
    bits = (len(table) - 1).bit_length()
    planes, powers = _planes(indices, max(1, bits))
    stored = [_tensor(f"{name}.planes", planes), _tensor(f"{name}.entries", table)]
    call = _call(
        "Codebook",
        name,
        stored,
        powers=powers,
        count=[len(indices)],
        shape=shape,
    )
    return _Form((call,), tuple(stored))


def _float16(name: str, halves: Array, shape: Sequence[int]) -> _Form:
    stored = _tensor(f"{name}.halves", halves)
    call = _call("Float16", name, [stored], shape=shape)
    return _Form((call,), (stored,))


def _sparse(
    name: str,
    shape: Sequence[int],
    kept: Array,
    values: _Form,
    scale: Array | None,
) -> _Form:
    planes, powers = _planes(kept, 1)
    mask = _tensor(f"{name}.mask", planes)
    factor = _scale_tensor(name, scale)
    # Only its name counts: the values may be a node's output.
    inner = onnx.TensorProto(name=f"{name}.values")
    call = _call(
        "Sparse",
        name,
        [mask, inner, factor],
        powers=powers,
        count=[len(kept)],
        shape=shape,
    )
    return _Form((*values.nodes, call), (*values.tensors, mask, factor))


def _call(
    function: str,
    output: str,
    reads: Sequence[onnx.TensorProto],
    **attributes: Any,
) -> onnx.NodeProto:
    names = [tensor.name for tensor in reads]
    return onnx.helper.make_node(function, names, [output], domain=PACKED_DOMAIN, **attributes)


def _planes(codes: Array, bits: int) -> tuple[Array, list[float]]:
    """Return the codes' bits as uint8 [bits, count / 8], and what each bit is worth.

    The first code is the lowest bit of the first byte.
    """
    whole = codes.astype(np.uint32)
    planes = []
    powers = []
    for bit in range(bits):
        ones = (whole >> bit & 1).astype(np.uint8)
        planes.append(np.packbits(ones, bitorder="little"))
        powers.append(float(2**bit))
    return np.stack(planes), powers


def _tensor(name: str, values: Array) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)


def _scale_tensor(name: str, scale: Array | None) -> onnx.TensorProto:
    if scale is None:
        return _tensor(ONE, np.ones(1, dtype=np.float32))
    return _tensor(f"{name}.scale", scale)


def _scale(
    name: str,
    packing: Uniform,
    weight: Array,
    axis: int,
) -> Array:
    """Return the scale in a shape that is broadcast over the weight."""
    scale = np.asarray(packing.scale, dtype=np.float32)
    sound = np.all((scale > 0) & np.isfinite(scale))
    if not 1 <= packing.bits <= MOST_BITS or not sound:
        raise ExportError(
            f"{name!r} cannot be packed with {packing.bits} bits and a scale of {scale.min():g}.",
            f"Bits are 1 to {MOST_BITS}, scales above 0.",
        )
    if scale.size == 1:
        return scale.reshape(1)
    channels = weight.shape[axis]
    if scale.shape != (channels,):
        raise ExportError(
            f"{name!r} has {channels} output channels, and its scale is {list(scale.shape)}.",
            "Give one number, or one for each output channel.",
        )
    spread = [1] * weight.ndim
    spread[axis] = channels
    return scale.reshape(spread)


def _codes(
    name: str,
    weight: Array,
    packing: Uniform,
    scale: Array,
) -> Array:
    codes = np.rint(weight / scale).astype(np.int64)
    low = packing.lowest
    high = low + 2**packing.bits - 1
    within = np.clip(codes, low, high)
    # As the file will compute it, in float32.
    given = within.astype(np.float32) * scale
    _check_close(name, weight, given, f"{packing.bits} bits")
    return codes


def _halves(name: str, weight: Array) -> Array:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        halves = weight.astype(np.float16)
    _check_close(name, weight, halves.astype(np.float32), "half precision")
    return halves


def _indices(name: str, flat: Array, table: Array) -> Array:
    """Return the nearest entry of each weight, or of each group of weights."""
    from scipy.spatial import KDTree

    count, length = table.shape
    if not 1 <= count <= 2**MOST_BITS or flat.size % length:
        raise ExportError(
            f"{name!r} has {flat.size} weights, too many or few for {count} entries of {length}.",
            f"Entries are 1 to {2**MOST_BITS}, and their length divides the number of weights.",
        )
    groups = flat.reshape(-1, length)
    indices: Array
    _, indices = KDTree(table).query(groups)
    _check_close(name, groups, table[indices], f"{count} entries")
    return indices


def _check_close(
    name: str,
    weight: Array,
    given: Array,
    what: str,
) -> None:
    difference = float(np.max(np.abs(weight - given), initial=0.0))
    allowed = CLOSE * float(np.max(np.abs(weight), initial=0.0))
    if not difference <= allowed:  # also true for NaN
        raise ExportError(
            f"{name!r} differs by {difference:.2g} from what {what} can give (allowed:"
            f" {allowed:.2g}).",
            "Give the module its rounded weights before it is exported, as in `compress`.",
        )


def _output_axis(model: onnx.ModelProto, name: str, dimensions: int) -> int:
    """Return the axis of output channels: it depends on what reads the weight."""
    for node in model.graph.node:
        if name not in list(node.input)[1:]:
            continue
        if node.op_type == "ConvTranspose":
            return 1
        if node.op_type == "MatMul":
            return dimensions - 1
        if node.op_type == "Gemm":
            if any(entry.name == "transB" and entry.i for entry in node.attribute):
                return 0
            return 1
    return 0


def _declare(model: onnx.ModelProto) -> None:
    """Bring the functions that are called, and their domain, and take others of ours out."""
    called = {node.op_type for node in _packed_nodes(model)}
    for entries in (model.functions, model.opset_import):
        for entry in list(entries):
            if entry.domain == PACKED_DOMAIN:
                entries.remove(entry)
    if not called:
        return

    opset = onnx.helper.make_opsetid(PACKED_DOMAIN, 1)
    model.opset_import.append(opset)
    head = f'<opset_import: ["" : 18, "{PACKED_DOMAIN}" : 1], domain: "{PACKED_DOMAIN}">'
    # All others call it.
    if called != {"Float16"}:
        called.add("Codes")
    for name in sorted(called):
        function = onnx.parser.parse_function(head + FUNCTIONS[name])
        model.functions.append(function)


def _unpack(model: onnx.ModelProto, names: Collection[str] | None = None) -> None:
    """Store packed weights in float again: all, or those with these names."""
    wanted = []
    for name in _packed_weights(model):
        if names is None or name in names:
            wanted.append(name)
    if not wanted:
        return

    needed = set(wanted)
    chosen: list[onnx.NodeProto] = []
    for node in reversed(_packed_nodes(model)):  # what a node reads stands before it
        if node.output[0] in needed:
            chosen.insert(0, node)
            needed.update(node.input)

    values = _evaluate(model, chosen, wanted)
    for node in chosen:
        model.graph.node.remove(node)
    model.graph.initializer.extend(map(_tensor, wanted, values))
    drop_unread(model)
    _declare(model)


def _evaluate(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    names: Sequence[str],
) -> list[Array]:
    """Run these nodes with ONNX Runtime, as it does when it loads the file."""
    import onnxruntime

    read: set[str] = set()
    for node in nodes:
        read.update(node.input)
    stored = []
    for tensor in model.graph.initializer:
        if tensor.name in read:
            stored.append(tensor)
    outputs = []
    for name in names:
        output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        outputs.append(output)

    graph = onnx.helper.make_graph(list(nodes), "weights", [], outputs, stored)
    alone = onnx.helper.make_model(
        graph,
        functions=model.functions,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    content = alone.SerializeToString()
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    values: list[Array] = session.run(list(names), {})
    return values
