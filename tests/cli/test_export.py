"""`automl-sr export`: a folder with model, weights and card, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from onnx_files import small_net
from search_world import find, load, run_fast
from typer.testing import CliRunner, Result

from automl_sr.cli.export import export
from automl_sr.errors import StoreError, TrialError, UseError
from automl_sr.store.reading import Reader
from automl_sr.trial.types import Outcome

APP = typer.Typer()
APP.command()(export)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("store")

    def run(plan: Any, setting: Any, observer: Any, place: Path) -> Outcome:
        if plan.params["architecture.line.width"] != 16:
            raise TrialError("no luck")
        outcome = run_fast(plan, setting, observer, place)
        small_net(outcome.artifacts["onnx"])
        (place / "model.safetensors").write_bytes(b"weights")
        files = {**outcome.artifacts, "weights": place / "model.safetensors"}
        return Outcome("complete", outcome.values, files, outcome.seconds)

    find(load(trials=2), made, run)
    return made


@pytest.fixture(autouse=True)
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{folder}/store.db")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def test_a_model_is_exported_with_its_card(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    found = json.loads(run("world", 0, "-o", target, "--json").stdout)
    assert found["files"] == ["README.md", "model.onnx", "model.safetensors", "model.svg"]
    assert "2 layers, 4 parameters" in (target / "model.svg").read_text()
    assert (target / "model.safetensors").read_bytes() == b"weights"
    card = (target / "README.md").read_text()
    for word in (
        "# world, trial 0",
        "| params | 305 |",
        "architecture.line.width: 16",
        "kind: fake",
        "torch",
        "Licence",
    ):
        assert word in card
    assert "| 1.5 |" in card, "the reference stands beside the model"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_model_that_cannot_be_drawn_is_exported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl_sr.presentation.drawing.reading.MOST_NODES", 3)
    result = run("world", 0, "-o", tmp_path / "model", "--json")
    assert "model.svg" not in json.loads(result.stdout)["files"]
    assert "There is no model.svg: The net has 4 operations" in result.stderr


def test_an_empty_folder_is_filled_and_a_full_one_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("world", 0, "-o", tmp_path / "empty").exit_code == 0
    result = run("world", 0, "-o", tmp_path / "empty")
    assert isinstance(result.exception, UseError)
    assert "not an empty folder" in str(result.exception)


def test_a_trial_without_a_model_says_why(tmp_path: Path) -> None:
    result = run("world", 1, "-o", tmp_path / "model")
    assert isinstance(result.exception, UseError)
    assert str(result.exception) == "Trial 1 of 'world' is failed and left no model: no luck."


def test_a_file_that_was_changed_is_not_exported_and_leaves_nothing(
    tmp_path: Path, folder: Path
) -> None:
    opened = Reader.open(f"sqlite:///{folder}/store.db")
    stored = Path(opened.trial(opened.study("world"), 0).artifacts["weights"].url)
    content = stored.read_bytes()
    stored.write_bytes(b"others")
    result = run("world", 0, "-o", tmp_path / "model")
    stored.write_bytes(content)
    assert isinstance(result.exception, StoreError)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("world", 0, "-o", tmp_path / "file" / "model")
    assert isinstance(result.exception, UseError)
    assert "cannot be made" in str(result.exception)
