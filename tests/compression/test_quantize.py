"""Static int8: a smaller file, integer convolutions in the session that runs, and an output close
to the float one.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nets import IMAGE_AXES, Attention, Espcn, Fsrcnn, seeded
from numpy.typing import NDArray
from photos import photo
from torch import nn

from automl_sr.compression.export import (
    Exported,
    activation_ranges,
    export_onnx,
    layer_nodes,
    layer_tensors,
    quantize_static,
)
from automl_sr.errors import ExportError
from automl_sr.evaluation.runtime import OnnxModel


def crops(channels: int = 1) -> list[NDArray[np.float32]]:
    image = photo(height=128, width=128).astype(np.float32) / 255
    image = image.mean(axis=2, keepdims=True) if channels == 1 else image
    batch = image.transpose(2, 0, 1)[None]
    return [
        batch[:, :, top : top + 40, left : left + 48] for top in (0, 40, 80) for left in (0, 40, 80)
    ]


def float_net(kind: type[nn.Module], folder: Path, channels: int = 1, **fields: int) -> Exported:
    example = (torch.rand(1, channels, 16, 18),)
    return export_onnx(
        seeded(kind, **fields),
        folder / "float.onnx",
        example,
        dynamic_axes=IMAGE_AXES,
        metadata={"scale": "2"},
    )


def operators_as_run(path: Path, folder: Path) -> Counter[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def psnr_to_float(exported: Exported, quantized: Exported, batch: NDArray[np.float32]) -> float:
    wanted, given = OnnxModel(exported.path)(batch), OnnxModel(quantized.path)(batch)
    return float(10 * np.log10(np.ptp(wanted) ** 2 / np.mean((wanted - given) ** 2)))


def test_convolutions_run_in_integers_and_the_file_shrinks_threefold(tmp_path: Path) -> None:
    exported = float_net(Espcn, tmp_path, width=32, depth=4)
    quantized = quantize_static(exported, crops(), tmp_path / "int8.onnx")
    assert quantized.size_bytes < exported.size_bytes / 2.9
    assert operators_as_run(quantized.path, tmp_path)["QLinearConv"] == 6
    assert psnr_to_float(exported, quantized, crops()[4]) > 35
    assert quantized.metadata == {"scale": "2", "quantization": "int8 minmax"}
    assert OnnxModel(quantized.path).metadata["quantization"] == "int8 minmax"


def test_only_operator_sets_that_nodes_use_are_imported(tmp_path: Path) -> None:
    """ONNX Runtime 1.16 refuses a file for one that it does not know."""
    quantized = quantize_static(float_net(Espcn, tmp_path), crops(), tmp_path / "int8.onnx")
    model = onnx.load(quantized.path)
    assert {entry.domain for entry in model.opset_import} == {
        node.domain for node in model.graph.node
    }


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_every_calibration_method_stays_close_to_float(method: str, tmp_path: Path) -> None:
    exported = float_net(Espcn, tmp_path)
    quantized = quantize_static(exported, crops(), tmp_path / "int8.onnx", method=method)  # type: ignore[arg-type]
    assert psnr_to_float(exported, quantized, crops()[0]) > 30


def test_excluded_layers_stay_in_float(tmp_path: Path) -> None:
    exported = float_net(Espcn, tmp_path)
    names = [name for name, _ in layer_nodes(exported.path)]
    kept = quantize_static(exported, crops(), tmp_path / "kept.onnx", exclude=[names[0], names[-1]])
    assert operators_as_run(kept.path, tmp_path)["QLinearConv"] == len(names) - 2
    everything = quantize_static(exported, crops(), tmp_path / "all.onnx")
    assert psnr_to_float(exported, kept, crops()[4]) > psnr_to_float(
        exported, everything, crops()[4]
    )


def test_a_transposed_convolution_is_quantized_per_output_channel(tmp_path: Path) -> None:
    net = seeded(Fsrcnn)
    with (
        torch.no_grad()
    ):  # channels of very different size: one scale for all would lose the small ones
        net.body[4].weight *= torch.tensor([1.0, 0.1, 0.01])[None, :, None, None]
    example = (torch.rand(1, 3, 16, 18),)
    exported = export_onnx(net, tmp_path / "float.onnx", example, dynamic_axes=IMAGE_AXES)
    weight = layer_tensors(exported.path)[-1].weight
    quantized = quantize_static(exported, crops(3), tmp_path / "int8.onnx")
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(quantized.path).graph.initializer
    }
    restored = stored[f"{weight}_quantized"] * stored[f"{weight}_scale"][None, :, None, None]
    wanted = net.body[4].weight.detach().numpy()
    assert np.all(np.abs(restored - wanted).max((0, 2, 3)) <= np.abs(wanted).max((0, 2, 3)) / 127)


def test_a_grouped_transposed_convolution_stays_in_float(tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, 2, 1, groups=2)
    ).eval()
    exported = export_onnx(
        net, tmp_path / "float.onnx", (torch.rand(1, 1, 9, 9),), dynamic_axes=IMAGE_AXES
    )
    quantized = quantize_static(exported, crops(), tmp_path / "int8.onnx")
    assert psnr_to_float(exported, quantized, crops()[1]) > 30


def test_learned_ranges_replace_the_calibrated_ones(tmp_path: Path) -> None:
    exported = float_net(Espcn, tmp_path)
    layer = layer_tensors(exported.path)[0]
    scales = [{"axis": 0, "scale": 0.01 * (channel + 1), "zero_point": 0} for channel in range(8)]
    quantized = quantize_static(
        exported,
        crops(),
        tmp_path / "int8.onnx",
        overrides={layer.output: {"rmin": 0.0, "rmax": 0.51}, layer.weight: scales},
    )
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(quantized.path).graph.initializer
    }
    assert stored[f"{layer.output}_scale"] == pytest.approx(0.51 / 255)
    assert stored[f"{layer.weight}_scale"] == pytest.approx(0.01 * np.arange(1, 9))


class Blocks(nn.Module):
    """Residual blocks with a long skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.ups = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.downs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.last = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = features = self.first(x)
        for up, down in zip(self.ups, self.downs, strict=True):
            features = features + 0.3 * down(up(features).relu())
        return self.last(features + start)


