"""`automl-sr compress`: a trial, a folder or a checkpoint in; a folder with evidence out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from finished_models import write_model
from photographs import write_photographs
from typer.testing import CliRunner, Result

from automl_sr.cli.compress import compress
from automl_sr.cli.evaluate import evaluate
from automl_sr.cli.trials import show
from automl_sr.compression.stored_weights import stored_weights
from automl_sr.errors import UseError
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.plugin.registry import installed
from automl_sr.search.engine import Options, search
from automl_sr.search.output import OUTPUTS
from automl_sr.study.spec import parse_study

STUDY = """
name: small
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y, size_bytes]
device: {{input: [16, 16]}}
budget: {{trials: 1, steps: 12}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{fsrcnn: {{d: 12, s: 8, m: 1, skip: none}}}}
  quantization: none
  recipe: {{batch: 2, patch: 12, precision: fp32}}
"""
FILES = ["README.md", "evidence.json", "model.onnx", "model.safetensors", "model.svg"]
INT8 = ("--quantization", "int8_ptq")
APP = typer.Typer()
for command in (compress, evaluate, show):
    APP.command()(command)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a store with one trial, and a model in a folder."""
    folder = tmp_path_factory.mktemp("world")
    write_photographs(folder)
    write_model(folder / "model")
    where = Options(
        store=f"sqlite:///{folder}/store.db", artifacts=str(folder / "artifacts"), device="cpu"
    )
    loaded = parse_study(STUDY.format(folder=folder), "study.yaml", installed())
    assert search(loaded, installed(), where).error is None
    return folder


@pytest.fixture(autouse=True)
def place(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{world}/store.db")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def told(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exception is None, result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_trial_is_compressed_as_its_study_trained_and_measured_it(
    world: Path, tmp_path: Path
) -> None:
    found = told("compress", "small", 0, *INT8, "--steps", 4, "-o", tmp_path / "new")
    OUTPUTS["compress"].model_validate(found)
    assert found["files"] == FILES
    assert found["model"] == {"study": "small", "number": 0}
    assert (found["plan"]["recipe.batch"], found["device"]["input"]) == (2, [16, 16])
    trial = told("show", "small", 0)
    for name, value in trial["values"].items():
        assert found["before"][name] == pytest.approx(value, rel=1e-6)

    kept = json.loads((tmp_path / "new" / "evidence.json").read_text())
    assert {**kept, "files": FILES} == found
    assert "| size_bytes (B) |" in (tmp_path / "new" / "README.md").read_text()
    model = tmp_path / "new" / "model.onnx"
    measured = told("evaluate", model, "--data", world / "valid")
    assert found["after"]["psnr_y"] == pytest.approx(measured["psnr_y"], abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_table_is_for_people_with_the_layers_below(world: Path, tmp_path: Path) -> None:
    images = ("--data", world / "train", "--valid", world / "valid", "--input", "16x16")
    result = run("compress", world / "model", *images, *INT8, "-o", tmp_path / "new", "-q")
    assert result.exception is None, result.exception
    for part in ("metric", "before", "psnr_y (dB)", "x 1", "mid_part.0", "8 bits", "█ kept"):
        assert part in result.stdout, part

    again = run("compress", tmp_path / "new", *images, *INT8, "-o", tmp_path / "newer", "-q")
    assert again.exception is None, again.exception
    assert "ships compressed weights already" in again.stderr


def test_what_was_trained_wide_is_compressed_as_it_ships(world: Path, tmp_path: Path) -> None:
    fields = {"width": 8, "blocks": 1, "reparam": "linear", "skip": "none"}
    rest = {"res_scale": 1.0, "tail": "lite", "channels": 1, "scale": 2}
    torch.manual_seed(0)
    wide = build(Blueprint("reference.edsr", {**fields, **rest}), installed())
    torch.save(wide.state_dict(), tmp_path / "wide.pth")
    settings = [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
    net = ("--architecture", "edsr", "--checkpoint", tmp_path / "wide.pth", *settings)
    images = ("--data", world / "train", "--input", "16x16")
    found = told("compress", *net, *images, *INT8, "-o", tmp_path / "new")
    assert found["model"]["architecture"] == "edsr"
    names = {row["name"]: row["bits"] for row in found["layers"]["layers"]}
    assert names["body.0.conv1"] == 8.0
    assert not any("expand" in name for name in names), "plain convolutions"
    assert len(stored_weights(tmp_path / "new" / "model.onnx")) == len(names)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "No model is named. Name a folder of `automl-sr export`"),
        (("model", "--architecture", "edsr"), "are for a checkpoint: other models say it"),
        (("model", "--checkpoint", "a.pth"), "and --checkpoint both name a model"),
        (("model",), "does not say on which images its model is to be trained and measured"),
        (("model", "--data", "nowhere"), "no image set or folder 'nowhere'"),
        (("model", "--set", "width"), "--set width names no field with a value"),
        (("model", "--set", "width=3"), "are for a checkpoint"),
        (("model", "--input", "9"), "--input 9 is no size. Write height and width: 360x640"),
        (("model", "--refined"), "--refined is for a trial"),
        (("small", 7), "no trial 7"),
        (("small", 0, "--data", "nowhere"), "no image set or folder 'nowhere'"),
        (("train",), "no model.safetensors in"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_nothing(
    arguments: tuple[object, ...],
    said: str,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(world)
    result = run("compress", *arguments, *INT8, "-o", tmp_path / "new")
    assert isinstance(result.exception, UseError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(world: Path) -> None:
    result = run("compress", world / "model", *INT8, "-o", world / "model")
    assert isinstance(result.exception, UseError)
    assert "not an empty folder" in str(result.exception)


def test_show_says_what_became_of_the_layers_of_a_trial(world: Path) -> None:
    """A plain trial has nothing to draw: a line says how large it is."""
    shown = run("show", "small", 0).stdout
    found = told("show", "small", 0)["layers"]
    count = sum(row["parameters"] for row in found["layers"]) + found["other"]["parameters"]
    assert f"layers: {count:,} parameters in 5 layers, 32 bits a weight on average" in shown
    assert "█" not in shown
    assert {row["bits"] for row in found["layers"]} == {32.0}
