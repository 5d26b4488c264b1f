"""From a trained module to the ONNX file that is shipped, checked against the module on several
input sizes.

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
    # Given inputs may all be single images, on which a batch size fixed by tracing would not show.
    checks.append(
        _doubled(example, input_names, axes)
        if check_inputs
        else other_sizes(example, input_names, axes)
    )
    request = _Request(net, example, tuple(input_names), tuple(output_names), axes, opset)
    reasons = []
    for name, exporter in (("torchscript", _by_tracing), ("torch.export", _by_torch_export)):
        try:
            content = _with_metadata(_quietly(_folded(exporter), request), metadata or {})
            difference = _write_checked(content, Path(path), net, checks)
        except Exception as error:  # noqa: BLE001 - exporters raise anything; every reason is reported below
            reasons.append(f"{name}: {type(error).__name__}: {first_line(error)}")
            continue
        return Exported(
            Path(path), Path(path).stat().st_size, name, dict(metadata or {}), difference
        )
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
    """Return the largest difference between the file and the module on these inputs, relative to
    the output's range.

    The module runs on the CPU in evaluation mode and is left as it is. Raises ExportError above
    `tolerance`, and for a file that ONNX Runtime cannot run.
    """
    net = copy.deepcopy(module).to(device="cpu", dtype=torch.float32).eval()
    content = Path(path).read_bytes()
    try:
        return _compare(content, str(path), net, [_as_tuple(entry) for entry in inputs], tolerance)
    except ExportError:
        raise
    except Exception as error:  # ONNX Runtime has types of its own
        raise ExportError(f"{path} cannot be run: {first_line(error)}.") from error


def other_sizes(example: Inputs, names: Sequence[str], axes: DynamicAxes) -> Inputs:
    """Make inputs of other lengths along the dynamic axes: batches one longer, sides half as long
    again, to a multiple of 4. Axes with one name keep one length."""
    generator = torch.Generator().manual_seed(0)
    lengths: dict[str, int] = {}
    made = []
    for name, tensor in zip(names, example, strict=True):
        shape = list(tensor.shape)
        for axis, label in axes.get(name, {}).items():
            old = shape[axis]
            if axis == 0:
                new = old + 1
            else:
                new = (old + old // 2 + 4) // 4 * 4
            shape[axis] = lengths.setdefault(label, new)
        floating = tensor.is_floating_point()
        made.append(
            torch.rand(shape, generator=generator)
            if floating
            else torch.zeros(shape, dtype=tensor.dtype)
        )
    return tuple(made)


def _doubled(example: Inputs, names: Sequence[str], axes: DynamicAxes) -> Inputs:
    pairs = zip(names, example, strict=True)
    return tuple(
        torch.cat([tensor, tensor]) if 0 in axes.get(name, {}) else tensor for name, tensor in pairs
    )


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
    shapes = tuple(
        dict.fromkeys(request.axes.get(name, {}), torch.export.Dim.DYNAMIC)
        for name in request.input_names
    )
    # torch.export writes a length of 1 into the file as a constant, whatever axis is said to be
    # dynamic.
    example = _doubled(request.example, request.input_names, request.axes)
    program = torch.onnx.export(
        request.net,
        example,
        input_names=request.input_names,
        output_names=request.output_names,
        dynamic_shapes=shapes,
        opset_version=request.opset,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise ExportError("torch.onnx.export gave no program.")
    model = program.model_proto
    for tensor in [*model.graph.input, *model.graph.output]:  # torch.export names axes s0, s1, ...
        for axis, label in request.axes.get(tensor.name, {}).items():
            tensor.type.tensor_type.shape.dim[axis].dim_param = label
    return bytes(model.SerializeToString())


def _quietly(exporter: Callable[[_Request], bytes], request: _Request) -> bytes:
    """Run an exporter without its warnings, log lines and prints: their message, if any, is in what
    it raises.
    """
    with silenced():
        return exporter(request)


def _folded(exporter: Callable[[_Request], bytes]) -> Callable[[_Request], bytes]:
    def export_and_fold(request: _Request) -> bytes:
        return fold_constants(exporter(request), _tied(request.net))

    return export_and_fold


def _tied(net: nn.Module) -> set[str]:
    """Name the parameters that are one tensor with another: all but the first of each."""
    every = set()
    for name, _ in net.named_parameters(remove_duplicate=False):
        every.add(name)
    return every - {name for name, _ in net.named_parameters()}


def _with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def _write_checked(content: bytes, path: Path, net: nn.Module, checks: Sequence[Inputs]) -> float:
    difference = _compare(content, path.name, net, checks, TOLERANCE)
    write_atomically(path, content)
    return difference


def _compare(
    content: bytes, name: str, net: nn.Module, checks: Sequence[Inputs], tolerance: float
) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feeds = []
    for entry in session.get_inputs():
        feeds.append(entry.name)
    worst = 0.0
    for inputs in checks:
        with torch.no_grad():
            expected = net(*inputs)
        if isinstance(expected, tuple | list):
            wanted = expected
        else:
            wanted = (expected,)
        given = session.run(
            None, {feed: tensor.numpy() for feed, tensor in zip(feeds, inputs, strict=True)}
        )
        for want, got in zip(wanted, given, strict=True):
            difference = _relative_difference(want.numpy(), np.asarray(got))
            if not difference <= tolerance:  # also true for NaN
                shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in inputs)
                raise ExportError(
                    f"{name} differs from the module by {difference:.2g} of the output range for an"
                    f" input of {shapes} (allowed: {tolerance:g})."
                )
            worst = max(worst, difference)
    return worst


def _relative_difference(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    if wanted.shape != given.shape:
        return float("inf")
    if wanted.size == 0:
        return 0.0
    spread = float(wanted.max() - wanted.min()) or 1.0
    return float(np.max(np.abs(wanted.astype(np.float64) - given))) / spread


def _as_tuple(entry: Tensor | Sequence[Tensor]) -> Inputs:
    if isinstance(entry, Tensor):
        return (entry,)
    return tuple(entry)