def rms(exported: Exported, quantized: Exported) -> float:
    images = np.stack([crop[0] for crop in crops()])
    difference = OnnxModel(exported.path)(images) - OnnxModel(quantized.path)(images)
    return float(np.sqrt(np.mean(np.square(difference))))


def test_skips_in_float_are_closer_and_leave_convolutions_in_integers(tmp_path: Path) -> None:
    exported = float_net(Blocks, tmp_path)
    names = [name for name, _ in layer_nodes(exported.path)]
    ends = [names[0], names[-1]]
    rounded = quantize_static(exported, crops(), tmp_path / "int8.onnx", exclude=ends)
    kept = quantize_static(exported, crops(), tmp_path / "skips.onnx", exclude=ends, skips="float")
    assert rms(exported, kept) < 0.9 * rms(exported, rounded)
    found = [operators_as_run(file.path, tmp_path) for file in (rounded, kept)]
    assert [operators["QLinearConv"] for operators in found] == [8, 8]
    assert found[0]["QLinearAdd"] > found[1]["QLinearAdd"] == 0
    assert kept.size_bytes <= rounded.size_bytes


def test_ranges_are_those_that_quantizing_finds(tmp_path: Path) -> None:
    exported = float_net(Espcn, tmp_path)
    ranges = activation_ranges(exported, crops())
    given = quantize_static(
        exported,
        crops()[:1],
        tmp_path / "given.onnx",
        overrides={name: {"rmin": low, "rmax": high} for name, (low, high) in ranges.items()},
    )
    found = quantize_static(exported, crops(), tmp_path / "found.onnx")
    assert np.array_equal(OnnxModel(given.path)(crops()[3]), OnnxModel(found.path)(crops()[3]))
    layers = layer_tensors(exported.path)
    assert set(ranges) >= {name for layer in layers for name in (layer.input, layer.output)}
    lowest, highest = ranges["input"]
    assert lowest == pytest.approx(min(crop.min() for crop in crops()))
    assert highest == pytest.approx(max(crop.max() for crop in crops()))


def test_a_percentile_narrows_ranges(tmp_path: Path) -> None:
    exported = float_net(Espcn, tmp_path)
    whole = activation_ranges(exported, crops())
    inner = activation_ranges(exported, crops(), "percentile", percentile=95.0)
    layer = layer_tensors(exported.path)[0].output
    assert inner[layer][1] < 0.9 * whole[layer][1]
    with pytest.raises(ExportError, match="calibration data"):
        activation_ranges(exported, [])


def test_an_older_runtime_can_load_the_file(tmp_path: Path) -> None:
    """ONNX Runtime 1.16 knows operators up to 19 and files up to IR 9, and refuses what it does not
    know.
    """
    model = onnx.load(
        quantize_static(float_net(Blocks, tmp_path), crops(), tmp_path / "int8.onnx").path
    )
    assert [(entry.domain, entry.version <= 19) for entry in model.opset_import] == [("", True)]
    assert model.ir_version <= 9


def test_attention_and_odd_shapes_survive(tmp_path: Path) -> None:
    exported = float_net(Attention, tmp_path)
    quantized = quantize_static(exported, crops(), tmp_path / "int8.onnx")
    batch = crops()[0][:, :, :19, :21]
    assert OnnxModel(quantized.path)(batch).shape == (1, 1, 38, 42)


def test_quantizing_is_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    quantize_static(float_net(Espcn, tmp_path), crops(), tmp_path / "int8.onnx")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_unknown_nodes_and_tensors_and_missing_data_are_refused(tmp_path: Path) -> None:
    exported = float_net(Espcn, tmp_path)
    target = tmp_path / "int8.onnx"
    first = layer_nodes(exported.path)[0][0]
    with pytest.raises(
        ExportError, match=rf"no node '{first}x' to leave unquantized.*Did you mean '{first}'"
    ):
        quantize_static(exported, crops(), target, exclude=[f"{first}x"])
    with pytest.raises(ExportError, match=r"'nowhere'.*not present"):
        quantize_static(
            exported, crops(), target, overrides={"nowhere": {"rmin": 0.0, "rmax": 1.0}}
        )
    with pytest.raises(ExportError, match="calibration data"):
        quantize_static(exported, [], target)
    with pytest.raises(ExportError, match="cannot be quantized"):
        quantize_static(exported, [np.zeros((1, 2, 8, 8), np.float32)], target)
    assert not target.exists()
