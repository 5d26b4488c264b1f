"""`automl-sr gc`: what it says, and that saying it changes nothing when it should not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from search_world import find, load, registry
from typer.testing import CliRunner, Result

from automl_sr.cli.export import export
from automl_sr.cli.gc import gc
from automl_sr.cli.trials import show, trials
from automl_sr.errors import PluginError, StoreError, UseError
from automl_sr.plugin.registry import Registry
from automl_sr.presentation.numbers import size
from automl_sr.store.artifacts import Artifacts
from automl_sr.store.repository import Store

APP = typer.Typer()
for command in (gc, show, trials, export):
    APP.command()(command)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def rows(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def models(folder: Path) -> list[Path]:
    return sorted((folder / "artifacts").rglob("model.onnx"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hold two studies of six trials each; the front of one objective is one trial."""
    monkeypatch.setattr("automl_sr.plugin.registry.installed", registry)
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.delenv("COLUMNS", raising=False)
    for name in ("first", "second"):
        find(load(name=name, trials=6, objectives="score"), tmp_path)
    assert len(models(tmp_path)) == 12
    return tmp_path


def test_all_studies_are_cleaned_up_and_one_where_it_is_named(folder: Path) -> None:
    found = rows("gc", "first")
    assert list(found) == ["studies", "dry_run"]
    assert found["dry_run"] is False
    [row] = found["studies"]
    assert list(row) == ["study", "files", "bytes", "kept_files", "kept_bytes"]
    assert (row["study"], row["files"], row["kept_files"]) == ("first", 5, 1)
    assert len(models(folder)) == 7
    assert [(row["study"], row["files"]) for row in rows("gc")["studies"]] == [
        ("first", 0),
        ("second", 5),
    ]
    assert len(models(folder)) == 2


def test_a_dry_run_says_the_same_and_changes_nothing(folder: Path) -> None:
    before = models(folder), rows("show", "first", 0)
    dry = rows("gc", "--dry-run")
    assert dry["dry_run"] is True
    assert (models(folder), rows("show", "first", 0)) == before
    assert rows("gc")["studies"] == dry["studies"]
    assert [row["files"] for row in rows("gc", "--dry-run")["studies"]] == [0, 0]


def test_people_read_one_line_for_each_study(folder: Path) -> None:
    bytes_each = models(folder)[0].stat().st_size
    all_of_it = (
        f"5 files, {size(5 * bytes_each)} (5 onnx, {size(5 * bytes_each)}); kept 1 file,"
        f" {size(bytes_each)}"
    )
    assert run("gc", "--dry-run", "first").stdout == f"first: would remove {all_of_it}\n"
    assert run("gc", "first").stdout == f"first: removed {all_of_it}\n"
    assert (
        run("gc", "first").stdout
        == f"first: removed 0 files, 0 bytes; kept 1 file, {size(bytes_each)}\n"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (999_960, "1.0 MB"),
    ],
)
def test_bytes_are_written_for_people(number: int, text: str) -> None:
    assert size(number) == text


def test_a_store_or_a_study_that_is_not_there_is_not_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(run("gc", "frist").exception, StoreError)
    missing = folder / "missing.db"
    assert isinstance(run("gc", "--store", f"sqlite:///{missing}").exception, StoreError)
    assert not missing.exists()
    assert len(models(folder)) == 12


def test_a_study_whose_plugins_are_missing_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl_sr.plugin.registry.installed", Registry)
    assert isinstance(run("gc", "first").exception, PluginError)
    result = run("gc", "--json")
    assert json.loads(result.stdout)["studies"] == []
    assert "warning: first is left alone" in result.stderr
    assert run("gc").stdout == ""
    assert len(models(folder)) == 12


def test_a_study_whose_files_cannot_be_reached_stops_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(place: Artifacts, name: str) -> dict[str, int]:
        if name.startswith("first-"):
            raise StoreError("no route to host")
        return real(place, name)

    real = Artifacts.files
    monkeypatch.setattr(Artifacts, "files", down)
    result = run("gc", "--json")
    assert [row["study"] for row in json.loads(result.stdout)["studies"]] == ["second"]
    assert "warning: first is left alone. no route to host" in result.stderr
    assert isinstance(run("gc", "first").exception, StoreError)


def test_an_empty_store_is_said_to_be_empty(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    Store.open(url).close()
    assert run("gc", "--store", url).stdout == f"There are no studies in {url} yet.\n"


def test_files_of_another_machine_are_left_with_a_warning(folder: Path) -> None:
    (folder / "artifacts").rename(folder / "unmounted")
    result = run("gc", "first")
    assert result.stdout == "first: removed 0 files, 0 bytes; kept 0 files, 0 bytes\n"
    assert f"warning: first: {folder / 'artifacts'} cannot be reached from here" in result.stderr
    assert rows("show", "first", 0)["artifacts"]


def test_trials_without_their_files_can_still_be_read(folder: Path) -> None:
    before = rows("trials", "first")
    run("gc", "first")
    assert rows("trials", "first") == before
    lost = [
        row["number"]
        for row in before["trials"]
        if not rows("show", "first", row["number"])["artifacts"]
    ]
    assert len(lost) == 5
    assert "score" in run("show", "first", lost[0]).stdout
    assert isinstance(run("export", "first", lost[0], "-o", folder / "model").exception, UseError)
