"""A run that was killed at any point goes on exactly as if it had not been: the same curve, the
same weights.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_techniques as toys
import training_toys as more
from resuming import COMBINATIONS, MOSTLY_IN_CI, STEPS, Stop, fingerprint, setup_of

from automl_sr.errors import CheckpointError, StopRequestedError
from automl_sr.plugin.technique import Technique
from automl_sr.training import loop
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import finish_branch, start_or_resume, train
from automl_sr.training.run import Run


def run_to_end(
    techniques: list[Technique], folder: Path, *, stop_every: int = 0, precision: str = "fp32"
) -> tuple[str, int]:
    """Train trunk and branch; with `stop_every`, stop and start again from disk after that many
    steps.
    """
    starts = 0
    while True:
        starts += 1
        observer = Stop(stop_every)
        setup, blueprint = setup_of(techniques, folder, precision=precision)
        try:
            checkpoints = Checkpoints(folder / "trunk")
            trunk = start_or_resume(setup, blueprint, checkpoints)
            train(trunk, setup.timetable.trunk_steps, observer, checkpoints)
            trunk.leave_phase()
            branch = finish_branch(trunk, observer, Checkpoints(folder / "branch"))
        except StopRequestedError:
            continue
        return fingerprint(branch), starts


@pytest.mark.parametrize("name", MOSTLY_IN_CI)
def test_stopping_at_any_step_changes_nothing(name: str, tmp_path: Path) -> None:
    undisturbed, once = run_to_end(COMBINATIONS[name], tmp_path / "undisturbed")
    assert once == 1
    for every in (1, 7, 13):
        resumed, starts = run_to_end(
            COMBINATIONS[name], tmp_path / f"every-{every}", stop_every=every
        )
        assert starts > STEPS // every // 2
        assert resumed == undisturbed


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_nor_does_it_in_another_number_format(precision: str, tmp_path: Path) -> None:
    """With fp16 the scale of the loss, which falls and rises, belongs to what a resume needs."""
    undisturbed, _ = run_to_end(
        COMBINATIONS["plain"], tmp_path / "undisturbed", precision=precision
    )
    resumed, _ = run_to_end(
        COMBINATIONS["plain"], tmp_path / "resumed", stop_every=7, precision=precision
    )
    exact, _ = run_to_end(COMBINATIONS["plain"], tmp_path / "fp32")
    assert resumed == undisturbed != exact


@pytest.mark.ci
@pytest.mark.parametrize("name", [name for name in COMBINATIONS if name != "plain"])
def test_each_technique_changes_the_result(name: str, tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    with_it, _ = run_to_end(COMBINATIONS[name], tmp_path / "with")
    plain, _ = run_to_end(COMBINATIONS["plain"], tmp_path / "plain")
    assert with_it != plain


def killed_at(step: int, name: str, folder: Path) -> int:
    """Go on with a run in a process of its own, which kills itself after this step; gives the
    signal that ended it.
    """
    child = os.fork()
    if child == 0:
        loop.CHECKPOINT_SECONDS = 0.0  # after every step, so that little is done twice
        advance = Run.advance

        def deadly(run: Run) -> None:
            advance(run)
            if run.setup.techniques and run.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

        Run.advance = deadly  # type: ignore[method-assign]
        run_to_end(COMBINATIONS[name], folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status)


@pytest.mark.parametrize("name", MOSTLY_IN_CI)
def test_sigkill_in_any_phase_changes_nothing(name: str, tmp_path: Path) -> None:
    undisturbed, _ = run_to_end(COMBINATIONS[name], tmp_path / "undisturbed")
    setup, _ = setup_of(COMBINATIONS[name], tmp_path / "table")
    table = setup.timetable
    spans = (*table.spans, *table.tail_spans(table.trunk_steps))
    steps = [span.start + min(2, span.steps) for span in spans]
    for step in steps:
        assert killed_at(step, name, tmp_path / "killed") == signal.SIGKILL
    assert run_to_end(COMBINATIONS[name], tmp_path / "killed") == (undisturbed, 1)


def test_a_rung_leaves_the_trunk_as_it_was(tmp_path: Path) -> None:
    straight, _ = run_to_end(COMBINATIONS["plain"], tmp_path / "straight")
    setup, blueprint = setup_of(COMBINATIONS["plain"], tmp_path / "branched")
    checkpoints = Checkpoints(tmp_path / "branched" / "trunk")
    trunk = start_or_resume(setup, blueprint, checkpoints)
    for rung in (20, 40, setup.timetable.trunk_steps):
        train(trunk, rung, Stop(0), checkpoints)
        branch = finish_branch(
            trunk, Stop(0), Checkpoints(tmp_path / "branched" / f"branch-{rung}")
        )
    assert fingerprint(branch) == straight


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    setup, blueprint = setup_of(COMBINATIONS["plain"], tmp_path)
    checkpoints = Checkpoints(tmp_path / "trunk")
    checkpoints.save(start_or_resume(setup, blueprint, checkpoints).capture())
    other, blueprint = setup_of(COMBINATIONS["pruning rounds with rewinding"], tmp_path)
    with pytest.raises(CheckpointError, match="another training plan"):
        start_or_resume(other, blueprint, Checkpoints(tmp_path / "trunk"))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    undisturbed, _ = run_to_end(COMBINATIONS["plain"], tmp_path / "undisturbed")
    folder = tmp_path / "damaged"
    setup, blueprint = setup_of(COMBINATIONS["plain"], folder)
    checkpoints = Checkpoints(folder / "trunk")
    run = start_or_resume(setup, blueprint, checkpoints)
    for step in (10, 20):
        train(run, step, Stop(0), checkpoints)
        checkpoints.save(run.capture())
    newest = folder / "trunk" / "step-000000020.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    (folder / "trunk" / ".step-000000030.safetensors.xyz.partial").write_bytes(
        b"of a killed writer"
    )
    assert run_to_end(COMBINATIONS["plain"], folder) == (undisturbed, 1)
    assert not list((folder / "trunk").glob(".*.partial"))


def test_pruned_weights_stay_zero_and_are_zero_in_what_ships(tmp_path: Path) -> None:
    setup, blueprint = setup_of(COMBINATIONS["pruning rounds with rewinding"], tmp_path)
    trunk = start_or_resume(setup, blueprint, Checkpoints(tmp_path / "trunk"))
    train(trunk, setup.timetable.trunk_steps, Stop(0), Checkpoints(tmp_path / "trunk"))
    branch = finish_branch(trunk, Stop(0), Checkpoints(tmp_path / "branch"))
    weight = branch.finish(tmp_path).module.get_parameter("0.weight")
    share = float((weight == 0).float().mean())
    assert share == pytest.approx(1 - 0.7**2, abs=0.01)


def test_the_supernet_is_replaced_by_the_net_that_it_named(tmp_path: Path) -> None:
    setup, blueprint = setup_of(COMBINATIONS["a genotype searched on a supernet"], tmp_path)
    trunk = start_or_resume(setup, blueprint, Checkpoints(tmp_path / "trunk"))
    train(trunk, setup.timetable.trunk_steps, Stop(0), Checkpoints(tmp_path / "trunk"))
    assert trunk.blueprint.factory == "toys.plain"
    assert trunk.blueprint.fields["op"] == trunk.state["genotype"] in toys.MixedNet.OPS


def test_auxiliary_parameters_are_trained_but_not_shipped(tmp_path: Path) -> None:
    setup, blueprint = setup_of(COMBINATIONS["learnt parameters that are not exported"], tmp_path)
    trunk = start_or_resume(setup, blueprint, Checkpoints(tmp_path / "trunk"))
    before = trunk.train_step.aux["projection"].weight.detach().clone()
    train(trunk, 5, Stop(0), Checkpoints(tmp_path / "trunk"))
    assert not torch.equal(trunk.train_step.aux["projection"].weight, before)
    assert not any("projection" in name for name in trunk.finish(tmp_path).module.state_dict())


def test_a_run_that_finds_shared_results_is_the_one_that_made_them(tmp_path: Path) -> None:
    """Making a teacher draws numbers; fresh weights behind it must not depend on that."""
    name = "growth, teacher, pruning and projection"
    cold, _ = run_to_end(COMBINATIONS[name], tmp_path / "cold")
    shutil.copytree(tmp_path / "cold" / "cache", tmp_path / "warm" / "cache")
    assert run_to_end(COMBINATIONS[name], tmp_path / "warm") == (cold, 1)


def test_a_run_with_a_teacher_from_a_file_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = more.write_teacher(tmp_path / "teacher.safetensors", seed=1)
    techniques: list[Technique] = [toys.Mlp(), more.FileTeacher(weights=str(file))]
    monkeypatch.setitem(COMBINATIONS, "a file", techniques)
    straight, _ = run_to_end(techniques, tmp_path / "straight")
    for every in (1, 7):
        parts, _ = run_to_end(techniques, tmp_path / f"every {every}", stop_every=every)
        assert parts == straight
    for step in (2, 56):
        assert killed_at(step, "a file", tmp_path / "killed") == signal.SIGKILL
    assert run_to_end(techniques, tmp_path / "killed") == (straight, 1)


def test_a_distillation_that_is_killed_on_the_way_gives_the_same_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step makes a random net: in the middle of the iterations and before the first."""
    monkeypatch.setattr("automl_sr.trial.context.ITERATE_SECONDS", 0.0)
    name = "a set distilled with random nets"
    straight, _ = run_to_end(COMBINATIONS[name], tmp_path / "straight")
    for iteration in (0, 5, 11):
        child = os.fork()
        if child == 0:
            die_at(iteration)
            run_to_end(COMBINATIONS[name], tmp_path / "killed")
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert run_to_end(COMBINATIONS[name], tmp_path / "killed") == (straight, 1)


def die_at(iteration: int) -> None:
    """Let this process kill itself in one step of a distillation."""
    step_on = more.Matching.step_on

    def deadly(self: more.Matching, data: Any) -> Any:
        step = step_on(self, data)

        def stepped(state: Any, i: int) -> Any:
            if i == iteration:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(state, i)

        return stepped

    more.Matching.step_on = deadly  # type: ignore[method-assign]
