"""`automl-sr report`: three formats, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from search_world import find, load, registry
from typer.testing import CliRunner, Result

import automl_sr.plugin.registry
from automl_sr.errors import StoreError, UseError
from automl_sr.report.command import report

APP = typer.Typer()
APP.command()(report)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("store")
    find(load(trials=3), made)
    return made


@pytest.fixture(autouse=True)
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{folder}/store.db")
    monkeypatch.setattr(automl_sr.plugin.registry, "installed", registry)
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("file", "asked", "begins"),
    [
        ("a.html", (), "<!DOCTYPE html>"),
        ("a.md", (), "# world\n"),
        ("a.json", (), '{\n "format": 1,'),
        ("a.htm", (), "<!DOCTYPE html>"),
        ("a", (), "<!DOCTYPE html>"),
        ("a.txt", ("--format", "md"), "# world\n"),
        ("a.html", ("--format", "json"), '{\n "format": 1,'),
    ],
)
def test_the_format_is_what_is_asked_for_or_what_the_file_is_called(
    file: str, asked: tuple[str, ...], begins: str
) -> None:
    result = run("world", "-o", file, *asked)
    assert result.exit_code == 0, result.exception
    assert result.stdout == f"{file}\n"
    assert Path(file).read_text().startswith(begins)


def test_json_has_no_drawings() -> None:
    assert run("world", "-o", "a.json").exit_code == 0
    assert "nets" not in json.loads(Path("a.json").read_text())


def test_without_a_file_it_is_named_after_the_study() -> None:
    assert run("world", "--format", "md").stdout == "world.md\n"
    assert run("world").stdout == "world.html\n"
    assert {path.name for path in Path().iterdir()} == {"world.md", "world.html"}


def test_an_older_report_is_replaced_and_folders_are_made() -> None:
    target = Path("new/r.html")
    assert run("world", "-o", target).exit_code == 0
    target.write_text("old")
    assert run("world", "-o", target).exit_code == 0
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in target.parent.iterdir()] == ["r.html"]


def test_json_says_what_was_written() -> None:
    found = json.loads(run("world", "-o", "r.md", "--json").stdout)
    assert found == {
        "study": "world",
        "file": "r.md",
        "format": "md",
        "bytes": Path("r.md").stat().st_size,
    }


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("wrld",), StoreError, "Did you mean 'world'?"),
        (("world", "--format", "pdf"), UseError, "Unknown format 'pdf'"),
        (("world", "--store", "sqlite:///none.db"), StoreError, "There is no store"),
        (("world", "-o", "/proc/none/r.html"), UseError, "cannot be written"),
        (
            ("world", "-o", "rep.pdf"),
            UseError,
            "rep.pdf does not say its format: .pdf is none of .html, .htm, .md",
        ),
        (("world", "-o", "."), UseError, ". is a folder."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: tuple[object, ...], error: type, words: str
) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert words in str(result.exception)
    assert list(Path().iterdir()) == []
