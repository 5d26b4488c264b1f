"""A search from beginning to end, with trials that take no time."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from search_world import FakeTask, find, load, made_up, registry, run_fast, study_text
from sqlalchemy import update

from automl_sr.errors import (
    AutomlSRError,
    DataError,
    NotFiniteError,
    StopRequestedError,
    StoreError,
    StoreUnreachableError,
    TrialError,
    UseError,
)
from automl_sr.files import write_atomically
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.search import study
from automl_sr.search.engine import Options, search
from automl_sr.search.resume_study import FREE_TO_CHANGE, changes
from automl_sr.search.workers.failures import cause_of, failure_words, one_line
from automl_sr.search.workers.stop_signal import Stop
from automl_sr.search.workers.worker import MOST_FREE, MOST_TAKEOVERS, Worker
from automl_sr.store import models
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store
from automl_sr.trial.types import Outcome


def reader(folder: Path) -> Reader:
    return Reader.open(f"sqlite:///{folder}/store.db")


def rows(folder: Path, name: str = "world") -> list[Any]:
    opened = reader(folder)
    return opened.trials(opened.study(name))


def fixed_recipe(**fields: Any) -> str:
    """A space in which only the width is open."""
    text = study_text(**fields)
    return text.replace("line: {}", "line: {width: [1, 3], gain: 0.5}").replace(
        "recipe: {lr: [0.001, 0.1]}",
        "recipe: {lr: 0.02, batch: 16, patch: 32, loss: l1, ema: 0.99}",
    )


def test_a_search_ends_with_its_budget_and_a_front(tmp_path: Path) -> None:
    end = find(load(trials=8), tmp_path)
    assert end.error is None
    assert list(end.summary) == ["study", "store", "trials", "front", "seconds"]
    assert end.summary["trials"] == {
        "complete": 8, "pruned": 0, "infeasible": 0, "duplicate": 0, "failed": 0, "running": 0,
    }  # fmt: skip
    assert end.reference == {"score": 1.5}
    for member in end.summary["front"]:
        assert list(member) == ["number", "values", "plan", "artifacts"]
        assert list(member["values"]) == ["score", "params"]
        assert Path(member["artifacts"]["onnx"]).is_file()
    scores = [member["values"]["score"] for member in end.summary["front"]]
    assert scores == sorted(scores, reverse=True), "best first"
    assert json.loads(json.dumps(end.summary)) == end.summary


def test_trial_0_is_the_baseline(tmp_path: Path) -> None:
    find(load(trials=1), tmp_path)
    [first] = rows(tmp_path)
    assert first.number == 0
    assert (first.params["architecture.line.width"], first.params["architecture.line.gain"]) == (
        16,
        0.5,
    )


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_a_search_in_parts_proposes_what_one_in_a_piece_does(tmp_path: Path, sampler: str) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    find(load(sampler=sampler, trials=14), whole)
    for trials in (1, 5, 12, 14):
        find(load(sampler=sampler, trials=4), parts, trials=trials)
    assert [row.plan for row in rows(parts)] == [row.plan for row in rows(whole)]
    assert [row.values for row in rows(parts)] == [row.values for row in rows(whole)]


def test_the_budget_is_a_total_over_resumes(tmp_path: Path) -> None:
    find(load(trials=5), tmp_path)
    again = find(load(trials=5), tmp_path)
    assert again.summary["trials"]["complete"] == 5
    more = find(load(trials=5), tmp_path, trials=7)
    assert more.summary["trials"]["complete"] == 7


def test_time_is_a_total_over_resumes(tmp_path: Path) -> None:
    find(load(trials=3), tmp_path)
    with Store.open(f"sqlite:///{tmp_path}/store.db").writing() as session:
        session.execute(update(models.Study).values(seconds=600.0))
    end = find(load(trials=3), tmp_path, trials=9, minutes=10)
    assert end.summary["trials"]["complete"] == 3
    assert "The time is up" in end.note
    assert end.error is None


def test_no_trial_begins_when_too_little_time_is_left(tmp_path: Path) -> None:
    find(load(trials=3), tmp_path)
    with Store.open(f"sqlite:///{tmp_path}/store.db").writing() as session:
        session.execute(update(models.Trial).values(seconds=1000.0))
    end = find(load(trials=3), tmp_path, trials=9, minutes=5)
    assert end.summary["trials"]["complete"] == 3
    assert "too short for another trial" in end.note


def test_an_observed_metric_is_measured_and_neither_limits_nor_ranks(tmp_path: Path) -> None:
    end = find(load(trials=3, more="observe: [size_bytes]\n"), tmp_path, run_observing)
    assert all("size_bytes" in row["values"] for row in end.summary["front"])
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    study = opened.study("world")
    assert study.metrics[-1] == "size_bytes"
    told = optuna.load_study(study_name="world", storage=f"sqlite:///{tmp_path}/store.db").trials
    assert {len(trial.values) for trial in told if trial.values} == {len(study.objectives)}


def run_observing(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    assert "size_bytes" in setting.metrics
    outcome = run_fast(plan, setting, observer, folder)
    return replace(outcome, values={**outcome.values, "size_bytes": 10.0})


@pytest.mark.ci
def test_a_trial_whose_model_outgrows_a_limit_in_training_ends_as_infeasible_and_is_free(
    tmp_path: Path,
) -> None:
    def growing(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        observer.stage("train")
        if plan.params["architecture.line.width"] != 16:
            setting.fits(Blueprint("line", {"width": 64}))
        return run_fast(plan, setting, observer, folder)

    end = find(load(trials=2, more="constraints: {params: {max: 1200}}\n"), tmp_path, growing)
    assert end.summary["trials"]["infeasible"] >= 1
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    outgrown = [
        trial for trial in opened.trials(opened.study("world")) if trial.state == "infeasible"
    ]
    assert {trial.reason for trial in outgrown} >= {
        "params would be 1,217, at most 1,200 is asked, as training has changed the model"
    }
    assert all(trial.violations["params"] > 0 for trial in outgrown)


def test_time_that_runs_out_leaves_the_trial_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl_sr.search.workers.stop_signal.time.monotonic", ticking := Ticking())

    def late(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        assert not observer.stop_requested()
        ticking.now += 3600
        assert observer.stop_requested()
        raise StopRequestedError("Stopped at step 7.")

    end = find(load(trials=3), tmp_path, late, minutes=5)
    assert end.summary["trials"] == {**dict.fromkeys(end.summary["trials"], 0), "running": 1}
    assert "A trial is half-way" in end.note
    assert end.error is None
    assert find(load(trials=3), tmp_path).summary["trials"]["complete"] == 3
    assert [row.number for row in rows(tmp_path)] == [0, 1, 2]


class Ticking:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_duplicates_copy_the_values_are_free_and_end_a_study_that_has_nothing_new(
    tmp_path: Path,
) -> None:
    end = find(load(fixed_recipe(trials=30)), tmp_path)
    counts = end.summary["trials"]
    assert counts["complete"] == 3, "widths 1 to 3; the baseline is one of them"
    assert counts["duplicate"] >= MOST_FREE
    assert end.error is None
    assert "Everything in this space has been tried" in end.note
    first = {row.fingerprint: row for row in reversed(rows(tmp_path)) if row.state == "complete"}
    for row in rows(tmp_path):
        if row.state == "duplicate":
            assert row.values == first[row.fingerprint].values
            assert row.duplicate_of == first[row.fingerprint].number
    assert not {member["number"] for member in end.summary["front"]} & {
        row.number for row in rows(tmp_path) if row.state == "duplicate"
    }


def test_infeasible_plans_are_never_trained_and_are_free(tmp_path: Path) -> None:
    trained = []

    def watched(plan: Any, *rest: Any) -> Outcome:
        trained.append(made_up(plan)["params"])
        return run_fast(plan, *rest)

    end = find(load(trials=6, more="constraints: {params: {max: 600}}\n"), tmp_path, watched)
    counts = end.summary["trials"]
    assert counts["complete"] == 6
    assert counts["infeasible"] > 0
    assert max(trained) <= 600
    reasons = [row.reason for row in rows(tmp_path) if row.state == "infeasible"]
    assert all(
        re.fullmatch(r"params would be [\d,]+, at most 600 is asked", reason) for reason in reasons
    )


@pytest.mark.ci
def test_a_space_without_a_feasible_plan_ends_with_that_word(tmp_path: Path) -> None:
    end = find(load(trials=6, more="constraints: {params: {max: 1}}\n"), tmp_path)
    assert end.summary["trials"]["infeasible"] == MOST_FREE
    assert isinstance(end.error, AutomlSRError)
    assert "Relax the constraints" in str(end.error)


def test_a_complete_trial_that_breaks_a_limit_as_exported_is_not_in_the_front(
    tmp_path: Path,
) -> None:
    def heavier(plan: Any, *rest: Any) -> Outcome:
        outcome = run_fast(plan, *rest)
        return Outcome(
            "complete", {**outcome.values, "params": 5000.0, "score": 99.0}, outcome.artifacts, {}
        )

    end = find(load(trials=1, more="constraints: {params: {max: 600}}\n"), tmp_path, heavier)
    assert end.summary["trials"]["complete"] == 1
    assert end.summary["front"] == []
    assert rows(tmp_path)[0].reason == "params is 5,000, at most 600 is asked"


def failing(*errors: Exception | None) -> Callable[..., Outcome]:
    left = list(errors)

    def run(plan: Any, *rest: Any) -> Outcome:
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return run_fast(plan, *rest)

    return run


def test_a_trial_that_fails_does_not_stop_the_search(tmp_path: Path) -> None:
    errors = (
        ValueError("shapes\ndo not fit"),
        NotFiniteError("the loss is nan"),
        MemoryError(),
        None,
    )
    end = find(load(trials=6), tmp_path, failing(*errors))
    assert (end.summary["trials"]["failed"], end.summary["trials"]["complete"]) == (3, 3)
    found = rows(tmp_path)
    assert [row.reason for row in found[:3]] == [
        "ValueError: shapes do not fit",
        "the loss is nan",
        "MemoryError",
    ]
    opened = reader(tmp_path)
    [event] = opened.events(opened.study("world"), 0)
    assert event.kind == "failed"
    assert "Traceback" in event.text


def test_five_failures_with_one_cause_stop_the_search_and_a_resume_tries_again(
    tmp_path: Path,
) -> None:
    errors = [TrialError(f"CUDA device {number} is gone") for number in range(9)]
    end = find(load(trials=20), tmp_path, failing(*errors))
    assert end.summary["trials"]["failed"] == 5
    assert end.error is not None
    assert end.error.exit_code == 1
    assert "5 trials in a row failed with the same cause: CUDA device 4 is gone" in str(end.error)
    assert find(load(trials=20), tmp_path).summary["trials"] == {
        "complete": 15, "pruned": 0, "infeasible": 0, "duplicate": 0, "failed": 5, "running": 0,
    }  # fmt: skip


@pytest.mark.ci
def test_different_causes_do_not_add_up(tmp_path: Path) -> None:
    errors = [TrialError(word) for word in ("a", "b", "a", "b", "a", "b")]
    assert find(load(trials=8), tmp_path, failing(*errors)).summary["trials"]["failed"] == 6


def test_a_value_that_is_no_number_fails_the_trial(tmp_path: Path) -> None:
    def broken(plan: Any, *rest: Any) -> Outcome:
        outcome = run_fast(plan, *rest)
        return Outcome("complete", {**outcome.values, "score": float("nan")}, outcome.artifacts, {})

    end = find(load(trials=1), tmp_path, broken)
    assert rows(tmp_path)[0].reason == "score was measured as nan."
    assert str(end.error).startswith("No trial was completed.")


def test_trials_are_stopped_at_rungs_and_samplers_are_told(tmp_path: Path) -> None:
    def judged(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        outcome = run_fast(plan, setting, observer, folder)
        for index in range(2):
            if not observer.rung(index, 100 * (index + 1), outcome.values, outcome.artifacts):
                return Outcome("pruned", outcome.values, outcome.artifacts, outcome.seconds)
        return outcome

    end = find(
        load(trials=20, scheduler="{kind: pareto-asha, rungs: 3, reduction: 2}"), tmp_path, judged
    )
    assert end.summary["trials"]["pruned"] > 2
    assert end.summary["trials"]["complete"] + end.summary["trials"]["pruned"] == 20
    pruned = {row.number for row in rows(tmp_path) if row.state == "pruned"}
    opened = reader(tmp_path)
    for number in pruned:
        assert not opened.rungs(opened.study("world"), number)[-1].go_on


def test_the_front_holds_stopped_trials_too_where_nothing_dominates_their_models(
    tmp_path: Path,
) -> None:
    def stopped(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        outcome = run_fast(plan, setting, observer, folder)
        observer.rung(0, 100, outcome.values, outcome.artifacts)
        return Outcome("pruned", outcome.values, outcome.artifacts, outcome.seconds)

    end = find(
        load(trials=12, scheduler="{kind: pareto-asha, rungs: 3, reduction: 2}"), tmp_path, stopped
    )
    objectives = end.summary["front"][0]["values"].keys() & {"score", "params"}
    assert len(objectives) >= 1
    best = max(row.values["score"] for row in rows(tmp_path))
    assert end.summary["front"][0]["values"]["score"] == best
    assert all(member["artifacts"] for member in end.summary["front"])


def test_a_change_of_the_study_file_is_named_and_refused(tmp_path: Path) -> None:
    find(load(trials=2), tmp_path)
    with pytest.raises(UseError, match=r"search\.seed: 0 is now 1.*Rename the study in the file"):
        find(load(trials=2, seed=1), tmp_path)
    with pytest.raises(UseError, match=r"space\.recipe\.lr"):
        find(load(study_text(trials=2).replace("[0.001, 0.1]", "[0.001, 0.2]")), tmp_path)
    assert (
        find(
            load(study_text(trials=3).replace("steps: 1000", "steps: 1000, minutes: 60")), tmp_path
        ).error
        is None
    )


def test_changes_are_found_leaf_by_leaf() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": {}}
    assert changes(old, {"a": {"b": 1, "c": (1, 2)}, "d": {}}) == {}
    assert changes(old, {"a": {"b": 2}, "d": {"e": None}, "f": 0}) == {
        "a.b": (1, 2), "a.c": ([1, 2], "nothing"), "d": ({}, "nothing"), "f": ("nothing", 0),
    }, "a key that is new and says nothing is no change"  # fmt: skip
    assert "budget.trials" in FREE_TO_CHANGE


@pytest.mark.parametrize(
    "options", [{"trials": 0}, {"minutes": 0}, {"minutes": float("nan")}, {"device": "tpu"}]
)
def test_bad_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UseError):
        find(load(), tmp_path, **options)


def test_data_that_is_missing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: Any, *_: Any) -> Any:
        raise DataError("There is no set 'T91'.")

    monkeypatch.setattr("search_world.FakeTask.load", missing)
    with pytest.raises(DataError):
        find(load(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_studies_share_a_store(tmp_path: Path) -> None:
    find(load(name="one", trials=2), tmp_path)
    find(load(name="two", trials=3), tmp_path)
    assert [(s.name, s.counts["complete"]) for s in reader(tmp_path).studies()] == [
        ("one", 2),
        ("two", 3),
    ]


def test_an_optuna_study_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    import optuna

    other = optuna.create_study(study_name="world", storage=f"sqlite:///{tmp_path}/store.db")
    other.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(StoreError, match="is not automl-sr's"):
        find(load(), tmp_path)
    assert len(other.trials) == 1


@pytest.mark.ci
def test_a_worker_that_died_between_two_writes_is_followed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna's trial was made but our row does not know it; later our row was written but Optuna
    was not told.
    """
    find(load(sampler="tpe", trials=14), tmp_path / "whole")
    folder = tmp_path / "parts"
    for lost, trials in (
        ("automl_sr.store.repository.Store.freeze", 5),
        ("automl_sr.search.optuna.sync.tell", 12),
    ):
        find(load(sampler="tpe", trials=trials - 1), folder)
        with monkeypatch.context() as patched:
            patched.setattr(lost, killed)
            let_killed_out(patched)
            with pytest.raises(Killed):
                find(load(sampler="tpe", trials=trials), folder)
        with Store.open(f"sqlite:///{folder}/store.db").writing() as session:
            session.execute(update(models.Trial).values(lease_until=0.0, lease_uptime=0.0))
    find(load(sampler="tpe", trials=14), folder)
    assert [row.plan for row in rows(folder)] == [row.plan for row in rows(tmp_path / "whole")]
    import optuna

    told = optuna.load_study(study_name="world", storage=f"sqlite:///{folder}/store.db").trials
    assert [trial.state.name for trial in told] == ["COMPLETE"] * 14


