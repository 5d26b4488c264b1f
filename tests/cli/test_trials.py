"""`studies`, `trials`, `show` and `compare` on a store with a few trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from onnx_files import small_net
from search_world import find, load, registry, run_fast
from typer.testing import CliRunner, Result

from automl_sr.cli.trials import compare, show, studies, trials
from automl_sr.errors import DataError, StoreError, UseError
from automl_sr.search.output import OUTPUTS
from automl_sr.search.results import front_of
from automl_sr.store.reading import Reader

APP = typer.Typer()
for command in (studies, trials, show, compare):
    APP.command()(command)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("store")
    failures = iter([ValueError("no luck")])

    def run(plan: Any, setting: Any, observer: Any, place: Path) -> Any:
        if plan.params["architecture.line.width"] != 16:
            for error in failures:
                raise error
        outcome = run_fast(plan, setting, observer, place)
        if plan.params["architecture.line.width"] == 16:
            small_net(outcome.artifacts["onnx"])
        observer.rung(0, 100, outcome.values, outcome.artifacts)
        return outcome

    more = "constraints: {params: {max: 1000}}\n"
    find(load(trials=4, scheduler="{kind: pareto-asha, rungs: 2}", more=more), made, run)
    return made


@pytest.fixture(autouse=True)
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{folder}/store.db")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they need to be, whatever terminal the tests run in."""
    monkeypatch.delenv("COLUMNS", raising=False)


def test_studies_are_listed() -> None:
    found = json.loads(run("studies", "--json").stdout)
    [study] = found["studies"]
    assert (study["study"], study["objectives"], study["reference"]) == (
        "world",
        ["score", "params"],
        {"score": 1.5},
    )
    assert sum(study["trials"].values()) >= 4
    assert "world  score, params" in run("studies").stdout


def test_trials_are_listed_with_exactly_these_keys() -> None:
    found = json.loads(run("trials", "world", "--json").stdout)
    assert list(found) == ["study", "trials"]
    assert [row["number"] for row in found["trials"]] == list(range(len(found["trials"])))
    for row in found["trials"]:
        assert list(row) == ["number", "state", "values", "plan", "seconds", "reason", "front"]
        assert row["plan"]["architecture"] == "line"
    states = [row["state"] for row in found["trials"]]
    assert states.count("failed") == 1
    assert states.count("complete") == 3
    [failed] = [row for row in found["trials"] if row["state"] == "failed"]
    assert (failed["values"], failed["reason"]) == ({}, "ValueError: no luck")


def test_trials_can_be_chosen_by_state() -> None:
    found = json.loads(run("trials", "world", "--state", "failed", "--json").stdout)
    assert [row["state"] for row in found["trials"]] == ["failed"]
    assert isinstance(run("trials", "world", "--state", "lost").exception, UseError)
    assert "no luck" in run("trials", "world", "--state", "failed").stdout


def test_a_trial_is_shown_with_everything() -> None:
    found = json.loads(run("show", "world", 0, "--json").stdout)
    assert (found["number"], found["state"]) == (0, "complete")
    assert found["costs"] == {"params": 305.0}
    assert [(row["rung"], row["go_on"]) for row in found["rungs"]] == [(0, True)]
    assert [(row["phase"], row["step"], row["loss"]) for row in found["curve"]] == [
        ("train", 1, 0.5)
    ]
    assert [file["kind"] for file in found["artifacts"]] == ["onnx"]
    text = run("show", "world", 0).stdout
    for word in ("world, trial 0: complete", "architecture.line.width", "rungs:", "model.onnx"):
        assert word in text


def test_the_net_of_a_trial_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("show", "world", 0, "--draw").stdout == "world-0.svg: 2 layers, 4 parameters\n"
    result = run("show", "world", 0, "--draw", "net.svg", "--json")
    assert json.loads(result.stdout) == json.loads(run("show", "world", 0, "--json").stdout)
    assert "net.svg: 2 layers" in result.stderr
    assert Path("net.svg").read_text() == Path("world-0.svg").read_text()
    assert "Conv 1×1 · ReLU" in Path("net.svg").read_text()


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    failed = json.loads(run("trials", "world", "--state", "failed", "--json").stdout)["trials"][0]
    odd = json.loads(run("trials", "world", "--state", "complete", "--json").stdout)["trials"][-1]
    for arguments, error, words in (
        ((failed["number"], "--draw"), UseError, "is failed and left no model: ValueError"),
        ((odd["number"], "--draw"), DataError, "model.onnx cannot be read as ONNX"),
        ((0, "net.svg"), UseError, "Write --draw net.svg to draw the net"),
        ((0, "--draw", tmp_path), UseError, "Name another file after --draw"),
    ):
        result = run("show", "world", *arguments)
        assert isinstance(result.exception, error), result.exception
        assert words in str(result.exception)


def test_a_failure_is_shown_with_its_traceback() -> None:
    number = json.loads(run("trials", "world", "--state", "failed", "--json").stdout)["trials"][0][
        "number"
    ]
    assert "raise error" in run("show", "world", number).stdout


def test_trials_are_compared_where_they_differ() -> None:
    complete = json.loads(run("trials", "world", "--state", "complete", "--json").stdout)["trials"]
    first, second = complete[0]["number"], complete[1]["number"]
    found = json.loads(run("compare", "world", first, second, "--json").stdout)
    assert [row["number"] for row in found["trials"]] == [first, second]
    assert set(found["differences"]) == {"values", "costs", "plan"}
    assert "architecture" not in found["differences"]["plan"]
    assert set(found["differences"]["plan"]["architecture.line.width"]) == {str(first), str(second)}
    text = run("compare", "world", first, second).stdout
    assert f"trial {first}" in text
    assert "architecture.line.width" in text


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("trials", "wrld"), StoreError, "Did you mean 'world'?"),
        (("show", "world", 999), StoreError, "Numbers go from 0 to"),
        (("compare", "world", 1), UseError, "two or more"),
        (("compare", "world", 1, 1), UseError, "two or more"),
        (("studies", "--store", "sqlite:///none/none.db"), StoreError, "There is no store"),
    ],
)
def test_what_is_not_there_is_named(arguments: tuple[object, ...], error: type, words: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert words in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [("studies",), ("trials", "world"), ("show", "world", 0), ("compare", "world", 0, 1)],
    ids=lambda given: given[0],
)
def test_what_is_printed_has_the_shape_of_its_schema(arguments: tuple[Any, ...]) -> None:
    printed = json.loads(run(*arguments, "--json").stdout)
    described = OUTPUTS[arguments[0]].model_json_schema(mode="serialization")
    jsonschema.Draft202012Validator.check_schema(described)
    jsonschema.validate(printed, described)
    assert set(printed) == set(described["required"])


def test_the_front_is_marked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl_sr.plugin.registry.installed", registry)
    reader = Reader.open(f"sqlite:///{folder}/store.db")
    study = reader.study("world")
    front = {trial.number for trial in front_of(study, reader.trials(study), registry().metrics)}
    reader.close()
    listed = json.loads(run("trials", "world", "--json").stdout)["trials"]
    assert front
    assert {trial["number"] for trial in listed if trial["front"]} == front
    rows = run("trials", "world").stdout.splitlines()
    assert sum(", front" in row for row in rows) == len(front)


def test_a_front_whose_objectives_are_not_installed_is_unknown_and_not_empty() -> None:
    listed = json.loads(run("trials", "world", "--json").stdout)["trials"]
    assert {trial["front"] for trial in listed} == {None}
