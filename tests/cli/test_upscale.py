"""`automl-sr upscale`: files in, enlarged files out; what cannot be read is reported and the rest
goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from nets import IMAGE_AXES, Espcn, seeded
from photos import photo
from typer.testing import CliRunner, Result

from automl_sr.cli.upscale import upscale
from automl_sr.compression.export import export_onnx
from automl_sr.data import images
from automl_sr.data.images import Picture
from automl_sr.errors import UseError

APP = typer.Typer()
APP.command()(upscale)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    export_onnx(seeded(Espcn), path, (torch.rand(1, 1, 12, 14),), dynamic_axes=IMAGE_AXES)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def test_a_broken_file_is_skipped_and_the_others_are_written(model: Path, tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", Picture(photo()))
    (tmp_path / "b.png").write_bytes(b"no image")
    images.write(tmp_path / "c.png", Picture(photo("coffee", 70, 50)))
    result = run(
        model,
        tmp_path / "a.png",
        tmp_path / "b.png",
        tmp_path / "c.png",
        "-o",
        tmp_path / "out",
        "--json",
    )
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["scale"], report["images"]) == (2, 2)
    assert [Path(row["input"]).name for row in report["files"]] == ["a.png", "b.png", "c.png"]
    assert "b.png" in report["files"][1]["reason"]
    assert (report["files"][2]["width"], report["files"][2]["height"]) == (100, 140)
    assert images.read(report["files"][2]["output"]).pixels.shape == (140, 100, 3)
    assert "skipped" in result.stderr


def test_tile_size_does_not_change_the_result_visibly(model: Path, tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", Picture(photo("chelsea", 200, 230)))
    whole, tiled = tmp_path / "whole", tmp_path / "tiled"
    assert run(model, tmp_path / "a.png", "-o", whole).exit_code == 0
    assert run(model, tmp_path / "a.png", "-o", tiled, "--tile", 48).exit_code == 0
    first, second = (
        images.read(folder / "a_x2.png").pixels.astype(int) for folder in (whole, tiled)
    )
    assert np.abs(first - second).max() <= 1


def test_the_written_files_are_listed(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    images.write(folder / "a.png", Picture(photo(height=30, width=40)))
    result = run(model, folder, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out' / 'a_x2.png'}  80x60\n"


def test_bad_use_is_refused_with_what_to_do(model: Path, tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", Picture(photo(height=30, width=40)))
    missing = run(tmp_path / "gone.onnx", tmp_path / "a.png", "-o", tmp_path / "out")
    assert isinstance(missing.exception, UseError)
    small = run(model, tmp_path / "a.png", "-o", tmp_path / "out", "--tile", 3)
    assert isinstance(small.exception, UseError)
    assert "Use at least" in str(small.exception)
    assert not (tmp_path / "out").exists()


def test_nothing_heavy_is_imported_with_the_commands() -> None:
    code = (
        "import sys, automl_sr.cli.evaluate, automl_sr.cli.upscale, automl_sr.plugin.metric;"
        " print([name for name in ('torch', 'onnx', 'onnxruntime', 'skimage', 'numpy') if name in"
        " sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
