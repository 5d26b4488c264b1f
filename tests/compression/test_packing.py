"""Packed weights: a smaller file with the same output, decoded when it is loaded, and refused where
they do not fit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import IMAGE_AXES, Espcn, Fsrcnn, seeded
from numpy.typing import NDArray
from torch import nn

from automl_sr.compression.export import (
    Exported,
    export_onnx,
    layer_tensors,
    quantize_static,
    verify,
)
from automl_sr.compression.onnx_file import graph_digest
from automl_sr.compression.packing import (
    MOST_BITS,
    Codebook,
    Float16,
    Packing,
    Sparse,
    Uniform,
    is_packed,
    pack_weights,
    unpack_weights,
)
from automl_sr.errors import ExportError
from automl_sr.evaluation.runtime import OnnxModel

Array = NDArray[np.float32]
ENTRIES = np.linspace(-0.2, 0.2, 16, dtype=np.float32)
PAIRS = np.stack(np.meshgrid(ENTRIES[::4], ENTRIES[::5]), -1).reshape(-1, 2).astype(np.float32)


def on_a_grid(weight: Array, bits: int, axis: int = 0) -> tuple[Array, Packing]:
    others = tuple(place for place in range(weight.ndim) if place != axis)
    top = 2 ** (bits - 1) - 1
    scale = (np.abs(weight).max(axis=others) / top).astype(np.float32)
    scale[scale == 0] = 1
    shaped = scale.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])
    return np.rint(weight / shaped).astype(np.float32) * shaped, Uniform(bits, scale)


def nearest_entries(weight: Array, entries: Array) -> Array:
    groups = weight.reshape(-1, 1, entries.shape[1] if entries.ndim > 1 else 1)
    table = entries.reshape(len(entries), -1)
    return table[np.square(groups - table).sum(-1).argmin(-1)].reshape(weight.shape)


def mostly_zero(weight: Array, share: float = 0.9) -> Array:
    return np.where(np.abs(weight) < np.quantile(np.abs(weight), share), 0, weight).astype(
        np.float32
    )


def four_bits(weight: Array) -> tuple[Array, Packing]:
    return on_a_grid(weight, 4)


def three_bits_and_zeros(weight: Array) -> tuple[Array, Packing]:
    return on_a_grid(mostly_zero(weight), 3)


def codebook(weight: Array) -> tuple[Array, Packing]:
    return nearest_entries(weight, ENTRIES), Codebook(ENTRIES)


def codebook_of_pairs(weight: Array) -> tuple[Array, Packing]:
    return nearest_entries(weight, PAIRS), Codebook(PAIRS)


def codebook_and_zeros(weight: Array) -> tuple[Array, Packing]:
    entries = np.append(ENTRIES, np.float32(0))
    return mostly_zero(nearest_entries(weight, ENTRIES)), Codebook(entries)


def sparse(weight: Array) -> tuple[Array, Packing]:
    return mostly_zero(weight), Sparse()


def halves(weight: Array) -> tuple[Array, Packing]:
    return weight.astype(np.float16).astype(np.float32), Float16()


def halves_and_zeros(weight: Array) -> tuple[Array, Packing]:
    return halves(mostly_zero(weight))


FORMS = [
    four_bits,
    three_bits_and_zeros,
    codebook,
    codebook_of_pairs,
    codebook_and_zeros,
    sparse,
    halves,
    halves_and_zeros,
]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)


def changed(net: nn.Module, form: object) -> dict[str, Packing]:
    """Give convolutions values that a packing can give, in the module itself."""
    packings = {}
    for name, value in net.named_parameters():
        if value.dim() == 4:
            weight, packings[name] = form(value.detach().numpy())  # type: ignore[operator]
            with torch.no_grad():
                value.copy_(torch.from_numpy(weight))
    return packings


def exported(net: nn.Module, folder: Path, channels: int = 1) -> Exported:
    example = (torch.rand(1, channels, 16, 18),)
    return export_onnx(
        net, folder / "float.onnx", example, dynamic_axes=IMAGE_AXES, metadata={"scale": "2"}
    )


@forms
def test_a_packed_file_is_smaller_and_gives_the_same_images(form: object, tmp_path: Path) -> None:
    net = seeded(Espcn, width=32, depth=4)
    packings = changed(net, form)
    plain = exported(net, tmp_path)
    packed = pack_weights(plain, tmp_path / "packed.onnx", packings)
    assert is_packed(packed.path)
    share = {halves: 0.55}.get(form, 1 / 3)  # type: ignore[call-overload]
    assert packed.size_bytes == packed.path.stat().st_size < plain.size_bytes * share
    assert verify(packed.path, net, [torch.rand(2, 1, 9, 14)]) < 1e-5
    batch = np.random.default_rng(0).random((1, 1, 20, 16), dtype=np.float32)
    assert np.array_equal(OnnxModel(packed.path)(batch), OnnxModel(plain.path)(batch))
    assert OnnxModel(packed.path).metadata == {"scale": "2", "packed_weights": "6"}


@forms
def test_weights_are_decoded_when_the_file_is_loaded_and_not_at_each_run(
    form: object, tmp_path: Path
) -> None:
    net = seeded(Espcn, width=32)
    packings = changed(net, form)
    packed = pack_weights(exported(net, tmp_path), tmp_path / "packed.onnx", packings)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as run.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(packed.path, options, providers=["CPUExecutionProvider"])
    left = {node.op_type for node in onnx.load(tmp_path / "as run.onnx").graph.node}
    assert left.isdisjoint(
        {
            "BitShift",
            "BitwiseAnd",
            "MatMul",
            "Gather",
            "CumSum",
            "Cast",
            "Uniform",
            "Float16",
            "Sparse",
        }
    )


@forms
def test_it_is_unpacked_to_the_file_that_it_was_made_of(form: object, tmp_path: Path) -> None:
    net = seeded(Espcn, width=32)
    packings = changed(net, form)
    plain = exported(net, tmp_path)
    packed = pack_weights(plain, tmp_path / "packed.onnx", packings)
    unpacked = unpack_weights(packed, tmp_path / "unpacked.onnx")
    models = [onnx.load(file.path) for file in (plain, unpacked)]
    weights = [
        {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer} for model in models
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert list(models[0].graph.node) == list(models[1].graph.node)
    assert not models[1].functions
    assert [entry.domain for entry in models[1].opset_import] == [""]
    assert unpacked.metadata == {"scale": "2"}


@forms
def test_its_layers_and_its_time_are_those_of_the_plain_file(form: object, tmp_path: Path) -> None:
    net = seeded(Espcn, width=32)
    packings = changed(net, form)
    plain = exported(net, tmp_path)
    packed = pack_weights(plain, tmp_path / "packed.onnx", packings)
    assert layer_tensors(packed.path) == layer_tensors(plain.path)
    assert graph_digest(packed.path) == graph_digest(plain.path)
    other = export_onnx(
        Espcn(width=24),
        tmp_path / "other.onnx",
        (torch.rand(1, 1, 16, 18),),
        dynamic_axes=IMAGE_AXES,
    )
    assert graph_digest(packed.path) != graph_digest(other.path)


@given(
    bits=st.integers(1, MOST_BITS),
    count=st.integers(1, 70),
    scale=st.floats(2**-20, 2**10, width=32),
    low=st.integers(-9, 3) | st.none(),
    seed=st.integers(0, 99),
    zeros=st.sampled_from([0.0, 0.5, 0.97]),
)
def test_every_number_of_bits_and_weights_comes_back(
    bits: int,
    count: int,
    scale: float,
    low: int | None,
    seed: int,
    zeros: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    packing = Uniform(bits, scale, low)
    generator = np.random.default_rng(seed)
    codes = generator.integers(packing.lowest, packing.lowest + 2**bits, count).astype(np.float32)
    if packing.lowest <= 0 < packing.lowest + 2**bits:
        codes[generator.random(count) < zeros] = 0
    weight = codes * np.float32(scale)
    many = np.tile(weight, 40)
    model = adding(many)
    (folder / "plain.onnx").write_bytes(model)
    packed = pack_weights(folder / "plain.onnx", folder / "packed.onnx", {"w": packing})
    unpacked = unpack_weights(packed, folder / "unpacked.onnx")
    [stored] = onnx.load(unpacked.path).graph.initializer
    assert np.array_equal(onnx.numpy_helper.to_array(stored), many)
    assert packed.size_bytes <= len(model) + 60


def adding(weight: Array) -> bytes:
    text = (
        f'<ir_version: 8, opset_import: ["" : 18]> net (float[{weight.size}] x) =>'
        f" (float[{weight.size}] y)"
    )
    model = onnx.parser.parse_model(f"{text} {{ y = Add (x, w) }}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return bytes(model.SerializeToString())


def test_scales_lie_along_the_output_channels_of_every_layer(tmp_path: Path) -> None:
    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(1, 48, 3, padding=1)
            self.line = nn.Linear(48, 40)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.line(self.up(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    net = Kinds().eval()
    packings: dict[str, Packing] = {}
    for part, axis in ((net.up, 1), (net.line, 0)):
        weight, packing = on_a_grid(part.weight.detach().numpy(), 4, axis)
        with torch.no_grad():
            part.weight.copy_(torch.from_numpy(weight))
        packings[part.__class__.__name__] = packing
    plain = exported(net, tmp_path)
    names = {layer.operator: layer.weight for layer in layer_tensors(plain.path)}
    packed = pack_weights(
        plain,
        tmp_path / "packed.onnx",
        {
            names["ConvTranspose"]: packings["ConvTranspose2d"],
            names["MatMul"]: packings["Linear"],
        },
    )
    assert packed.metadata["packed_weights"] == "2"
    assert verify(packed.path, net, [torch.rand(1, 1, 5, 6)]) < 1e-5


def test_what_was_packed_is_packed_anew_and_quantized(tmp_path: Path) -> None:
    net = seeded(Espcn, width=32, depth=4)
    packings = changed(net, three_bits_and_zeros)
    plain = exported(net, tmp_path)
    first = pack_weights(plain, tmp_path / "sparse.onnx", dict.fromkeys(packings, Sparse()))
    then = pack_weights(first, tmp_path / "both.onnx", packings)
    at_once = pack_weights(plain, tmp_path / "at once.onnx", packings)
    assert then.size_bytes == at_once.size_bytes < first.size_bytes
    assert verify(then.path, net, [torch.rand(1, 1, 12, 10)]) < 1e-5
    crops = [
        np.random.default_rng(seed).random((1, 1, 24, 24), dtype=np.float32) for seed in range(4)
    ]
    ints = [
        quantize_static(file, crops, tmp_path / f"{at}.onnx")
        for at, file in enumerate((plain, then))
    ]
    assert np.array_equal(OnnxModel(ints[0].path)(crops[0]), OnnxModel(ints[1].path)(crops[0]))
    assert ints[1].metadata == {"scale": "2", "quantization": "int8 minmax"}


def test_a_net_that_is_too_small_stays_plain(tmp_path: Path) -> None:
    net = seeded(Espcn, width=4, depth=0)
    packings = changed(net, four_bits)
    plain = exported(net, tmp_path)
    packed = pack_weights(plain, tmp_path / "packed.onnx", packings)
    assert not is_packed(packed.path)
    assert packed.size_bytes == plain.size_bytes
    dense = pack_weights(plain, tmp_path / "packed.onnx", dict.fromkeys(packings, Sparse()))
    assert not is_packed(dense.path)


def test_weights_that_were_not_rounded_are_refused(tmp_path: Path) -> None:
    plain = exported(seeded(Espcn, width=32), tmp_path)
    target = tmp_path / "packed.onnx"
    with pytest.raises(
        ExportError,
        match=r"'body\.0\.weight' differs by .* from what 4 bits can give.*in `compress`",
    ):
        pack_weights(plain, target, {"body.0.weight": Uniform(4, 0.05)})
    with pytest.raises(ExportError, match="from what 16 entries can give"):
        pack_weights(plain, target, {"body.0.weight": Codebook(ENTRIES)})
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "packing", "reason"),
    [
        (
            "body.0.weigth",
            Sparse(),
            "stores no tensor 'body.0.weigth'.*Did you mean 'body.0.weight'",
        ),
        ("body.0.weight", Uniform(17, 0.1), "with 17 bits and a scale of 0.1. Bits are 1 to 16"),
        ("body.0.weight", Uniform(4, 0.0), "scales above 0"),
        ("body.0.weight", Uniform(4, [0.1] * 3), "has 32 output channels, and its scale is .3."),
        (
            "body.0.weight",
            Codebook(np.zeros((4, 7))),
            "has 288 weights, too many or few for 4 entries of 7",
        ),
        ("body.0.weight", Codebook([]), "for 0 entries"),
    ],
)
def test_what_cannot_be_packed_is_said(
    name: str, packing: Packing, reason: str, tmp_path: Path
) -> None:
    plain = exported(seeded(Espcn, width=32), tmp_path)
    with pytest.raises(ExportError, match=reason):
        pack_weights(plain, tmp_path / "packed.onnx", {name: packing})


def test_a_transposed_convolution_is_packed_with_one_scale(tmp_path: Path) -> None:
    net = seeded(Fsrcnn)
    with torch.no_grad():
        net.body[4].weight.copy_((net.body[4].weight * 512).round() / 512)
    plain = exported(net, tmp_path, 3)
    packed = pack_weights(plain, tmp_path / "packed.onnx", {"body.4.weight": Uniform(8, 1 / 512)})
    assert verify(packed.path, net, [torch.rand(1, 3, 7, 8)]) < 1e-5
