"""How weights are stored is read off the file, whatever wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from automl_sr.compression.export import export_onnx
from automl_sr.compression.packing import (
    Codebook,
    Float16,
    Packing,
    Sparse,
    Uniform,
    pack_weights,
)
from automl_sr.compression.quantize import quantize_static
from automl_sr.compression.stored_weights import is_plain_float, stored_weights

CHANNELS = 24
NAME = "body.weight"
IMAGE = torch.rand(1, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """One convolution whose weights are multiples of 1/4, most of them zero."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        numbers = torch.Generator().manual_seed(0)
        codes = torch.randint(-2, 2, self.body.weight.shape, generator=numbers)
        kept = torch.rand(self.body.weight.shape, generator=numbers) < 0.1
        with torch.no_grad():
            self.body.weight.copy_(codes * kept / 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "model.onnx"
    torch.manual_seed(0)
    export_onnx(Net().eval(), path, (IMAGE,))
    return path


COUNT = CHANNELS * CHANNELS * 9


def test_a_plain_file_has_32_bits(plain: Path) -> None:
    [found] = stored_weights(plain)
    assert (found.tensors.weight, found.bits, found.bytes) == (NAME, 32.0, 4 * COUNT)
    assert is_plain_float(plain)


@pytest.mark.parametrize(
    ("packing", "bits", "most"),
    [
        (Uniform(bits=2, scale=0.25), 2, COUNT * 2 // 8 + 64),
        (Codebook([-0.5, -0.25, 0.0, 0.25]), 2, COUNT * 2 // 8 + 64),
        (Sparse(), 32, COUNT // 8 + COUNT),
        (Float16(), 16, 2 * COUNT + 64),
    ],
    ids=["uniform", "codebook", "sparse", "float16"],
)
def test_packed_weights_have_the_bits_of_their_codes(
    packing: Packing, bits: float, most: int, plain: Path, tmp_path: Path
) -> None:
    """Zeros that are left out count for the bytes alone."""
    pack_weights(plain, tmp_path / "packed.onnx", {NAME: packing})
    [found] = stored_weights(tmp_path / "packed.onnx")
    assert (found.tensors.weight, found.bits) == (NAME, bits)
    assert COUNT // 16 < found.bytes < most
    assert not is_plain_float(tmp_path / "packed.onnx")


def test_a_codebook_of_vectors_shares_its_bits_between_weights(plain: Path, tmp_path: Path) -> None:
    model = onnx.load(plain)
    [stored] = [tensor for tensor in model.graph.initializer if tensor.name == NAME]
    pairs = np.array([[0, 0], [0.25, -0.25]], dtype=np.float32)
    chosen = pairs[np.arange(COUNT // 2) % 2].reshape(tuple(stored.dims))
    stored.CopyFrom(numpy_helper.from_array(chosen, NAME))
    onnx.save(model, tmp_path / "pairs.onnx")
    pack_weights(tmp_path / "pairs.onnx", tmp_path / "packed.onnx", {NAME: Codebook(pairs)})
    [found] = stored_weights(tmp_path / "packed.onnx")
    assert found.bits == 0.5


def test_an_int8_file_has_8_bits_and_keeps_the_name(plain: Path, tmp_path: Path) -> None:
    quantize_static(plain, [IMAGE.numpy()], tmp_path / "int8.onnx")
    [found] = stored_weights(tmp_path / "int8.onnx")
    assert (found.tensors.weight, found.bits) == (NAME, 8.0)
    assert found.bytes == pytest.approx(COUNT, rel=0.05)


def test_half_precision_has_16_bits_also_behind_a_cast(plain: Path, tmp_path: Path) -> None:
    model = onnx.load(plain)
    [stored] = [tensor for tensor in model.graph.initializer if tensor.name == NAME]
    half = numpy_helper.to_array(stored).astype(np.float16)
    stored.CopyFrom(numpy_helper.from_array(half, "half"))
    cast = onnx.helper.make_node("Cast", ["half"], [NAME], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    onnx.save(model, tmp_path / "half.onnx")
    [found] = stored_weights(tmp_path / "half.onnx")
    assert (found.bits, found.bytes) == (16.0, 2 * COUNT)
    assert not is_plain_float(tmp_path / "half.onnx")


def test_a_product_of_two_maps_has_no_weight(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.transpose(-1, -2)

    export_onnx(Attention(), tmp_path / "model.onnx", (IMAGE,))
    assert stored_weights(tmp_path / "model.onnx") == []
