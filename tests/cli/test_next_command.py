"""What `search`, `worker` and `fork` offer to run next, and what they say where there is no
front.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import search_world
import typer
from search_world import find, load, registry, study_text
from typer.testing import CliRunner, Result

from automl_sr.cli.fork import fork
from automl_sr.cli.search import next_command, search, show_end, without_front
from automl_sr.errors import AutomlSRError, Offer, StopRequestedError
from automl_sr.search import engine
from automl_sr.search.engine import SearchEnd

APP = typer.Typer()
APP.command()(search)
APP.command()(fork)
STATES = ("complete", "pruned", "infeasible", "duplicate", "failed", "running")
SUMMARY = {"trials": dict.fromkeys(STATES, 0), "front": [], "seconds": 0.0}


@pytest.fixture(autouse=True)
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    real = engine.search
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("automl_sr.plugin.registry.installed", registry)
    monkeypatch.setattr(
        engine, "search", lambda *given, **named: real(*given, run=search_world.run_fast, **named)
    )
    monkeypatch.delenv("AUTOML_SR_STORE", raising=False)
    monkeypatch.delenv("AUTOML_SR_ARTIFACTS", raising=False)
    Path("study.yaml").write_text(study_text(trials=2))
    return f"sqlite:///{tmp_path}/my.db"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def test_only_options_that_were_given_are_repeated() -> None:
    assert next_command("worker a", None, device=None, no_cache=False) == "automl-sr worker a"
    written = next_command(
        "search s.yaml", "sqlite:///my runs/a.db", trials=9, minutes=10.0, no_cache=True
    )
    assert (
        written
        == "automl-sr search s.yaml --store 'sqlite:///my runs/a.db' --trials 9 --minutes 10"
        " --no-cache"
    )


def test_a_password_is_not_printed() -> None:
    written = next_command("search s.yaml", "postgresql://me:hidden@host/runs", workers=2)
    assert written == "automl-sr search s.yaml --workers 2 (with AUTOML_SR_STORE set to this store)"
    assert next_command("trials a", "postgresql://me@host/runs").endswith(
        "trials a --store postgresql://me@host/runs"
    )


def test_the_store_that_was_named_is_where_a_model_is_taken_from(url: str) -> None:
    done = run("search", "study.yaml", "--store", url, "--quiet")
    assert done.stdout.splitlines()[-1].endswith(f" -o DIR --store {shlex.quote(url)}")


def test_an_interrupted_search_goes_on_with_the_same_options(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> SearchEnd:
        return SearchEnd(SUMMARY, {}, "", "", StopRequestedError("Stopped."))

    monkeypatch.setattr(engine, "search", stopped)
    given = (
        f"search study.yaml --store {url} --artifacts files --trials 7 --minutes 1.5 --device cpu"
        " --no-cache"
    )
    done = run(*given.split())
    assert str(done.exception) == f"Stopped. Go on with: automl-sr {given}"
    assert "No trial is complete yet." in done.stdout


def test_a_fork_goes_on_in_the_same_store(tmp_path: Path) -> None:
    find(load(trials=2), tmp_path)
    Path("new.yaml").write_text(study_text("new"))
    store = f"sqlite:///{tmp_path}/store.db"
    done = run("fork", "world", "new.yaml", "--store", store)
    assert done.stdout.splitlines()[-1] == f"Go on with: automl-sr search new.yaml --store {store}"


def test_failures_are_to_be_looked_up_in_the_same_store(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(*_: Any) -> Any:
        raise ValueError("no luck")

    monkeypatch.setattr(search_world, "run_fast", bad)
    done = run("search", "study.yaml", "--store", url)
    assert str(done.exception).endswith(f"See why with: automl-sr trials world --store {url}")
    assert "All trials have failed." in done.stdout


@pytest.mark.parametrize(
    ("store", "offer"),
    [
        (None, "`automl-sr show world 3`."),
        ("sqlite:///a.db", "`automl-sr show world 3 --store sqlite:///a.db`."),
        (
            "postgresql://me:hidden@host/a",
            "`automl-sr show world 3` (with AUTOML_SR_STORE set to this store).",
        ),
    ],
)
def test_a_command_in_an_error_of_a_worker_gets_the_store(store: str | None, offer: str) -> None:
    error = AutomlSRError(
        "Not by `automl-sr show world 4`.", offer=Offer("Shown by", "show world 3", quoted=True)
    )
    with pytest.raises(AutomlSRError) as raised:
        show_end(
            SearchEnd(SUMMARY, {}, "", "", error), load().spec, json=True, again="", store=store
        )
    assert str(raised.value) == f"Not by `automl-sr show world 4`. Shown by {offer}"


@pytest.mark.parametrize(
    ("counts", "constrained", "said"),
    [
        ({}, True, "No trial is complete yet."),
        ({"running": 1, "failed": 1}, True, "No trial is complete yet."),
        ({"infeasible": 1, "running": 1}, True, "No trial is complete yet."),
        ({"failed": 2, "duplicate": 1}, True, "All trials have failed."),
        (
            {"complete": 1, "failed": 1},
            True,
            "No model keeps to the constraints, so there is no front yet.",
        ),
        ({"infeasible": 2}, True, "No model keeps to the constraints, so there is no front yet."),
        ({"infeasible": 2}, False, "No trial is complete yet."),
        (
            {"complete": 1},
            False,
            "No trial has values of all objectives, so there is no front yet.",
        ),
    ],
)
def test_why_there_is_no_front(counts: dict[str, int], constrained: bool, said: str) -> None:
    assert without_front(dict.fromkeys(STATES, 0) | counts, constrained=constrained) == said
