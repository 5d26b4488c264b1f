"""Trials whose model changes have rungs too, and end the same wherever they are stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import toy_techniques as toys
from trial_notes import Notes, digits

from automl_sr.errors import StopRequestedError
from automl_sr.plugin.technique import Technique
from automl_sr.trial.run import run_trial
from automl_sr.trial.types import Outcome

STEPS, FIRST_RUNG = 300, 20
PLANS: dict[str, list[Technique]] = {
    "two pruning rounds": [toys.Mlp(), toys.RewindPruning(rounds=2)],
    "a genotype searched on a supernet": [toys.Genotype()],
    "a net that grows": [toys.Growth(), toys.Mlp()],
}


def run(
    techniques: list[Technique], folder: Path, stop_every: int = 0
) -> tuple[Outcome, list[Notes], int]:
    """Run a trial, started again after each stop; gives what came of it, who watched it, and how
    often it began.
    """
    plan, setting = digits(folder, techniques, steps=STEPS, rungs=3)
    setting = replace(setting, first_rung=FIRST_RUNG)
    watched: list[Notes] = []
    while True:
        notes = Notes(stop_after=stop_every if stop_every else -1)
        watched.append(notes)
        try:
            return run_trial(plan, setting, notes, folder / "trial"), watched, len(watched)
        except StopRequestedError:
            continue


def test_each_pruning_round_ends_with_a_rung(tmp_path: Path) -> None:
    _, [notes], _ = run(PLANS["two pruning rounds"], tmp_path)
    end_of_first = 135  # half of the 270 steps before the cool-down
    assert [(rung, step) for rung, step, _ in notes.rungs] == [(0, 30), (1, end_of_first)]


def test_rungs_come_after_the_search_of_a_genotype(tmp_path: Path) -> None:
    _, [notes], _ = run(PLANS["a genotype searched on a supernet"], tmp_path)
    searched = 90  # a third of the 270: the phase's share is 0.5 beside 1.0
    steps = [step for _, step, _ in notes.rungs]
    assert steps
    assert min(steps) > searched


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("every", [37, 111])
def test_stopping_anywhere_changes_neither_rungs_nor_result(
    name: str, every: int, tmp_path: Path
) -> None:
    straight, [watched], _ = run(PLANS[name], tmp_path / "straight")
    parts, again, starts = run(PLANS[name], tmp_path / "parts", stop_every=every)
    assert starts > 1
    assert parts.values == straight.values
    files = [outcome.artifacts["weights"].read_bytes() for outcome in (parts, straight)]
    assert files[0] == files[1]
    seen = {(rung, step): values for notes in again for rung, step, values in notes.rungs}
    assert seen == {(rung, step): values for rung, step, values in watched.rungs}
