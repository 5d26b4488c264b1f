"""Enlarging files keeps what they hold: grey, 16 bit, transparency, colour profile; and skips what
cannot be read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nets import IMAGE_AXES, Espcn, seeded
from photos import photo
from PIL import ImageCms
from torch import nn

from automl_sr.compression.export import export_onnx
from automl_sr.data import images
from automl_sr.data.images import Picture
from automl_sr.errors import DataError, UseError
from automl_sr.tasks.image_sr.image_model import OnnxImageModel, super_resolve
from automl_sr.tasks.image_sr.upscale import Upscaler, expand, upscale_files


class Nearest(nn.Module):
    """Repeats pixels, so that every expected value is known."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


def shipped(folder: Path, net: nn.Module | None = None, channels: int = 1) -> OnnxImageModel:
    path = folder / f"model{channels}.onnx"
    example = (torch.rand(1, channels, 12, 14),)
    export_onnx(net or Nearest(), path, example, dynamic_axes=IMAGE_AXES)
    return OnnxImageModel(path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pictures_stay_grey_in_their_own_depth(
    channels: int, dtype: type, tmp_path: Path
) -> None:
    grey = photo()[:, :, 1:2].astype(dtype) * (257 if dtype is np.uint16 else 1)
    result = Upscaler(shipped(tmp_path, channels=channels))(Picture(grey))
    assert result.pixels.shape == (192, 240, 1)
    assert result.pixels.dtype == dtype
    assert np.abs(result.pixels.astype(int) - grey.repeat(2, 0).repeat(2, 1)).max() <= (
        1 if dtype is np.uint8 else 2
    )


def test_sixteen_bits_are_more_than_eight(tmp_path: Path) -> None:
    ramp = np.linspace(20000, 21000, 40 * 40).reshape(40, 40, 1).astype(np.uint16).repeat(3, axis=2)
    result = Upscaler(shipped(tmp_path, channels=3))(Picture(ramp))
    assert np.unique(result.pixels).size > 900


def test_alpha_is_enlarged_smoothly_and_kept_in_range(tmp_path: Path) -> None:
    alpha = np.zeros((96, 120), np.uint8)
    alpha[30:60, 40:80] = 255
    result = Upscaler(shipped(tmp_path))(Picture(photo(), alpha))
    assert result.alpha is not None
    assert result.alpha.shape == (192, 240)
    assert (result.alpha[10, 10], result.alpha[90, 120]) == (0, 255)
    assert np.unique(result.alpha).size > 2


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_pictures_are_those_that_are_evaluated(channels: int, tmp_path: Path) -> None:
    model = shipped(tmp_path, seeded(Espcn, channels=channels), channels)
    lr = photo("chelsea")
    result = Upscaler(model)(Picture(lr)).pixels.astype(int)
    assert (
        np.abs(result - super_resolve(model, lr)).max() <= 2
    )  # luma is rounded once more before it is evaluated


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_differ_from_the_whole_by_one_level_at_most(channels: int, tmp_path: Path) -> None:
    model = shipped(tmp_path, seeded(Espcn, channels=channels), channels)
    picture = Picture(photo("coffee", 200, 170))
    whole, tiled = (Upscaler(model, tile)(picture).pixels.astype(int) for tile in (1024, 48))
    assert np.abs(whole - tiled).max() <= 1


def test_a_tile_too_small_for_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="tile of 8 pixels is too small"):
        Upscaler(shipped(tmp_path, seeded(Espcn)), tile=8)


def test_files_keep_format_profile_and_depth_and_broken_ones_are_skipped(tmp_path: Path) -> None:
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    images.write(inputs / "a.png", Picture(photo(), np.full((96, 120), 9, np.uint8), profile))
    images.write(inputs / "b.jpg", Picture(photo(), icc=profile))
    images.write(inputs / "c.tif", Picture(photo()[:, :, :1].astype(np.uint16) * 257))
    (inputs / "d.png").write_bytes((inputs / "a.png").read_bytes()[:300])
    results = list(upscale_files(Upscaler(shipped(tmp_path)), expand([inputs]), outputs))
    assert [result.output and result.output.name for result in results] == [
        "a_x2.png",
        "b_x2.png",
        "c_x2.tif",
        None,
    ]
    assert "d.png" in results[3].reason
    assert sorted(file.name for file in outputs.iterdir()) == ["a_x2.png", "b_x2.png", "c_x2.tif"]
    first, second, third = (images.read(result.output) for result in results[:3] if result.output)
    assert first.icc == second.icc == profile
    assert first.alpha is not None
    assert np.all(first.alpha == 9)
    assert third.pixels.dtype == np.uint16
    assert third.pixels.shape == (192, 240, 1)
    assert (results[0].width, results[0].height) == (240, 192)


def test_equal_names_and_inputs_are_never_overwritten(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        images.write(folder / "a.png", Picture(photo(height=20, width=20)))
    images.write(one / "a_x2.png", Picture(photo(height=22, width=22)))
    before = (one / "a_x2.png").read_bytes()
    sources = [one / "a.png", two / "a.png", one / "a_x2.png"]
    results = list(upscale_files(Upscaler(shipped(tmp_path)), sources, one))
    assert [result.output.name for result in results if result.output] == [
        "a_x2-2.png",
        "a_x2-3.png",
        "a_x2_x2.png",
    ]
    assert (one / "a_x2.png").read_bytes() == before


def test_folders_stand_for_their_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in"):
        expand([tmp_path])
    images.write(tmp_path / "a.png", Picture(photo(height=9, width=9)))
    assert expand([tmp_path, tmp_path / "a.png", tmp_path / "gone.png"]) == [
        tmp_path / "a.png",
        tmp_path / "gone.png",
    ]


def test_an_image_that_the_net_cannot_take_is_skipped_with_the_reason(tmp_path: Path) -> None:
    images.write(tmp_path / "dot.png", Picture(photo(height=2, width=2)))
    images.write(tmp_path / "fine.png", Picture(photo(height=20, width=20)))

    class Mirrored(Nearest):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded = nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")  # impossible below 5 pixels
            return super().forward(padded)[:, :, 8:-8, 8:-8]

    upscaler = Upscaler(shipped(tmp_path, Mirrored()))
    results = list(
        upscale_files(upscaler, [tmp_path / "dot.png", tmp_path / "fine.png"], tmp_path / "out")
    )
    assert "model1.onnx cannot run on [1, 1, 2, 2]" in results[0].reason
    assert results[1].width == 40
