"""`automl-sr evaluate`: JSON alone on standard output, published values, and one-line refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from folders import shipped_sets
from nets import IMAGE_AXES, Espcn, seeded
from typer.testing import CliRunner, Result

from automl_sr.cli.evaluate import evaluate
from automl_sr.compression.export import export_onnx
from automl_sr.errors import DataError, UseError

APP = typer.Typer()
APP.command()(evaluate)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def test_bicubic_on_set5_gives_the_known_values_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_SR_DATA", str(shipped_sets()))
    result = run("bicubic", "--data", "Set5", "--scale", 2, "--json")
    values = json.loads(result.stdout)
    assert list(values) == [
        "model",
        "data",
        "scale",
        "images",
        "psnr_y",
        "ssim_y",
        "psnr_rgb",
        "per_image",
    ]
    assert (values["model"], values["data"], values["scale"], values["images"]) == (
        "bicubic",
        "Set5",
        2,
        5,
    )
    assert values["psnr_y"] == pytest.approx(33.67, abs=0.005)
    assert values["ssim_y"] == pytest.approx(0.930, abs=0.0005)
    assert [row["name"] for row in values["per_image"]] == [
        "baby",
        "bird",
        "butterfly",
        "head",
        "woman",
    ]
    assert set(values["per_image"][0]) == {"name", "psnr_y", "ssim_y", "psnr_rgb"}


def test_a_model_is_evaluated_on_the_photographs_that_come_along(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(seeded(Espcn), path, (torch.rand(1, 1, 12, 14),), dynamic_axes=IMAGE_AXES)
    result = run(path, "--data", "photos-valid", "--metrics", "psnr_y", "--json")
    values = json.loads(result.stdout)
    assert list(values) == ["model", "data", "scale", "images", "psnr_y", "per_image"]
    assert values["images"] == len(values["per_image"]) == 2


def test_the_table_names_every_image_and_the_mean() -> None:
    result = run("bicubic", "--data", "photos-valid", "--scale", 4)
    assert result.exit_code == 0
    for word in ("chelsea", "coffee", "mean", "psnr_y (dB)", "ssim_y", "psnr_rgb (dB)"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ["bicubic", "--data", "photos-valid", "--scale", 5],
            UseError,
            "scale of 5 is not supported. Use 2, 3 or 4",
        ),
        (["gone.onnx", "--data", "photos-valid"], UseError, "no model file gone.onnx"),
        (["bicubic", "--data", "photo-valid"], DataError, "Did you mean 'photos-valid'?"),
        (
            ["bicubic", "--data", "photos-valid", "--metrics", "psnry"],
            UseError,
            "Did you mean 'psnr_y'?",
        ),
        (
            ["bicubic", "--data", "photos-valid", "--metrics", "params"],
            UseError,
            "'params' is not measured on images",
        ),
    ],
)
def test_bad_use_is_refused_with_what_to_do(
    arguments: list[object], error: type[UseError], message: str
) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert result.exception.exit_code == 2
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""
