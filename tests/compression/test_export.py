"""The exported file is the model: same output on several sizes, one file, and a clear refusal where
it is not.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from nets import IMAGE_AXES, Attention, Espcn, Fsrcnn, Recurrent, seeded
from torch import Tensor, nn

from automl_sr.compression import export
from automl_sr.compression.export import export_onnx, layer_nodes, layer_tensors, verify
from automl_sr.errors import ExportError
from automl_sr.evaluation.runtime import OnnxModel

EXAMPLE = (torch.rand(1, 1, 18, 26),)


@pytest.mark.parametrize("kind", [Espcn, Recurrent, Attention])
def test_exported_net_gives_the_same_output_on_other_sizes(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    net = seeded(kind)
    exported = export_onnx(net, tmp_path / "model.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES)
    assert exported.made_by == "torchscript"
    assert verify(exported.path, net, [torch.rand(1, 1, 33, 17), torch.rand(3, 1, 16, 40)]) < 1e-5


def test_file_has_the_names_of_the_field_dynamic_axes_and_metadata(tmp_path: Path) -> None:
    metadata = {"scale": "2", "color": "y"}
    exported = export_onnx(
        seeded(Espcn), tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES, metadata=metadata
    )
    model = onnx.load(exported.path)
    assert [tensor.name for tensor in (*model.graph.input, *model.graph.output)] == [
        "input",
        "output",
    ]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 1, "height", "width"]
    assert (
        {entry.key: entry.value for entry in model.metadata_props} == metadata == exported.metadata
    )
    assert model.opset_import[0].version >= 17
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert exported.size_bytes == exported.path.stat().st_size


class Padded(nn.Module):
    """Pads as the skips of reference nets do: exporters write a dozen nodes for it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"))


def test_what_does_not_depend_on_the_input_is_computed_already(tmp_path: Path) -> None:
    exported = export_onnx(seeded(Padded), tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES)
    model = onnx.load(exported.path)
    assert [node.op_type for node in model.graph.node] == ["Pad", "Conv"]
    assert "conv.weight" in {tensor.name for tensor in model.graph.initializer}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", export.OPSET)]


class NoOnnxForm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).abs()


class SizeAsNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=3, keepdim=True) / torch.tensor(float(int(x.shape[3])))


@pytest.mark.ci
def test_torch_export_takes_over_where_tracing_fixed_a_size(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    net = SizeAsNumber()
    exported = export_onnx(net, tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES)
    assert exported.made_by == "torch.export"
    assert verify(exported.path, net, [torch.rand(2, 1, 9, 50)]) < 1e-5


class BatchAsNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / torch.tensor(float(int(x.shape[0])))


def test_a_batch_size_fixed_by_tracing_is_found_although_all_given_inputs_are_single(
    tmp_path: Path,
) -> None:
    singles = [(torch.rand(1, 1, 9, 8),), (torch.rand(1, 1, 7, 12),)]
    net = BatchAsNumber()
    exported = export_onnx(
        net, tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES, check_inputs=singles
    )
    assert exported.made_by == "torch.export"
    assert verify(exported.path, net, [torch.rand(3, 1, 9, 8)]) < 1e-5


def test_a_net_that_neither_exporter_can_write_is_refused_with_both_reasons(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"NoOnnxForm cannot be exported.*torchscript:.*torch.export:"
    ):
        export_onnx(NoOnnxForm(), tmp_path / "m.onnx", (torch.rand(1, 4, 4),))
    assert list(tmp_path.iterdir()) == []


def test_verify_names_the_difference_of_another_net(tmp_path: Path) -> None:
    exported = export_onnx(seeded(Espcn), tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES)
    other = Espcn().eval()
    with pytest.raises(
        ExportError,
        match=r"m\.onnx differs from the module by 0?\.?\d.*1x1x18x26 \(allowed: 0\.0001\)",
    ):
        verify(exported.path, other, [EXAMPLE[0]])


def test_a_net_that_gives_nan_is_refused(tmp_path: Path) -> None:
    net = seeded(Espcn)
    with torch.no_grad():
        net.body[0].bias.fill_(float("nan"))
    with pytest.raises(ExportError, match="differs from the module by nan"):
        export_onnx(net, tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES)


def test_exporting_is_silent_and_leaves_the_net_in_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    net = Espcn().train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(net, tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES)
    assert net.training
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_an_existing_file_survives_a_failed_export(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ExportError):
        export_onnx(NoOnnxForm(), path, (torch.rand(1, 4, 4),))
    assert path.read_bytes() == b"before"


def test_batch_normalisation_in_training_mode_is_exported_as_in_evaluation(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)).train()
    net(torch.rand(4, 1, 8, 8))
    exported = export_onnx(net, tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES)
    with torch.no_grad():
        wanted = net.eval()(EXAMPLE[0]).numpy()
    assert np.allclose(OnnxModel(exported.path)(EXAMPLE[0].numpy()), wanted, atol=1e-5)


def test_layers_are_listed_in_order_with_the_names_of_the_modules(tmp_path: Path) -> None:
    net = seeded(Fsrcnn)
    path = export_onnx(
        net, tmp_path / "m.onnx", (torch.rand(1, 3, 8, 9),), dynamic_axes=IMAGE_AXES
    ).path
    assert [operator for _, operator in layer_nodes(path)] == ["Conv", "Conv", "ConvTranspose"]
    assert [layer.weight for layer in layer_tensors(path)] == [
        "body.0.weight",
        "body.2.weight",
        "body.4.weight",
    ]
    assert [layer.node for layer in layer_tensors(path)] == [name for name, _ in layer_nodes(path)]
    assert layer_tensors(path)[0].input == "input"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\xff\xff no model")
    with pytest.raises(ExportError, match=r"m\.onnx cannot be read as ONNX"):
        export.load_onnx(path)


class Tied(nn.Module):
    """A border, and two convolutions with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 3, padding=1)
        self.second = nn.Conv2d(1, 1, 3, padding=1)
        self.second.weight = self.first.weight
        for layer in (self.first, self.second):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")))


def test_what_depends_on_constants_alone_is_folded(tmp_path: Path) -> None:
    path = export_onnx(Tied(), tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES).path
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node] == ["Pad", "Conv", "Conv"]
    assert not graph.value_info


def test_equal_tensors_keep_the_names_of_their_parameters_and_tied_ones_are_stored_once(
    tmp_path: Path,
) -> None:
    path = export_onnx(Tied(), tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES).path
    stored = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert {"first.weight", "first.bias", "second.bias"} <= stored
    assert "second.weight" not in stored


def test_a_large_constant_is_not_written_out(tmp_path: Path) -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.full((512, 1024), 0.5).mean()

    assert (
        export_onnx(Large(), tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES).size_bytes
        < 2000
    )


@pytest.mark.ci
def test_a_file_of_torch_export_holds_no_stack_traces(tmp_path: Path) -> None:
    exported = export_onnx(SizeAsNumber(), tmp_path / "m.onnx", EXAMPLE, dynamic_axes=IMAGE_AXES)
    model = onnx.load(exported.path)
    assert exported.made_by == "torch.export"
    assert b"Traceback" not in exported.path.read_bytes()
    assert b"test_export.py" not in exported.path.read_bytes()
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
