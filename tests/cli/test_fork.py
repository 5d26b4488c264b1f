"""`automl-sr fork` and `search --warm-start`: what they say, and JSON alone on standard output."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import search_world
import typer
from search_world import find, load, registry, study_text
from typer.testing import CliRunner, Result

from automl_sr.cli.fork import fork
from automl_sr.cli.main import COMMANDS
from automl_sr.cli.search import search
from automl_sr.cli.trials import show, studies, trials
from automl_sr.errors import StoreError, UseError
from automl_sr.search import engine

APP = typer.Typer()
for command in (fork, search, trials, show, studies):
    APP.command()(command)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hold a study `world` of eight trials, and a file of one with a narrower space."""
    real = engine.search
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("automl_sr.plugin.registry.installed", registry)
    monkeypatch.setattr(
        engine, "search", lambda *given, **named: real(*given, run=search_world.run_fast, **named)
    )
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.setenv("AUTOML_SR_ARTIFACTS", str(tmp_path / "artifacts"))
    find(load(trials=8), tmp_path)
    narrow = study_text("narrow", trials=2).replace("line: {}", "line: {width: [1, 40]}")
    Path("narrow.yaml").write_text(narrow)
    return tmp_path


def test_people_read_what_was_taken_over_and_how_to_go_on() -> None:
    done = run("fork", "world", "narrow.yaml")
    assert done.exit_code == 0, done.exception
    assert done.stdout.splitlines() == [
        (
            "narrow: imported 5 of 8 trials of world; left out: 3 with architecture.line.width"
            " outside the new range"
        ),
        "Go on with: automl-sr search narrow.yaml",
    ]
    assert done.stderr == ""
    again = run("fork", "world", "narrow.yaml")
    assert again.stdout == done.stdout
    assert again.stderr == "note: narrow was there already, begun in this way\n"


def test_json_stands_alone() -> None:
    done = run("fork", "world", "narrow.yaml", "--json")
    found = json.loads(done.stdout)
    assert list(found) == ["study", "from", "imported", "left_out"]
    assert (found["study"], found["from"], found["imported"]) == ("narrow", "world", 5)
    assert found["left_out"] == {"with architecture.line.width outside the new range": 3}


def test_options_name_the_places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{folder}/other.db")
    done = run(
        "fork",
        "world",
        "narrow.yaml",
        "--store",
        f"sqlite:///{folder}/store.db",
        "--artifacts",
        "files",
    )
    assert done.exit_code == 0, done.exception
    with closing(sqlite3.connect(folder / "store.db")) as database:
        places = dict(database.execute("SELECT name, artifacts FROM automl_sr_studies").fetchall())
    assert places == {"world": str(folder / "artifacts"), "narrow": str(folder / "files")}
    assert not (folder / "other.db").exists()


def test_what_was_imported_is_listed_with_the_others() -> None:
    run("fork", "world", "narrow.yaml")
    result = json.loads(run("search", "narrow.yaml", "--json", "--quiet").stdout)
    assert result["trials"]["complete"] == 7, "5 that were imported, and 2 as the budget says"
    listed = json.loads(run("trials", "narrow", "--json").stdout)["trials"]
    assert [row["number"] for row in listed] == list(range(7))
    assert {member["number"] for member in result["front"]} & set(range(5))
    counts = {
        row["study"]: row["trials"]["complete"]
        for row in json.loads(run("studies", "--json").stdout)["studies"]
    }
    assert counts == {"world": 8, "narrow": 7}


def test_an_imported_trial_says_where_it_comes_from() -> None:
    run("fork", "world", "narrow.yaml")
    last = json.loads(run("trials", "narrow", "--json").stdout)["trials"][-1]["number"]
    found = json.loads(run("show", "narrow", last, "--json").stdout)
    assert found["origin"] == {"study": "world", "number": found["origin"]["number"]}
    assert (
        found["fingerprint"]
        == json.loads(run("show", "world", found["origin"]["number"], "--json").stdout)[
            "fingerprint"
        ]
    )
    assert (
        f"imported from: world, trial {found['origin']['number']}"
        in run("show", "narrow", last).stdout.splitlines()
    )
    assert json.loads(run("show", "world", 0, "--json").stdout)["origin"] is None


def test_a_search_begins_with_the_trials_of_another_study() -> None:
    done = run("search", "narrow.yaml", "--warm-start", "world", "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["trials"]["complete"] == 7
    assert "imported 5 of 8 trials of world; left out: 3 with" in done.stderr
    resumed = run("search", "narrow.yaml", "--warm-start", "world", "--trials", 3, "--json")
    assert json.loads(resumed.stdout)["trials"]["complete"] == 8
    assert "imported" not in resumed.stderr


def test_a_study_that_is_there_is_refused() -> None:
    Path("study.yaml").write_text(study_text(trials=8))
    for arguments in (
        ("search", "study.yaml", "--warm-start", "world"),
        ("fork", "world", "study.yaml"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, UseError)
        assert "it is there, begun without those of another one" in str(done.exception)
        assert "(name: world-2)" in str(done.exception)
        assert done.stdout == ""


def test_an_unknown_old_study_and_a_store_that_is_not_there_are_named(tmp_path: Path) -> None:
    assert "Did you mean 'world'?" in str(run("fork", "word", "narrow.yaml").exception)
    missing = run("fork", "world", "narrow.yaml", "--store", f"sqlite:///{tmp_path}/none.db")
    assert isinstance(missing.exception, StoreError)
    assert not (tmp_path / "none.db").exists()


def test_nothing_to_import_leaves_nothing_behind() -> None:
    Path("other.yaml").write_text(study_text("other").replace("line: {}", "line: {gain: 0.123}"))
    done = run("fork", "world", "other.yaml")
    assert isinstance(done.exception, UseError)
    assert "8 with another architecture.line.gain than the new study's" in str(done.exception)
    assert [row["study"] for row in json.loads(run("studies", "--json").stdout)["studies"]] == [
        "world"
    ]


def test_the_command_is_there() -> None:
    assert COMMANDS["fork"] == "automl_sr.cli.fork:fork"