class Killed(BaseException):
    """Stands for a process that ends in the middle."""


def let_killed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is raised in a trial end the search, as a process would end."""
    monkeypatch.setattr("automl_sr.search.workers.worker.contained", lambda work, **_: work())


def killed(*_: Any, **__: Any) -> Any:
    raise Killed


def test_the_environment_is_recorded(tmp_path: Path) -> None:
    find(load(trials=1), tmp_path)
    found = reader(tmp_path).study("world").environment
    assert {"automl-sr", "python", "packages", "plugins", "threads", "train_device"} <= set(found)
    assert found["plugins"] == {"world": "automl-sr 0.1.0"} or "world" in found["plugins"]


def test_nothing_of_an_ended_trial_is_left_in_the_work_folder(tmp_path: Path) -> None:
    def leaves(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        for name in ("trunk", "rung-0"):
            (folder / name).mkdir(parents=True)
            (folder / name / "file").write_text("x")
        return run_fast(plan, setting, observer, folder)

    find(load(trials=1), tmp_path, leaves)
    assert list(tmp_path.glob("**/work/world-*/00000*")) == []
    find(load(name="plain", trials=1), tmp_path)
    assert not list(tmp_path.glob("**/work/plain-*/00000"))


def test_a_study_of_the_same_name_in_another_store_keeps_its_own_folders(tmp_path: Path) -> None:
    place = {"artifacts": str(tmp_path / "files")}
    for name in ("one", "two"):
        search(
            load(trials=1),
            registry(),
            Options(store=f"sqlite:///{tmp_path}/{name}.db", **place),
            run=run_fast,
        )
    assert len(list((tmp_path / "files").glob("world-*/00000/model.onnx"))) == 2


def test_other_images_under_the_same_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(load(trials=1), tmp_path)
    loaded = FakeTask.load

    def other(self: Any, seed: int, shared: Any) -> Any:
        return replace(loaded(self, seed, shared), fingerprint="other images")

    monkeypatch.setattr("search_world.FakeTask.load", other)
    with pytest.raises(UseError, match="are not those with which it was begun"):
        find(load(trials=2), tmp_path)


def test_the_model_of_a_stopped_trial_tells_the_sampler_which_limit_it_breaks(
    tmp_path: Path,
) -> None:
    def stopped(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        outcome = run_fast(plan, setting, observer, folder)
        observer.rung(0, 100, outcome.values, outcome.artifacts)
        return Outcome("pruned", outcome.values, outcome.artifacts, outcome.seconds)

    text = study_text(trials=2).replace("budget:", "constraints: {score: {min: 1000}}\nbudget:", 1)
    find(load(text), tmp_path, stopped)
    told = optuna.load_study(study_name="world", storage=f"sqlite:///{tmp_path}/store.db").trials
    assert all(amount > 0 for trial in told for amount in trial.constraints.values())
    assert all(trial.constraints for trial in told)


def test_a_trial_that_takes_too_long_is_failed(tmp_path: Path) -> None:
    def slow(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        observer.stage("train")
        while not observer.stop_requested():
            pass
        raise StopRequestedError("Stopped at step 3.")

    loaded = load(study_text(trials=1).replace("steps: 1000", "steps: 1000, trial_minutes: 0.002"))
    find(loaded, tmp_path, slow)
    assert (
        rows(tmp_path)[0].reason == "it took longer than budget.trial_minutes (0.002) (stage train)"
    )


def test_a_trial_that_stands_still_is_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    def stuck(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        observer.stage("train")
        if not stood:
            stood.append(True)
            while True:
                pass
        return run_fast(plan, setting, observer, folder)

    stood: list[bool] = []
    loaded = load(study_text(trials=2).replace("steps: 1000", "steps: 1000, stall_minutes: 0.002"))
    find(loaded, tmp_path, stuck)
    assert [row.state for row in rows(tmp_path)] == ["failed", "complete"]
    assert (
        rows(tmp_path)[0].reason
        == "it made no progress for 0.12 s (stage train): budget.stall_minutes"
    )


def test_a_full_disk_fails_the_trial_and_not_the_search(tmp_path: Path) -> None:
    """A file system of one megabyte holds the artefacts, and what the first trial writes does not
    fit.
    """
    files = tmp_path / "files"
    files.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", files], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")

    def large(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        outcome = run_fast(plan, setting, observer, folder)
        if not written:
            written.append(True)
            write_atomically(folder / "model.onnx", bytes(2**20))
        return outcome

    written: list[bool] = []
    options = Options(store=f"sqlite:///{tmp_path}/store.db", artifacts=str(files))
    try:
        search(load(trials=2), registry(), options, run=large)
        assert [row.state for row in rows(tmp_path)] == ["failed", "complete"]
        assert "No space left on device" in str(rows(tmp_path)[0].reason)
        assert not list(files.glob("work/*/00000"))
    finally:
        subprocess.run(["umount", files], check=True)


def test_a_trial_whose_workers_die_again_and_again_is_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_killed_out(monkeypatch)

    def killed(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        observer.stage("evaluate")
        if observer._claim.number == 0:
            raise Killed
        return run_fast(plan, setting, observer, folder)

    for _ in range(MOST_TAKEOVERS):
        with pytest.raises(Killed):
            find(load(trials=2), tmp_path, killed)
        with sqlite3.connect(tmp_path / "store.db") as connection:
            dead = (
                "UPDATE automl_sr_trials SET lease_until = 1, owner = 'elsewhere:1:a' WHERE state ="
                " 'running'"
            )
            connection.execute(dead)
    find(load(trials=2), tmp_path, killed)
    assert [row.state for row in rows(tmp_path)] == ["failed", "complete"]
    assert str(rows(tmp_path)[0].reason).startswith(
        "its worker died 8 times at the same place (stage evaluate)"
    )


def test_numbers_that_json_lacks_and_halves_of_characters_do_not_end_the_search(
    tmp_path: Path,
) -> None:
    def odd(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        raise TrialError("no file \udce9.png, C:\\u0000, a\x00b")

    find(load(trials=1), tmp_path, odd)
    assert rows(tmp_path)[0].reason == "no file ?.png, C:\\u0000, ab"


def test_a_store_that_is_removed_ends_the_search_with_a_sentence(tmp_path: Path) -> None:
    def removing(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        (tmp_path / "store.db").unlink(missing_ok=True)
        return run_fast(plan, setting, observer, folder)

    with pytest.raises(StoreError, match="was removed or replaced while it was in use"):
        find(load(trials=3), tmp_path, removing)


def test_a_budget_that_another_resume_lowers_holds_for_running_workers_too(tmp_path: Path) -> None:
    def lowering(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        with sqlite3.connect(tmp_path / "store.db") as connection:
            connection.execute(
                "UPDATE automl_sr_studies SET spec = json_set(spec, '$.budget.trials', 3)"
            )
        return run_fast(plan, setting, observer, folder)

    find(load(trials=20), tmp_path, lowering)
    assert len(rows(tmp_path)) == 3


def test_reasons_are_one_line_and_causes_leave_numbers_out() -> None:
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert len(one_line(ValueError("x" * 2000))) == 500
    memory = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 80 GiB."
    )
    assert (
        failure_words(memory)
        == "the GPU has too little memory for this plan (2.50 GiB more were asked for):"
        " a smaller batch or patch needs less"
    )
    assert failure_words(ValueError("a\n  b")) == one_line(ValueError("a\n  b"))
    assert (
        cause_of("step 12: loss 1.5e-3")
        == cause_of("step 4: loss 22")
        != cause_of("step 4: cost 22")
    )


def test_workers_in_parallel_share_the_budget_and_propose_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers take turns, each in the middle of the other's trial."""
    from automl_sr.search.study import open_study

    find(load(sampler="random", trials=9), tmp_path / "alone")
    options = Options(store=f"sqlite:///{tmp_path}/both.db", artifacts=str(tmp_path / "files"))
    second: list[Worker] = []

    def nested(plan: Any, *rest: Any) -> Outcome:
        if not second:
            stop = Stop()
            monkeypatch.setattr(
                stop, "wait", lambda _: setattr(stop, "signal_number", 15)
            )  # nothing is left but ours
            second.append(
                Worker(
                    open_study(load(sampler="random", trials=9), registry(), options),
                    run_fast,
                    stop=stop,
                )
            )
            second[0].work()
        return run_fast(plan, *rest)

    end = search(load(sampler="random", trials=9), registry(), options, run=nested)
    assert end.summary["trials"]["complete"] == 9
    opened = Reader.open(options.store)
    assert [row.plan for row in opened.trials(opened.study("world"))] == [
        row.plan for row in rows(tmp_path / "alone")
    ]


@pytest.mark.parametrize(("where", "name"), [(Reader, "find_study"), (study, "make_sampler")])
def test_a_database_that_breaks_off_while_a_study_is_opened_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    """Before the study is there, when it has just been made, and where a worker joins it."""
    lost = StoreUnreachableError("The connection was lost.")
    left = [lost]
    real = getattr(where, name)

    def breaking(*given: Any) -> Any:
        if left:
            raise left.pop()
        return real(*given)

    monkeypatch.setattr(where, name, breaking)
    end = find(load(trials=2), tmp_path)
    assert left == []
    assert end.error is None
    assert end.summary["trials"]["complete"] == 2
    left.append(lost)
    joined = study.join_study(
        "world", registry(), Options(f"sqlite:///{tmp_path}/store.db", device="cpu")
    )
    assert left == []
    assert joined.resumed
    joined.store.close()
