"""`automl-sr evaluate` of checkpoints: our own say what they are, others are read by an architecture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from automl_sr.cli.evaluate import evaluate
from automl_sr.errors import UseError
from automl_sr.files import save_tensors
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.plugin.registry import installed
from automl_sr.testing.tiny import tiny_task
from automl_sr.trial.ship import export_module
from automl_sr_plugins.reference.nets import fsrcnn
from automl_sr_plugins.reference.rlfn import rlfn

APP = typer.Typer()
APP.command()(evaluate)
FSRCNN = {"d": 8, "s": 4, "m": 1, "skip": "none"}
RLFN = {"width": 8, "middle": 12, "blocks": 1, "attention": 4}
MEASURE = ("--data", "photos-valid", "--metrics", "psnr_y", "--json")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in (*arguments, *MEASURE)])


def measured(*arguments: object) -> dict[str, Any]:
    result = run(*arguments)
    assert result.exception is None, result.exception
    values: dict[str, Any] = json.loads(result.stdout)
    return values


@pytest.fixture
def luma(tmp_path: Path) -> Path:
    """An FSRCNN of others, for luma at x2, whose fields are not the defaults."""
    torch.manual_seed(0)
    torch.save(
        {"state_dict": fsrcnn(channels=1, scale=2, **FSRCNN).state_dict()}, tmp_path / "a.pth"
    )
    return tmp_path / "a.pth"


@pytest.fixture
def rgb(tmp_path: Path) -> Path:
    """An RLFN as it is published, for RGB at x3."""
    torch.manual_seed(0)
    torch.save(rlfn(channels=3, scale=3, **RLFN).state_dict(), tmp_path / "b.pt")
    return tmp_path / "b.pt"


def test_the_model_file_of_a_trial_says_itself_what_it_is(tmp_path: Path) -> None:
    """And gives what the ONNX file beside it gives."""
    torch.manual_seed(0)
    blueprint = Blueprint("reference.fsrcnn", {**FSRCNN, "channels": 1, "scale": 2})
    module = build(blueprint, installed()).eval()
    metadata = export_module(module, blueprint, tiny_task(), tmp_path / "model.onnx")
    save_tensors(tmp_path / "model.safetensors", module.state_dict(), metadata)
    shipped, weights = (measured(tmp_path / f"model.{end}") for end in ("onnx", "safetensors"))
    assert weights["per_image"] == shipped["per_image"]
    assert weights["net"] == {"factory": "reference.fsrcnn", **blueprint.fields}
    for extra, said in (
        (("--architecture", "edsr"), "its net is a reference.fsrcnn, not a 'edsr'"),
        (("--set", "d=8"), "says itself which fields"),
    ):
        refused = run(tmp_path / "model.safetensors", *extra)
        assert isinstance(refused.exception, UseError)
        assert said in str(refused.exception)


def test_fields_that_a_file_does_not_tell_are_set(luma: Path) -> None:
    sets = [word for name in ("d=8", "s=4", "m=1", "skip=none") for word in ("--set", name)]
    found = measured(luma, "--architecture", "fsrcnn", *sets)
    assert found["net"] == {"factory": "reference.fsrcnn", **FSRCNN, "channels": 1, "scale": 2}


def test_the_architecture_reads_the_fields_off_the_tensors(rgb: Path) -> None:
    found = measured(rgb, "--architecture", "rlfn", "--scale", 3)
    assert found["net"] == {"factory": "reference.rlfn", **RLFN, "channels": 3, "scale": 3}
    assert found["scale"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "does not say which net it holds. Name its architecture with --architecture"),
        (("--architecture", "rlfm"), "Did you mean 'rlfn'?"),
        (("--architecture", "rlfn"), "upsampler.0.bias is 27, not 12). It fits with --scale 3."),
        (
            ("--architecture", "bsrn", "--scale", 3),
            "not in the net: conv_1.weight, conv_1.bias, block_1.c1_r.weight and 21 more)."
            " It fits with --architecture rlfn.",
        ),
        (
            ("--architecture", "edsr", "--scale", 3, "--set", "width"),
            "--set width names no field with a value",
        ),
        (
            ("--architecture", "edsr", "--scale", 3, "--set", "width=wide"),
            "'edsr' cannot be made so: width: Input should be a valid integer",
        ),
        (
            ("--architecture", "rlfn", "--scale", 3, "--set", "width=9"),
            "has width=8, not 9. Leave --set width out.",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(
    rgb: Path, arguments: tuple[object, ...], said: str
) -> None:
    refused = run(rgb, *arguments)
    assert isinstance(refused.exception, UseError)
    assert said in str(refused.exception)
    assert "\n" not in str(refused.exception)
    assert refused.stdout == ""


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_a_checkpoint_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": RunsCode()}, "net.pth")
    refused = run("net.pth", "--architecture", "rlfn")
    assert isinstance(refused.exception, UseError)
    assert "could run code" in str(refused.exception)
    assert not Path("ran").exists()


@pytest.mark.parametrize("extra", [("--architecture", "rlfn"), ("--set", "width=8")])
def test_options_of_checkpoints_are_refused_for_other_files(extra: tuple[str, str]) -> None:
    refused = run("bicubic", *extra)
    assert isinstance(refused.exception, UseError)
    assert "bicubic is no checkpoint" in str(refused.exception)
