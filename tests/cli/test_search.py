"""`automl-sr search`: JSON alone on standard output, a table for people, and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import search_world
import typer
from search_world import registry, study_text
from typer.testing import CliRunner, Result

from automl_sr.cli.live import LiveView, PlainLines, progress
from automl_sr.cli.search import search
from automl_sr.errors import StudyFileError, UseError
from automl_sr.presentation.numbers import duration
from automl_sr.presentation.plan_words import plan_words
from automl_sr.search import engine
from automl_sr.store.records import Result as Ended
from automl_sr.trial.types import Point

APP = typer.Typer()
APP.command()(search)


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = engine.search
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("automl_sr.plugin.registry.installed", registry)
    monkeypatch.setattr(
        engine, "search", lambda *given, **named: real(*given, run=search_world.run_fast, **named)
    )
    monkeypatch.delenv("AUTOML_SR_STORE", raising=False)
    monkeypatch.delenv("AUTOML_SR_ARTIFACTS", raising=False)


def run(*arguments: object, text: str | None = None) -> Result:
    Path("study.yaml").write_text(text or study_text(trials=4))
    return CliRunner().invoke(APP, ["study.yaml", *map(str, arguments)])


def test_json_stands_alone_on_standard_output() -> None:
    result = run("--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(found) == ["study", "store", "trials", "front", "seconds"]
    assert found["study"] == "world"
    assert found["store"] == "sqlite:///runs/automl-sr.db"
    assert found["trials"]["complete"] == 4
    assert Path("runs/automl-sr.db").is_file()
    assert Path(found["front"][0]["artifacts"]["onnx"]).is_relative_to(
        Path("runs/artifacts").resolve()
    )
    assert "trial 0: complete: score" in result.stderr


def test_people_get_the_front_with_the_reference_and_the_place() -> None:
    result = run("--quiet")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("world: 4 complete in ")
    assert [word for line in lines for word in line.split()[:1]].count("trial") == 1
    [reference] = [line for line in lines if line.startswith("reference")]
    assert reference.split()[1:3] == ["1.5", "-"]
    assert any("architecture=line width=" in line for line in lines)
    assert any(
        re.match(r"Models: .*/world-[0-9a-f]{8}, a folder for each trial$", line) for line in lines
    )
    assert lines[-1].startswith("Export one: automl-sr export world ")
    assert result.stderr == ""


def test_options_name_places_and_totals(tmp_path: Path) -> None:
    options = (
        "--store",
        f"sqlite:///{tmp_path}/my.db",
        "--artifacts",
        tmp_path / "files",
        "--trials",
        2,
        "--json",
    )
    assert json.loads(run(*options).stdout)["trials"]["complete"] == 2
    assert (tmp_path / "my.db").is_file()
    assert len(list((tmp_path / "files").glob("world-*/00000/model.onnx"))) == 1
    assert not Path("runs").exists()


def test_places_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{tmp_path}/env.db")
    monkeypatch.setenv("AUTOML_SR_ARTIFACTS", str(tmp_path / "env"))
    assert run("--quiet").exit_code == 0
    assert (tmp_path / "env.db").is_file()
    assert len(list((tmp_path / "env").glob("world-*"))) == 1


def test_a_mistake_in_the_file_is_the_error_that_names_the_line() -> None:
    result = run(text=study_text().replace("objectives:", "objektives:"))
    assert isinstance(result.exception, StudyFileError)
    assert str(result.exception).startswith("study.yaml:4:")
    assert result.stdout == ""


def test_an_unknown_device_is_refused_before_anything_is_made() -> None:
    result = run("--device", "tpu")
    assert isinstance(result.exception, UseError)
    assert not Path("runs").exists()


def test_a_failed_search_still_prints_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(*_: Any) -> Any:
        raise ValueError("no luck")

    monkeypatch.setattr(search_world, "run_fast", bad)
    result = run("--json")
    assert json.loads(result.stdout)["trials"]["failed"] == 4
    assert result.exception is not None
    assert "No trial was completed" in str(result.exception)


def opened(view: LiveView) -> list[str]:
    """Open a study of which one trial is complete, besides two that were imported; gives what is
    said from then on.
    """
    said: list[str] = []
    view.say = said.append
    metric = registry().metric("score")
    record = SimpleNamespace(
        counts={"complete": 3}, environment={"origin": {"states": {"complete": 2}}}, seconds=30.0, reference={},
        spec={"constraints": {}},
    )  # fmt: skip
    spec = SimpleNamespace(
        name="world", budget=SimpleNamespace(trials=9, minutes=2.0), objectives=("score",)
    )
    store = SimpleNamespace(
        name="sqlite:///x.db",
        study=lambda name: record,
        trials=lambda *_: [SimpleNamespace(number=0, values={"score": 30.0})],
    )
    setting = SimpleNamespace(train_device="cpu", threads=2)
    study: Any = SimpleNamespace(
        spec=spec,
        store=store,
        setting=setting,
        record=record,
        notes=("one",),
        resumed=True,
        objectives=[metric],
    )
    view.opened(study)
    return said


def test_the_live_view_shows_study_best_and_running_trial() -> None:
    view = LiveView()
    assert "reading the data" in str(view.render())
    said = opened(view)
    view.started(1, {"architecture": "line", "selection": "none"}, resumed=False)
    view.stage(1, "train")
    view.point(1, Point(50, 100, "train", 0.125, 1e-3, 1234.0, {"score": 29.5}))
    shown = str(view.render())
    assert "world: 1 of 9 trials (1 complete)" in shown
    assert "left" in shown
    assert "best: score 30 (trial 0)" in shown
    assert "trial 1: architecture=line" in shown
    assert "\n  train step 50 of 100, loss 0.125, 1,234 images/s, score 29.5" in shown
    view.finished(1, Ended("complete", {"score": 31.0}), 12.0)
    assert "best: score 31 (trial 1)" in str(view.render())
    assert "2 of 9 trials (2 complete)" in str(view.render())
    assert said[-1] == "trial 1: complete: score 31 (12 s)"


def test_the_live_view_shows_several_workers_in_a_line_each() -> None:
    view = LiveView()
    opened(view)
    for number, worker in (
        (7, "worker 2 (pid 123)"),
        (8, "worker 1 (pid 122)"),
        (6, "frodo (pid 5)"),
    ):
        view.started(number, {"architecture": "line"}, resumed=False)
        view.works(number, worker)
        view.stage(number, "train")
    view.point(7, Point(300, 500, "train", 0.0123, 1e-3, 900.0))
    view.point(8, Point(500, 500, "train", 0.0123, 1e-3, 900.0))
    view.stage(8, "evaluate")
    view.rung(8, 0, {"score": 29.5}, go_on=True)
    assert str(view.render()).splitlines()[2:] == [
        "frodo (pid 5): trial 6: train",
        "worker 1 (pid 122): trial 8: evaluate, score 29.5",
        "worker 2 (pid 123): trial 7: train step 300 of 500, loss 0.0123, 900 images/s",
    ]
    view.works(6, "")
    view.finished(8, Ended("complete", {"score": 29.5}), 1.0)
    assert [line.partition(":")[0] for line in str(view.render()).splitlines()[2:]] == [
        "worker 2 (pid 123)"
    ]


def test_plain_lines_say_where_each_trial_is_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr("automl_sr.cli.live.time", SimpleNamespace(monotonic=lambda: clock[0]))
    lines = PlainLines()
    for number in (1, 2):
        lines.started(number, {"architecture": "line"}, resumed=number == 2)
    for passed, number in ((14, 1), (2, 1), (1, 1), (0, 2)):
        clock[0] += passed
        lines.point(number, Point(50, 100, "train", 0.5, 1e-3, 10.0))
    assert capsys.readouterr().err.splitlines() == [
        "trial 1: architecture=line",
        "trial 2 goes on: architecture=line",
        "trial 1: train step 50 of 100, loss 0.5, 10 images/s",
        "trial 2: train step 50 of 100, loss 0.5, 10 images/s",
    ]


def test_plain_lines_say_a_rung_and_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines()
    lines.rung(3, 0, {"score": 30.0}, go_on=False)
    lines.finished(3, Ended("failed", reason="ValueError: x"), 61.0)
    assert capsys.readouterr().err.splitlines() == [
        "trial 3: rung 1: score 30: is stopped",
        "trial 3: failed: ValueError: x (1 min 1 s)",
    ]


def test_a_file_that_is_not_named_is_no_word_of_a_plan() -> None:
    plan = {"architecture": "net", "architecture.net.weights": "", "architecture.net.width": 8}
    assert plan_words(plan) == "architecture=net width=8"


def test_words_for_plans_times_and_progress() -> None:
    plan = {
        "selection": "none",
        "architecture": "line",
        "architecture.line.width": 8,
        "recipe.lr": 0.1,
    }
    assert plan_words(plan) == "architecture=line width=8"
    assert [duration(value) for value in (0.4, 59.4, 200, 7500)] == [
        "0 s",
        "59 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert (
        progress(Point(1, 2000, "train", 0.5, 1e-3, 10.0))
        == "train step 1 of 2,000, loss 0.5, 10 images/s"
    )
