"""What the panel of a trial says, and that nothing from a store is markup in it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from app_records import SCRIPT, everything, snapshot, trial

from automl_sr.app.tabs.trial_panel import events, panel, saved_seconds

SHARED = {
    "selection/sobel": {"seconds": 12.6, "reused": True, "waited": 2.0},
    "latency": {"seconds": 0.7, "reused": False},
}


def text(found: Any, **fields: Any) -> str:
    """The panel as a person reads it."""
    made = panel(snapshot([trial(0), trial(2), found]), found, everything(found, **fields))
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", made))


def test_it_shows_values_costs_limits_plan_and_time() -> None:
    found = text(trial(7))
    for part in (
        "Trial 7: complete in the front",
        "psnr_y 37",
        "params 1007 1007 at most 5,000",
        "architecture.espcn.width 16",
        "train 17.0 s",
        "in all 19.3 s",
    ):
        assert part in found, part


def test_it_says_what_was_shared_and_saved() -> None:
    found = text(trial(7, shared=SHARED))
    assert "10.6 s saved" in found
    assert "selection/sobel (reused after waiting 2.0 s for it, saved 10.6 s)" in found
    assert "latency (made in 0.7 s)" in found
    assert saved_seconds(SHARED) == pytest.approx(10.6)


def test_it_shows_rungs_and_where_the_trial_was_stopped() -> None:
    rungs = [
        {"rung": 0, "step": 50, "values": {"psnr_y": 31.5}, "go_on": True},
        {"rung": 1, "step": 150, "values": {"psnr_y": 32.25}, "go_on": False},
    ]
    found = text(trial(7, "pruned", reason="stopped at rung 2"), rungs=rungs)
    assert "1 50 31.5 promoted" in found
    assert "2 150 32.25 stopped" in found
    assert "stopped at rung 2" in found


def test_it_shows_files_with_sizes() -> None:
    files = [{"kind": "onnx", "url": "/files/7/model.onnx", "sha256": "0", "bytes": 11_711}]
    assert "onnx 11.7 kB /files/7/model.onnx" in text(trial(7), artifacts=files)


def test_it_sets_refinements_beside_the_search() -> None:
    done = trial(7)
    row = {
        "number": 7,
        "seed": 0,
        "steps": 2400,
        "state": "complete",
        "values": {"psnr_y": 38.5, "params": 1007.0},
        "tests": {"Set5": {"psnr_y": 36.5}},
        "search_values": dict(done.values),
        "reason": None,
    }
    failed = {
        **row,
        "seed": 1,
        "state": "failed",
        "values": {},
        "tests": {},
        "reason": "the disk is full",
    }
    found = text(done, refinements=[row, failed])
    assert "trial seed steps psnr_y psnr_y refined params Set5 psnr_y" in found
    assert "7 0 2,400 37 38.5 1007 36.5" in found
    assert "Seed 1: failed: the disk is full" in found


def test_a_broken_limit_is_marked() -> None:
    found = text(trial(7, "infeasible", costs={"params": 9000.0}, reason="too large"))
    assert "params - 9000 at most 5,000, broken" in found


def test_a_running_trial_says_where_it_is() -> None:
    running = trial(7, "running", stage="train", seconds=3.0, stage_seconds={}, values={})
    points = [{"step": 40, "loss": 0.25}, {"step": 80, "loss": 0.125}]
    assert "Now: train; trained 80 steps, loss 0.125." in text(running, curve=points)
    assert "Now: beginning." in text(replace(running, stage=None))


def test_it_says_where_a_trial_comes_from() -> None:
    assert "plan is that of trial 2" in text(trial(7, "duplicate", duplicate_of=2))
    assert "Imported from older, trial 4." in text(trial(7, origin={"study": "older", "number": 4}))


def test_a_trial_without_anything_has_a_panel() -> None:
    found = text(trial(7, "waiting", plan=None, stage_seconds={}, seconds=0.0))
    assert "Trial 7: waiting" in found
    assert "It has no plan yet." in found


def test_events_are_folded_unless_the_trial_failed() -> None:
    told = [{"at": "2026-11-26T10:00:00+00:00", "kind": "failed", "text": "Traceback ..."}]
    failed = trial(7, "failed")
    assert events(everything(failed, events=told)).startswith("<details open>")
    assert "Traceback ..." in events(everything(failed, events=told))
    assert events(everything(trial(7), events=told)).startswith("<details><summary>1 event:")
    assert events(everything(trial(7))) == ""


def test_nothing_from_a_store_is_markup() -> None:
    bad = trial(
        7,
        "failed",
        plan={"architecture": SCRIPT, SCRIPT: SCRIPT},
        values={SCRIPT: 1.0},
        reason=SCRIPT,
        stage_seconds={SCRIPT: 1.0},
        stage=SCRIPT,
        origin={"study": SCRIPT, "number": SCRIPT},
        shared={SCRIPT: {"seconds": 1.0, "reused": True}},
    )
    found = everything(
        bad,
        rungs=[{"rung": 0, "step": 5, "values": {SCRIPT: 1.0}, "go_on": True}],
        artifacts=[{"kind": SCRIPT, "url": SCRIPT, "sha256": "", "bytes": 1}],
        events=[{"at": "now", "kind": SCRIPT, "text": SCRIPT}],
    )
    made = panel(snapshot([bad]), bad, found) + events(found)
    assert "<script" not in made
    assert made.count("&lt;script&gt;") == 14
