"""What became of each layer is read off the models and the file: no technique is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from automl_sr.compression.export import export_onnx
from automl_sr.compression.packing import Uniform, pack_weights
from automl_sr.evaluation.layer_table import layer_table
from automl_sr.testing.tiny import tiny_task

TASK = tiny_task()


class Net(nn.Module):
    """Head, body and tail; the body has so many channels, or is cut into two layers."""

    def __init__(self, width: int = 8, *, cut: bool = False) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, width, 3, padding=1)
        self.act = nn.PReLU(width)
        self.body: nn.Module = nn.Conv2d(width, 8, 3, padding=1)
        if cut:
            self.body = nn.Sequential(
                nn.Conv2d(width, 2, 3, padding=1, bias=False), nn.Conv2d(2, 8, 1)
            )
        self.tail = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(self.act(self.head(x)))
        return nn.functional.pixel_shuffle(self.tail(features), 2)


def table(after: nn.Module, folder: Path, bits: dict[str, int] | None = None) -> dict[str, Any]:
    path = folder / "model.onnx"
    export_onnx(after.eval(), path, (TASK.examples(after)[0],))
    packings = {name: Uniform(bits=count, scale=0.01) for name, count in (bits or {}).items()}
    if packings:
        pack_weights(path, path, packings)
    return layer_table(Net(), after, TASK, path)


def by_name(found: dict[str, Any], *keys: str) -> dict[str, tuple[Any, ...]]:
    return {row["name"]: tuple(row[key] for key in keys) for row in found["layers"]}


def test_a_model_that_nothing_was_done_to_is_as_it_was(tmp_path: Path) -> None:
    found = table(Net(), tmp_path)
    assert by_name(found, "kind", "parameters_before", "parameters", "zeros", "bits") == {
        "head": ("convolution", 80, 80, 0, 32.0),
        "body": ("convolution", 584, 584, 0, 32.0),
        "tail": ("convolution", 292, 292, 0, 32.0),
    }
    assert found["other"] == {"parameters_before": 8, "parameters": 8}


def test_channels_that_are_cut_are_gone_and_weights_that_are_masked_are_zero(
    tmp_path: Path,
) -> None:
    net = Net(width=4)
    with torch.no_grad():
        net.tail.weight[:2] = 0
    found = table(net, tmp_path)
    assert by_name(found, "parameters_before", "parameters", "zeros", "sparsity") == {
        "head": (80, 40, 0, 0.0),
        "body": (584, 296, 0, 0.0),
        "tail": (292, 292, 144, 0.5),
    }
    assert found["other"] == {"parameters_before": 8, "parameters": 4}


def test_a_layer_that_was_cut_into_two_is_one_row(tmp_path: Path) -> None:
    found = table(Net(cut=True), tmp_path)
    assert by_name(found, "parameters_before", "parameters", "weights", "bits")["body"] == (
        584,
        144 + 24,
        144 + 16,
        32.0,
    )


def test_bits_are_those_of_the_file(tmp_path: Path) -> None:
    net = Net()
    with torch.no_grad():
        net.body.weight.copy_((net.body.weight * 100).round().clamp(-8, 7) / 100)  # type: ignore[operator]
    found = table(net, tmp_path, {"body.weight": 4})
    assert {name: bits for name, (bits,) in by_name(found, "bits").items()} == {
        "head": 32.0,
        "body": 4.0,
        "tail": 32.0,
    }
    [size] = [row["bytes"] for row in found["layers"] if row["name"] == "body"]
    assert size < 576 * 4 / 8 + 64
