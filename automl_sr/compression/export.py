"""From a trained module to the ONNX file that is shipped.

The file is checked against the module on several input sizes.
The TorchScript exporter goes first: it takes 0.05 to 0.1 s where torch.export takes seconds. Where
it fails, or where tracing fixed a shape so that the file differs from the module on another size,
torch.export is used instead.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from automl_sr.compression.folding import fold_constants
from automl_sr.compression.onnx_file import (
    Exported,
    layer_nodes,
    layer_tensors,
    load_onnx,
    silenced,
)
from automl_sr.compression.quantize import activation_ranges, quantize_static
from automl_sr.errors import ExportError, first_line
from automl_sr.files import write_atomically

__all__ = [
    "Exported",
    "activation_ranges",
    "export_onnx",
    "layer_nodes",
    "layer_tensors",
    "load_onnx",
    "other_sizes",
    "quantize_static",
    "verify",
]

OPSET = 18  # the lowest that both exporters write; ONNX Runtime runs it since 1.14
TOLERANCE = 1e-4
DynamicAxes = Mapping[str, Mapping[int, str]]
Inputs = tuple[Tensor, ...]


def export_onnx(
    module: nn.Module,
    path: Path | str,
    example_inputs: Sequence[Tensor],
    input_names: Sequence[str] = ("input",),
    output_names: Sequence[str] = ("output",),
    dynamic_axes: DynamicAxes | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    check_inputs: Sequence[Sequence[Tensor]] = (),
    opset: int = OPSET,
) -> Exported:
    """Write `module` in evaluation mode as one ONNX file with these input, output and axis names.

    The file is compared with the module on the example, on a batch of two and on `check_inputs`;
    where none are given, on an example whose dynamic axes have other lengths. `metadata` goes into
    the file's `metadata_props`. Raises ExportError, with both exporters' reasons, if neither gives
    the module's output.
    """
    net = copy.deepcopy(module).to(device="cpu", dtype=torch.float32).eval()
    example = tuple(tensor.detach().cpu() for tensor in example_inputs)
    axes = dynamic_axes or {}
    checks = [example, *(tuple(inputs) for inputs in check_inputs)]
    if check_inputs:
        # They may all be single images, on which a batch size fixed by tracing would not show.
        checks.append(_doubled(example, input_names, axes))
    else:
        checks.append(other_sizes(example, input_names, axes))

    request = _Request(
        net=net,
        example=example,
        input_names=tuple(input_names),
        output_names=tuple(output_names),
        axes=axes,
        opset=opset,
    )
    properties = dict(metadata or {})
    target = Path(path)
    reasons = []
    for name, exporter in EXPORTERS.items():
        try:
            content = _with_metadata(_folded(exporter, request), properties)
            difference = _write_checked(content, target, net, checks)
        except Exception as error:  # noqa: BLE001 - exporters raise anything
            reasons.append(f"{name}: {type(error).__name__}: {first_line(error)}")
            continue
        return Exported(target, target.stat().st_size, name, properties, difference)
    raise ExportError(
        f"{type(module).__name__} cannot be exported to ONNX ({'; '.join(reasons)}).",
        "Operations without an ONNX form, or shapes computed as Python numbers, are the usual"
        " causes.",
    )


def verify(
    path: Path | str,
    module: nn.Module,
    inputs: Sequence[Tensor | Sequence[Tensor]],
    tolerance: float = TOLERANCE,
) -> float:
    """Return the largest difference between the file and the module on these inputs.

    It is relative to the output's range. The module runs on the CPU in evaluation mode and is left
    as it is. Raises ExportError above `tolerance`, and for a file that ONNX Runtime cannot run.
    """
    net = copy.deepcopy(module).to(device="cpu", dtype=torch.float32).eval()
    content = Path(path).read_bytes()
    checks = [_as_tuple(entry) for entry in inputs]
    try:
        return _compare(content, str(path), net, checks, tolerance)
    except ExportError:
        raise
    except Exception as error:  # ONNX Runtime has types of its own
        raise ExportError(f"{path} cannot be run: {first_line(error)}.") from error


def other_sizes(example: Inputs, names: Sequence[str], axes: DynamicAxes) -> Inputs:
    """Make inputs of other lengths along the dynamic axes.

    Batches are one longer, sides half as long again, to a multiple of 4. Axes with one name keep
    one length.
    """
    generator = torch.Generator().manual_seed(0)
    lengths: dict[str, int] = {}
    inputs = []
    for name, tensor in zip(names, example, strict=True):
        shape = list(tensor.shape)
        for axis, label in axes.get(name, {}).items():
            old = shape[axis]
            new = old + 1
            if axis != 0:
                new = (old + old // 2 + 4) // 4 * 4
            shape[axis] = lengths.setdefault(label, new)
        if tensor.is_floating_point():
            inputs.append(torch.rand(shape, generator=generator))
        else:
            # Zero is an index that every table has.
            inputs.append(torch.zeros(shape, dtype=tensor.dtype))
    return tuple(inputs)


def _doubled(example: Inputs, names: Sequence[str], axes: DynamicAxes) -> Inputs:
    """Make inputs of twice the batch size, where the batch is a dynamic axis."""
    inputs = []
    for name, tensor in zip(names, example, strict=True):
        if 0 in axes.get(name, {}):
            inputs.append(torch.cat([tensor, tensor]))
        else:
            inputs.append(tensor)
    return tuple(inputs)


@dataclass(frozen=True)
class _Request:
    net: nn.Module
    example: Inputs
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    axes: DynamicAxes
    opset: int


def _by_tracing(request: _Request) -> bytes:
    with tempfile.TemporaryDirectory(prefix="automl-sr-") as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            request.net,
            request.example,
            path,
            input_names=request.input_names,
            output_names=request.output_names,
            dynamic_axes={name: dict(axes) for name, axes in request.axes.items()},
            opset_version=request.opset,
            dynamo=False,
        )
        return path.read_bytes()


def _by_torch_export(request: _Request) -> bytes:
    shapes = []
    for name in request.input_names:
        axes = request.axes.get(name, {})
        shapes.append(dict.fromkeys(axes, torch.export.Dim.DYNAMIC))
    # torch.export writes a length of 1 into the file as a constant, whatever axis is said to be
    # dynamic.
    example = _doubled(request.example, request.input_names, request.axes)
    program = torch.onnx.export(
        request.net,
        example,
        input_names=request.input_names,
        output_names=request.output_names,
        dynamic_shapes=tuple(shapes),
        opset_version=request.opset,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise ExportError("torch.onnx.export gave no program.")

    model = program.model_proto
    for tensor in [*model.graph.input, *model.graph.output]:  # torch.export names axes s0, s1, ...
        dims = tensor.type.tensor_type.shape.dim
        for axis, label in request.axes.get(tensor.name, {}).items():
            dims[axis].dim_param = label
    return bytes(model.SerializeToString())


EXPORTERS: Mapping[str, Callable[[_Request], bytes]] = {
    "torchscript": _by_tracing,
    "torch.export": _by_torch_export,
}
"""In the order in which they are tried."""


def _folded(exporter: Callable[[_Request], bytes], request: _Request) -> bytes:
    """Run an exporter, and fold what its file works out from constants."""
    # Without its warnings, log lines and prints: their message, if any, is in what it raises.
    with silenced():
        content = exporter(request)
        return fold_constants(content, _tied(request.net))


def _tied(net: nn.Module) -> set[str]:
    """Name the parameters that are one tensor with another: all but the first of each."""
    every = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    first = {name for name, _ in net.named_parameters()}
    return every - first


def _with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def _write_checked(
    content: bytes,
    path: Path,
    net: nn.Module,
    checks: Sequence[Inputs],
) -> float:
    difference = _compare(content, path.name, net, checks, TOLERANCE)
    write_atomically(path, content)
    return difference


def _compare(
    content: bytes,
    name: str,
    net: nn.Module,
    checks: Sequence[Inputs],
    tolerance: float,
) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    worst = 0.0
    for inputs in checks:
        with torch.no_grad():
            wanted = net(*inputs)
        if not isinstance(wanted, tuple | list):
            wanted = (wanted,)
        feed = {}
        for key, tensor in zip(names, inputs, strict=True):
            feed[key] = tensor.numpy()

        for want, got in zip(wanted, session.run(None, feed), strict=True):
            difference = _relative_difference(want.numpy(), np.asarray(got))
            if not difference <= tolerance:  # also true for NaN
                raise ExportError(
                    f"{name} differs from the module by {difference:.2g} of the output range for an"
                    f" input of {_sizes(inputs)} (allowed: {tolerance:g})."
                )
            worst = max(worst, difference)
    return worst


def _sizes(inputs: Inputs) -> str:
    """Write the shapes of inputs for a sentence."""
    written = []
    for tensor in inputs:
        written.append("x".join(str(side) for side in tensor.shape))
    return ", ".join(written)


def _relative_difference(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    if wanted.shape != given.shape:
        return float("inf")
    if wanted.size == 0:
        return 0.0
    spread = float(wanted.max() - wanted.min()) or 1.0  # a flat output has no range
    difference = np.abs(wanted.astype(np.float64) - given)
    return float(np.max(difference)) / spread


def _as_tuple(entry: Tensor | Sequence[Tensor]) -> Inputs:
    if isinstance(entry, Tensor):
        return (entry,)
    return tuple(entry)
