"""`automl-sr replay`, from a table file and from a study in a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from replay_world import made_up
from search_world import find, load, registry, run_fast
from typer.testing import CliRunner, Result

from automl_sr.cli.replay import replay
from automl_sr.errors import StoreError, UseError

APP = typer.Typer()
APP.command()(replay)
FEW = ("--samplers", "tpe,random", "--seeds", "3")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "table.json"
    made_up(40).save(path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they need to be, whatever terminal the tests run in."""
    monkeypatch.delenv("COLUMNS", raising=False)


def test_a_table_is_compared_and_the_json_stands_alone(table: Path, tmp_path: Path) -> None:
    done = run(table, *FEW, "--json", "-o", tmp_path / "replay.png")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found) == [
        "study", "table", "seconds", "workers", "seeds", "best_rival", "target", "combinations", "curves", "kendall",
        "notes",
    ]  # fmt: skip
    assert found["table"]["rows"] == {"complete": 40, "infeasible": 0, "failed": 0}
    names = ["tpe+pareto-asha", "tpe+none", "random+pareto-asha", "random+none"]
    assert [item["name"] for item in found["combinations"]] == names
    assert list(found["combinations"][0]) == [
        "name", "sampler", "scheduler", "hypervolume", "mean_rank", "to_target", "tried", "complete",
    ]  # fmt: skip
    assert list(found["curves"]) == ["seconds", *names]
    assert found["best_rival"] in ("tpe+none", "random+none")
    assert [item["rung"] for item in found["kendall"]] == [0, 1]
    with Image.open(tmp_path / "replay.png") as image:
        assert image.format == "PNG"


def test_a_person_reads_a_table(table: Path) -> None:
    done = run(table, *FEW, "--minutes", 1)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "made-up: 40 complete; 3 simulated studies of 1 min 0 s each"
    assert "combination" in lines[2]
    assert "hypervolume" in lines[2]
    assert lines[3].startswith("tpe+pareto-asha")
    assert "Kendall's tau-b" in done.stdout


def test_who_tries_most_of_a_table_is_named(table: Path) -> None:
    long = run(table, *FEW, "--minutes", 1000)
    assert (
        "note: tpe+pareto-asha, tpe+none, random+pareto-asha, random+none tried most of the table"
        in long.stderr
    )
    assert run(table, *FEW, "--minutes", 0.1).stderr == ""


def test_a_study_is_compared_as_the_table_that_it_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl_sr.plugin.registry.installed", registry)
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{tmp_path}/store.db")
    find(load(trials=6, sampler="qmc"), tmp_path, run_fast)
    given = ("--minutes", 1, "--json", "--samplers", "random,qmc", "--seeds", 2)
    stored = run(
        "world", *given, "--save", tmp_path / "made.json", "--reference", "score=20,params=5000"
    )
    assert stored.exit_code == 0, stored.output
    found = json.loads(stored.stdout)
    assert found["table"]["reference"] == {"score": 20.0, "params": 5000.0}
    assert found["notes"][0] == "no rungs were recorded, so that no scheduler has anything to judge"
    again = json.loads(run(tmp_path / "made.json", *given).stdout)
    assert again["combinations"] == found["combinations"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--samplers", "gpp"], "Unknown sampler 'gpp'"),
        (["--schedulers", "asha"], "Unknown scheduler 'asha'. Did you mean 'pareto-asha'?"),
        (["--seeds", 0], "--seeds 0 is out of range. Write 1 to 1000."),
        (["--minutes", 0], "--minutes 0 is no time."),
        (["--workers", 0], "--workers 0 is no number of workers."),
        (["--reference", "psnr=1"], "A table file has its reference point."),
        (["--reference", "psnr"], "--reference 'psnr' is no METRIC=VALUE."),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(
    table: Path, arguments: list[Any], words: str
) -> None:
    error = run(table, *arguments).exception
    assert isinstance(error, UseError)
    assert words in str(error)


def test_a_study_or_file_that_is_not_there_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There is no table" in str(run(tmp_path / "gone.json").exception)
    find(load(trials=1), tmp_path, run_fast)
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{tmp_path}/store.db")
    error = run("wrld").exception
    assert isinstance(error, StoreError)
    assert "There is no study 'wrld'" in str(error)
