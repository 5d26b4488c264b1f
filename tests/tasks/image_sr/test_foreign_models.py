"""Files of others that do not enlarge images, or not as they say: one sentence that names the file,
and no result.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_files import IMAGE, TWICE, write_net
from photos import photo

from automl_sr.data.images import Picture
from automl_sr.errors import ModelError, UseError
from automl_sr.tasks.image_sr.image_model import ImageModel, OnnxImageModel, network_output
from automl_sr.tasks.image_sr.upscale import Upscaler

THRICE = 'y = Resize<mode: string = "nearest">(x, "", thrice)'
RESIZED = (
    "float[4] thrice = {1, 1, 3, 3}, float[4] wide = {1, 1, 2, 4}, float[4] half = {1, 1, 0.5, 0.5}"
)
NOT_A_NUMBER = f"{TWICE.replace('y =', 'z =')} k = Log(below) y = Add(z, k)"
BELOW = "float below = {-1}"
COLOUR = "float[1, 3, h, w] x"


@pytest.mark.parametrize(
    ("net", "said"),
    [
        # what it takes
        ({"takes": "", "body": "y = Identity(twice)"}, "takes no inputs"),
        ({"takes": f"{IMAGE}, float[1] noise", "body": f"{TWICE}"}, r"takes 2 inputs \(x, noise\)"),
        ({"takes": "seq(float[1, 1, h, w]) s", "body": "zero = Constant<value_int = 0>() x = SequenceAt(s, zero)"
          f" {TWICE}"}, r"takes seq\(tensor\(float\)\)"),
        ({"takes": "uint8[1, 1, h, w] b", "body": f"x = Cast<to = 1>(b) {TWICE}"}, r"takes tensor\(uint8\)"),
        ({"takes": "float16[1, 1, h, w] b", "body": f"x = Cast<to = 1>(b) {TWICE}"}, r"takes tensor\(float16\)"),
        ({"takes": "float[1, h, w] b", "body": f"o = Constant<value_ints = [0]>() x = Unsqueeze(b, o) {TWICE}"},
         "takes 3 dimensions"),
        ({"takes": "float[1, 1, d, h, w] b", "body": f"o = Constant<value_ints = [2]>() x = Squeeze(b, o) {TWICE}"},
         "takes 5 dimensions"),
        ({"takes": "float[4, 1, h, w] x"}, "takes batches of 4 images"),
        ({"takes": "float[1, 0, h, w] x"}, "batches of the size 1x0xhxw"),
        ({"takes": "float[1, 1, 100000, 100000] x"}, "batches of the size 1x1x100000x100000"),
        ({"takes": "float[1, 4, h, w] x"}, "takes 4 channels"),
        ({"takes": "float[1, c, h, w] x"}, r"does not tell its channels \(found: nothing\)"),
        ({"takes": "float[1, c, h, w] x", "metadata": {"channels": "1e99"}}, "does not tell its channels"),
        ({"takes": "float[1, c, h, w] x", "metadata": {"channels": "-1"}}, "takes -1 channels"),
        # what it gives
        ({"body": "y = SequenceConstruct(x, x)", "gives": "seq(float[1, 1, h, w]) y"}, r"gives seq\(tensor\(float\)\)"),
        ({"operators": '"" : 17, "ai.onnx.ml" : 1', "gives": "seq(map(int64, float[])) y",
          "body": "o = Constant<value_ints = [0, 1, 2]>() z = Squeeze(x, o)"
          " y = ai.onnx.ml.ZipMap<classlabels_int64s = [0, 1]>(z)"}, r"gives seq\(map"),
        ({"body": f"{TWICE.replace('y =', 'z =')} y = Cast<to = 2>(z)", "gives": "uint8[a, b, c, d] y"},
         r"gives tensor\(uint8\)"),
        ({"body": "y = ReduceMax<keepdims = 0>(x)", "gives": "float y"}, "1x1x32x32 becomes a single number"),
        ({"body": "o = Constant<value_ints = [0]>() y = Unsqueeze(x, o)", "gives": "float[o, a, b, c, d] y"},
         "1x1x32x32 becomes 1x1x1x32x32"),
        ({"body": THRICE.replace("thrice", "half")}, "becomes 1x1x16x16"),
        ({"body": THRICE.replace("thrice", "wide")}, "becomes 1x1x64x128"),
        ({"body": f"{TWICE.replace('y =', 'z =')} y = Concat<axis = 1>(z, z, z)"}, "becomes 1x3x64x64"),
        ({"body": "s = Constant<value_ints = [0, 0]>() o = Constant<value_ints = [2, 3]>() y = Slice(x, s, s, o)"},
         "becomes 1x1x0x0"),
        ({"body": "s = Constant<value_ints = [0, 0, 0, 0]>() y = Slice(x, s, s)"}, "becomes 0x0x0x0"),
        ({"body": THRICE.replace("thrice", "much"), "constants": "float[4] much = {1, 1, 17, 17}"},
         "enlarges 17 times"),
        ({"body": NOT_A_NUMBER, "constants": BELOW}, "gives NaN or infinite values"),
        ({"body": f"{TWICE.replace('y =', 'z =')} zero = Sub(z, z) y = Div(z, zero)"}, "gives NaN or infinite values"),
        # what it says of itself
        ({"metadata": {"scale": "0"}}, "says in its metadata that it enlarges 0 times, but it enlarges 2 times"),
        ({"metadata": {"scale": "3"}}, "enlarges 3 times, but it enlarges 2 times"),
        ({"metadata": {"scale": "-2"}}, "enlarges -2 times, but it enlarges 2 times"),
        ({"metadata": {"scale": "two"}}, r"does not tell its scale \(found: two\)"),
        ({"metadata": {"scale": "9" * 5000}}, r"does not tell its scale \(found: 9{40}\)"),
        ({"metadata": {"overlap": "-1"}}, "tiles overlap by -1 pixels"),
        ({"metadata": {"overlap": "1000000000"}}, "tiles overlap by 1000000000 pixels"),
        ({"metadata": {"overlap": "4.5"}}, "does not tell its overlap"),
        ({"metadata": {"color": "rgb"}}, "works on rgb, but it takes 1 channels"),
        ({"takes": COLOUR, "metadata": {"color": "y"}}, "works on y, but it takes 3 channels"),
        # what it is made of
        ({"operators": '"" : 17, "harm" : 1', "body": "y = harm.Own(x)"}, "harm:Own.* is not a registered"),
        ({"operators": '"" : 9999'}, "is no ONNX model that ONNX Runtime can run: .*9999"),
        ({"body": "y = Resize(x)"}, "is no ONNX model that ONNX Runtime can run"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_enlarge_images_is_refused_when_it_is_opened(
    net: Mapping[str, Any], said: str, tmp_path: Path
) -> None:
    path = write_net(tmp_path / "net.onnx", **{"constants": RESIZED, **net})
    with pytest.raises(UseError, match=said) as refused:
        OnnxImageModel(path)
    assert str(path) in refused.value.message
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"no model", b"\x08" * 5000, b"\x0a\xff\xff\xff\xff\x7f"]
)
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx is no ONNX model"):
        OnnxImageModel(path)


@pytest.mark.parametrize("name", ["", ".", "gone.onnx", "x" * 5000, "zero\0byte.onnx"])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model file"):
        OnnxImageModel(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    "place", ["../secret.bin", "ABSOLUTE", "link.bin", "../../../../../../../../dev/zero"]
)
def test_weights_outside_of_the_files_folder_are_not_read(place: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 64))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = with_weights_at(
        place.replace("ABSOLUTE", str(tmp_path / "secret.bin")), folder / "net.onnx"
    )
    with pytest.raises(
        ModelError, match=r"net\.onnx wants to read weights outside of its own folder"
    ):
        OnnxImageModel(path)


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "own.bin").write_bytes(np.ones(64, np.float32).tobytes())
    model = OnnxImageModel(with_weights_at("own.bin", tmp_path / "net.onnx"))
    assert model.scale == 2
    assert Upscaler(model)(Picture(photo(height=20, width=30))).pixels.shape == (40, 60, 3)


def with_weights_at(place: str, path: Path) -> Path:
    """Write a net whose weights lie in a file of their own."""
    body = "z = Conv<pads = [1, 1, 2, 2]>(x, w) y = DepthToSpace<blocksize = 2>(z)"
    zeros = ", ".join(["0"] * 64)
    model = onnx.load(write_net(path, body, constants=f"float[4, 1, 4, 4] w = {{{zeros}}}"))
    (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == "w")
    weights.CopyFrom(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 1, 4, 4], data_location=1)
    )
    weights.external_data.add(key="location", value=place)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_output_of_another_size_on_another_image_is_refused(tmp_path: Path) -> None:
    even = "z = Slice(x, nil, end, axes)"  # the last row goes, but on the image that is tried
    path = write_net(
        tmp_path / "net.onnx",
        f"{even} {TWICE.replace('(x', '(z')}",
        constants="int64[1] nil = {0}, int64[1] end = {32}, int64[1] axes = {2}",
    )
    model = OnnxImageModel(path)
    with pytest.raises(
        UseError, match=r"net\.onnx makes 1x1x64x80 of 1x1x50x40, not 100x80 pixels"
    ):
        network_output(model, photo(height=50, width=40))


def test_infinite_values_on_another_image_are_refused(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx", f"{TWICE.replace('y =', 'z =')} y = Reciprocal(z)")
    model = OnnxImageModel(path)
    batch = model.example(8, 8)
    batch[0, 0, 3, 3] = 0
    with pytest.raises(
        UseError, match=r"net\.onnx gives NaN or infinite values for an image of 8x8 pixels"
    ):
        model(batch)


def test_large_numbers_whose_sum_overflows_are_numbers() -> None:
    huge = ImageModel(lambda batch: np.full((1, 3, 40, 40), 3e38, np.float32), 2, "rgb")
    assert network_output(huge, photo(height=20, width=20)).min() == 255


def test_a_model_under_training_is_held_to_the_same() -> None:
    lost = ImageModel(lambda batch: np.full((1, 3, 40, 40), np.nan, np.float32), 2, "rgb")
    with pytest.raises(
        UseError, match="The model gives NaN or infinite values for an image of 20x20 pixels"
    ):
        network_output(lost, photo(height=20, width=20))


def test_images_of_one_size_are_evaluated_but_not_tiled(tmp_path: Path) -> None:
    model = OnnxImageModel(write_net(tmp_path / "net.onnx", takes="float[1, 1, 24, 20] x"))
    assert (model.scale, model.size) == (2, (24, 20))
    assert network_output(model, photo(height=24, width=20)).shape == (48, 40)
    with pytest.raises(
        ModelError, match=r"net\.onnx takes images of one size alone \(24x20 pixels\)"
    ):
        Upscaler(model)
