"""`automl-sr refine`: a table of before and after, JSON alone, and what `export` and `show` make of
it.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import typer
from refine_world import Trainer, World, make, options_in
from search_world import registry
from searched import Once
from typer.testing import CliRunner, Result

from automl_sr.cli.export import export
from automl_sr.cli.main import make_app
from automl_sr.cli.refine import refine
from automl_sr.cli.trials import show
from automl_sr.errors import StopRequestedError, UseError
from automl_sr.presentation.refinements import headings, table
from automl_sr.search.refine import refiner

APP = typer.Typer()
for command in (refine, export, show):
    APP.command()(command)
REFINE = refiner.refine


@pytest.fixture
def world(once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    once("three trials", lambda folder: make(options_in(folder), trials=3), tmp_path)
    made = World(tmp_path)
    monkeypatch.setenv("AUTOML_SR_STORE", str(made.options.store))
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("automl_sr.plugin.registry.installed", registry)
    train_with(monkeypatch, Trainer())
    return made


def train_with(monkeypatch: pytest.MonkeyPatch, trainer: Trainer) -> None:
    monkeypatch.setattr(
        refiner, "refine", lambda *given, **named: REFINE(*given, run=trainer, **named)
    )


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def test_json_stands_alone_on_standard_output(world: World) -> None:
    result = run("refine", "world", "--trials", "0", "--steps", 30, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (found["study"], found["refinements"][0]["steps"]) == ("world", 30)
    assert "trial 0, seed 0: complete: score 40" in result.stderr
    assert "test set Set14: not there" in result.stderr


def test_people_get_before_and_after_side_by_side(world: World) -> None:
    result = run("refine", "world", "--trials", "0", "--quiet")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1] == [
        "trial",
        "seed",
        "steps",
        "score",
        "score",
        "refined",
        "params",
        "Set5",
        "score",
    ]
    before = world.store.trial(world.study, 0).values["score"]
    assert lines[2] == ["0", "0", "4,000", f"{before:.4g}", "40", "305", "30"]
    assert "trial 0, seed 0: complete: test set Set14: not there" in result.stdout
    assert "automl-sr export world 0 --refined -o DIR" in result.stdout
    assert result.stderr == ""


def test_several_seeds_have_their_mean_and_deviation(world: World) -> None:
    result = run("refine", "world", "--trials", "0", "--seeds", 3, "--quiet")
    assert "mean of 3" in result.stdout
    assert "41 ± 1" in result.stdout
    assert "31 ± 1" in result.stdout


@pytest.mark.parametrize(
    "given", [["--trials", "0,1"], ["--trials", "0", "--trials", "1"], ["--trials", " 1, 0"]]
)
def test_trials_are_named_with_commas_or_again_and_again(world: World, given: list[str]) -> None:
    found = json.loads(run("refine", "world", *given, "--json").stdout)
    assert [row["number"] for row in found["refinements"]] == [0, 1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--trials", "0,x"], "'x' is no number"),
        (["--trials", "-1"], "'-1' is no number"),
        (["--trials", "0", "--top", "1"], "Leave one of them out"),
        (["--top", "0"], "--top 0 is too few"),
        (["--steps", "0"], "--steps 0 is too few"),
        (["--steps", "9", "--minutes", "1"], "--steps and --minutes both"),
        (["--minutes", "0"], "--minutes 0 is no time"),
        (["--minutes", "nan"], "--minutes nan is no time"),
        (["--seeds", "0"], "--seeds 0 is too few"),
        (["--threads", "0"], "--threads 0"),
        (["--device", "tpu"], "Unknown device 'tpu'"),
    ],
)
def test_what_makes_no_sense_is_refused(world: World, given: list[str], said: str) -> None:
    result = run("refine", "world", *given)
    assert isinstance(result.exception, UseError)
    assert said in str(result.exception)
    assert world.rows() == []


def test_ctrl_c_says_how_to_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    train_with(monkeypatch, Trainer(between=lambda *_: os.kill(os.getpid(), signal.SIGINT)))
    result = run("refine", "world", "--trials", "0", "--seeds", 2, "--steps", 9, "--quiet")
    assert isinstance(result.exception, StopRequestedError)
    assert result.exception.exit_code == 130
    assert str(result.exception).endswith("automl-sr refine world --trials 0 --steps 9 --seeds 2")
    assert "trial 0, seed 1: waiting" in result.stdout


def test_show_lists_the_refinements_of_a_trial(world: World) -> None:
    run("refine", "world", "--trials", "0", "--quiet")
    found = json.loads(run("show", "world", 0, "--json").stdout)
    assert [(row["seed"], row["values"]["score"]) for row in found["refinements"]] == [(0, 40.0)]
    assert found["values"] == dict(world.store.trial(world.study, 0).values)
    assert "refined (values of the search stand first):" in run("show", "world", 0).stdout
    assert json.loads(run("show", "world", 2, "--json").stdout)["refinements"] == []


def test_the_newest_refinement_is_exported_with_a_card_of_both(
    world: World, tmp_path: Path
) -> None:
    run("refine", "world", "--trials", "0", "--steps", 30, "--quiet")
    run("refine", "world", "--trials", "0", "--steps", 20, "--quiet")
    result = run("export", "world", 0, "--refined", "-o", tmp_path / "model")
    assert result.exit_code == 0, result.exception
    assert "20 more steps" in (tmp_path / "model" / "model.onnx").read_text()
    card = (tmp_path / "model" / "README.md").read_text()
    before = world.store.trial(world.study, 0).values["score"]
    for word in (
        "# world, trial 0, refined",
        "| score | 40 | 1.5 |",
        f"- score: {before:.4g}",
        "- Set5: score 30",
        "- further steps, on all training samples: 20",
    ):
        assert word in card


def test_a_trial_that_was_not_refined_says_how(world: World, tmp_path: Path) -> None:
    result = run("export", "world", 0, "--refined", "-o", tmp_path / "model")
    assert isinstance(result.exception, UseError)
    assert "automl-sr refine world --trials 0" in str(result.exception)


def row(number: int, seed: int, state: str = "complete", **values: float) -> dict[str, Any]:
    tests = (
        {"Set5": {"psnr_y": 35.0 + seed, "ssim_y": 0.95, "psnr_rgb": 33.0}}
        if state == "complete"
        else {}
    )
    searched = {"psnr_y": 30.0, "params": 305.0}
    done = {"psnr_y": 31.0 + seed, "params": 305.0} if state == "complete" else {}
    return {
        "number": number,
        "seed": seed,
        "steps": 100,
        "state": state,
        "values": done,
        "search_values": searched,
        "tests": tests,
    }


def test_the_table_shows_the_usual_metrics_of_test_sets_and_no_column_twice() -> None:
    rows = [row(7, 0), row(7, 1), row(8, 0), row(8, 1, "failed")]
    metrics = ("psnr_y", "params")
    assert headings(rows, metrics) == [
        "psnr_y",
        "psnr_y refined",
        "params",
        "Set5 psnr_y",
        "Set5 ssim_y",
    ]
    assert table(rows, metrics) == [
        [7, 0, 100, 30.0, 31.0, 305.0, 35.0, 0.95],
        [7, 1, 100, 30.0, 32.0, 305.0, 36.0, 0.95],
        [7, "mean of 2", 100, "30", "31.5 ± 0.71", "305", "35.5 ± 0.71", "0.95"],
        [8, 0, 100, 30.0, 31.0, 305.0, 35.0, 0.95],
        [8, 1, 100, 30.0, None, 305.0, None, None],
    ]


def test_it_is_a_command() -> None:
    assert "refine" in {info.name for info in make_app().registered_commands}
