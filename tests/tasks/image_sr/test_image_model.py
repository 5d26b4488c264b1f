"""Models that enlarge images: what a file is, and how images pass through it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nets import IMAGE_AXES, Espcn, seeded
from photos import photo, photo_pairs

from automl_sr.compression.export import export_onnx
from automl_sr.errors import DataError, ModelError, UseError
from automl_sr.plugin.metric import Metric
from automl_sr.tasks.image_sr.image_model import (
    ImageModel,
    OnnxImageModel,
    evaluate_pairs,
    network_output,
    super_resolve,
)
from automl_sr.tasks.image_sr.metrics import IMAGE_METRICS
from automl_sr.tasks.image_sr.quality import psnr_rgb, psnr_y, rgb_to_y
from automl_sr.tasks.image_sr.resize import upscale


def exported(folder: Path, metadata: dict[str, str] | None = None, **fields: int) -> Path:
    channels = fields.get("channels", 1)
    path = folder / "model.onnx"
    export_onnx(
        seeded(Espcn, **fields),
        path,
        (torch.rand(1, channels, 12, 14),),
        dynamic_axes=IMAGE_AXES,
        metadata=metadata,
    )
    return path


def nearest_model(color: str, scale: int = 2) -> ImageModel:
    return ImageModel(lambda batch: batch.repeat(scale, axis=2).repeat(scale, axis=3), scale, color)  # type: ignore[arg-type]


@pytest.mark.parametrize(("channels", "scale", "color"), [(1, 2, "y"), (3, 3, "rgb"), (1, 4, "y")])
def test_a_file_without_metadata_tells_its_scale_channels_and_color(
    channels: int, scale: int, color: str, tmp_path: Path
) -> None:
    model = OnnxImageModel(exported(tmp_path, channels=channels, scale=scale))
    assert (model.channels, model.scale, model.color, model.overlap) == (
        channels,
        scale,
        color,
        None,
    )


def test_metadata_of_the_exporter_is_believed(tmp_path: Path) -> None:
    model = OnnxImageModel(
        exported(tmp_path, {"scale": "2", "color": "rgb", "overlap": "7"}, channels=3)
    )
    assert (model.scale, model.color, model.overlap) == (2, "rgb", 7)
    with pytest.raises(ModelError, match=r"model\.onnx does not tell its overlap \(found: wide\)"):
        OnnxImageModel(exported(tmp_path, {"overlap": "wide"}))


def test_a_net_that_does_not_enlarge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pool.onnx"
    export_onnx(torch.nn.AvgPool2d(2), path, (torch.rand(1, 1, 8, 8),), dynamic_axes=IMAGE_AXES)
    with pytest.raises(UseError, match="no upscaling net: 1x1x32x32 becomes 1x1x16x16"):
        OnnxImageModel(path)


def test_a_luma_net_gives_its_own_luma_rounded() -> None:
    lr = photo()
    output = network_output(nearest_model("y"), lr)
    wanted = np.rint(rgb_to_y(lr)).astype(np.uint8)
    assert output.shape == (192, 240)
    assert np.abs(output.astype(int) - wanted.repeat(2, 0).repeat(2, 1)).max() == 0


def test_outputs_are_clipped_before_they_are_rounded() -> None:
    wild = ImageModel(lambda batch: batch.repeat(2, axis=2).repeat(2, axis=3) * 9 - 4, 2, "rgb")
    output = network_output(wild, photo())
    assert (output.min(), output.max()) == (0, 255)


def test_a_colour_net_gets_rgb_in_order() -> None:
    lr = photo()
    assert np.array_equal(super_resolve(nearest_model("rgb"), lr), lr.repeat(2, 0).repeat(2, 1))


def test_chroma_of_a_luma_net_is_bicubic_and_luma_its_own() -> None:
    lr = photo("coffee")
    result = super_resolve(nearest_model("y"), lr)
    assert result.shape == (192, 240, 3)
    own = network_output(nearest_model("y"), lr)
    inside = np.all((result > 0) & (result < 255), axis=2)  # where nothing was clipped
    assert inside.mean() > 0.9
    assert np.abs(rgb_to_y(result) - own)[inside].max() < 1
    assert psnr_rgb(result, upscale(lr, 2), 2) > 25


def test_a_luma_net_keeps_grey_images_grey() -> None:
    grey = np.repeat(photo()[:, :, :1], 3, axis=2)
    result = super_resolve(nearest_model("y"), grey)
    assert np.abs(result.astype(int) - grey.repeat(2, 0).repeat(2, 1)).max() <= 1
    assert np.ptp(result.astype(int), axis=2).max() == 0


@pytest.mark.parametrize("lr", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_an_array_that_is_no_image_is_refused(lr: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"uint8 \[h, w, 3\]"):
        network_output(nearest_model("rgb"), lr)


def test_set_values_are_means_over_images_and_rgb_uses_the_recombined_image() -> None:
    pairs = photo_pairs(2)
    values = evaluate_pairs(nearest_model("y"), pairs, 2)
    rows = values["per_image"]
    assert [row["name"] for row in rows] == ["astronaut", "chelsea", "coffee"]
    for name in ("psnr_y", "ssim_y", "psnr_rgb"):
        assert values[name] == pytest.approx(np.mean([row[name] for row in rows]))
    model, pair = nearest_model("y"), pairs[0]
    assert rows[0]["psnr_y"] == psnr_y(network_output(model, pair.lr), pair.hr, 2)
    assert rows[0]["psnr_rgb"] == psnr_rgb(super_resolve(model, pair.lr), pair.hr, 2)


def test_bicubic_beats_nearest_neighbour() -> None:
    pairs = photo_pairs(3)
    nearest, bicubic = (
        evaluate_pairs(nearest_model("rgb", 3), pairs, 3),
        evaluate_pairs("bicubic", pairs, 3),
    )
    assert all(bicubic[name] > nearest[name] for name in ("psnr_y", "ssim_y", "psnr_rgb"))


def test_a_metric_of_a_plugin_is_measured_beside_the_built_in_ones() -> None:
    def largest_error(prediction: np.ndarray, truth: np.ndarray, scale: int) -> float:
        assert prediction.shape == truth.shape
        return float(np.abs(prediction.astype(int) - truth).max())

    own = Metric("largest_error", "minimize", "quality", largest_error)
    values = evaluate_pairs(nearest_model("y"), photo_pairs(2), 2, [own, IMAGE_METRICS[0]])
    assert set(values) == {"largest_error", "psnr_y", "per_image"}
    assert 0 < values["largest_error"] <= 255


def test_wrong_scales_names_and_empty_sets_are_refused() -> None:
    with pytest.raises(UseError, match="enlarges 2 times, not 3 times"):
        evaluate_pairs(nearest_model("y"), photo_pairs(3), 3)
    with pytest.raises(UseError, match="'lanczos' is no model"):
        evaluate_pairs("lanczos", photo_pairs(2), 2)
    with pytest.raises(DataError, match="no images"):
        evaluate_pairs("bicubic", [], 2)
