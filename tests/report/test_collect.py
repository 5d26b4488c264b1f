"""What is collected of a study agrees with its store, is plain JSON, and changes nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from report_worlds import SCRIPT, STEPS, collected
from search_world import find, load, registry, run_fast

from automl_sr.errors import PluginError, StoreError
from automl_sr.plugin.registry import discover
from automl_sr.report.collect import collect
from automl_sr.search.results import summary
from automl_sr.store.reading import Reader
from automl_sr.trial.types import Outcome

PARTS = {
    "format", "made", "made_by", "study", "metrics", "environment", "front", "trials", "nets", "layers", "images",
    "efficiency", "history", "importance", "curves", "rungs", "judged", "failures", "costs", "shared",
}  # fmt: skip


def of_state(report: dict[str, Any], state: str) -> list[dict[str, Any]]:
    return [row for row in report["trials"] if row["state"] == state]


def test_it_is_plain_json(report: dict[str, Any]) -> None:
    assert set(report) == PARTS
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_front_is_that_of_search(report: dict[str, Any], folder: Path) -> None:
    opened = Reader.open(f"sqlite:///{folder}/store.db")
    found = summary(opened, "world", registry().metrics)["front"]
    assert [row["number"] for row in report["front"]] == [row["number"] for row in found]
    assert [row["number"] for row in report["trials"] if row["front"]] == sorted(
        row["number"] for row in found
    )
    for ours, theirs in zip(report["front"], found, strict=True):
        assert (ours["values"], ours["plan"]) == (theirs["values"], theirs["plan"])
        assert {file["kind"]: file["url"] for file in ours["files"]} == theirs["artifacts"]
        assert all(len(file["sha256"]) == 64 for file in ours["files"])


def test_the_study_is_told_with_its_limits_and_metrics(report: dict[str, Any]) -> None:
    score, params = report["metrics"]
    assert (score["name"], score["direction"], score["objective"], score["limits"]) == (
        "score",
        "maximize",
        True,
        {},
    )
    assert (params["name"], params["log"], params["limits"]) == ("params", True, {"max": 1100})
    assert report["study"]["reference"] == {"score": 1.5}
    assert SCRIPT in report["study"]["source"]


def test_the_rungs_tell_who_came_and_who_was_stopped(report: dict[str, Any]) -> None:
    first, second = report["rungs"]
    assert (first["steps"], second["steps"]) == ([100], [300])
    assert first["reached"] == len(of_state(report, "complete")) + len(of_state(report, "pruned"))
    assert second["reached"] == first["reached"] - len(first["stopped"])
    assert sorted(first["stopped"] + second["stopped"]) == [
        row["number"] for row in of_state(report, "pruned")
    ]
    at_first = [row["values"]["score"] for row in report["judged"] if row["rung"] == 0]
    assert (first["values"]["score"]["low"], first["values"]["score"]["high"]) == (
        min(at_first),
        max(at_first),
    )


def test_failures_are_grouped_though_their_numbers_differ(report: dict[str, Any]) -> None:
    by_state = {row["state"]: row for row in report["failures"]}
    assert len(report["failures"]) == len(by_state) == 2
    failed = of_state(report, "failed")
    assert len({row["reason"] for row in failed}) > 1
    assert by_state["failed"]["trials"] == [row["number"] for row in failed]
    assert by_state["failed"]["count"] == len(failed)
    assert by_state["failed"]["detail"].startswith("Traceback")
    assert by_state["infeasible"]["count"] == len(of_state(report, "infeasible"))


def test_costs_add_up(report: dict[str, Any]) -> None:
    costs = report["costs"]
    assert sum(row["trials"] for row in costs["states"].values()) == len(report["trials"])
    assert sum(row["seconds"] for row in costs["states"].values()) == pytest.approx(
        costs["seconds"]
    )
    complete, pruned = len(of_state(report, "complete")), len(of_state(report, "pruned"))
    assert costs["stages"]["train"] == pytest.approx(complete + 0.2 * pruned)


def test_what_stopping_saved_is_reckoned_from_the_speed_of_each_trial(
    report: dict[str, Any],
) -> None:
    stopped = [row["step"] for row in report["judged"] if not row["go_on"]]
    saved = sum(0.2 * STEPS / step - 0.2 - 0.1 for step in stopped)
    assert report["costs"]["saved_by_stopping"] == {
        "trials": len(stopped),
        "seconds": pytest.approx(saved),
    }


def test_what_cannot_be_made_is_left_out_with_a_reason(report: dict[str, Any]) -> None:
    assert "fake" in report["images"]["reason"]
    assert "no runtime" in report["efficiency"]["reason"]


def test_nets_that_cannot_be_drawn_are_told_together(report: dict[str, Any]) -> None:
    [row] = report["nets"]["rows"]
    assert row["reason"].startswith("model.onnx cannot be read as ONNX.")
    assert len(row["trials"]) == min(len(report["front"]), 12)


def test_collecting_writes_nothing(folder: Path) -> None:
    def content() -> dict[str, str]:
        kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".db-shm"]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}

    before = content()
    collected(folder)
    assert content() == before


def test_results_that_trials_share_are_told_with_what_they_saved(tmp_path: Path) -> None:
    makers: list[int] = []

    def run(plan: Any, setting: Any, observer: Any, place: Path) -> Outcome:
        done = run_fast(plan, setting, observer, place)
        use = {"seconds": 30.0, "reused": bool(makers)}
        makers.append(1)
        return Outcome(
            done.state, done.values, done.artifacts, done.seconds, shared={"scores": use}
        )

    find(load(trials=3), tmp_path, run)
    assert collected(tmp_path)["shared"] == [
        {"name": "scores", "made_by": [0], "reused_by": [1, 2], "saved": 60.0},
    ]


def test_a_study_in_which_everything_failed_has_no_front(tmp_path: Path) -> None:
    def run(*_: Any) -> Outcome:
        raise ValueError("no luck")

    find(load(trials=3), tmp_path, run)
    found = collected(tmp_path)
    assert found["front"] == found["curves"] == found["rungs"] == []
    assert "No trial" in found["history"]["reason"]
    assert found["importance"]["reason"].startswith("0 trials have left a model")


def test_an_unknown_study_is_refused_with_the_nearest_name(folder: Path) -> None:
    with pytest.raises(StoreError, match="Did you mean 'world'"):
        collected(folder, "wrld")


def test_a_study_whose_metrics_are_not_installed_is_refused(folder: Path) -> None:
    with pytest.raises(PluginError, match="score"):
        collect(Reader.open(f"sqlite:///{folder}/store.db"), "world", discover(entry_points=()))
