"""A run can go on from what another one has learnt: more steps of its last phase, then the tail;
nothing is pruned, grown or searched again, and stopping in between changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from resuming import COMBINATIONS, MOSTLY_IN_CI, STEPS, Stop, fingerprint, registry, setup_of
from toy_techniques import Digits

from automl_sr.errors import CheckpointError, PluginError, StopRequestedError
from automl_sr.training.checkpoint import Checkpoints, Snapshot
from automl_sr.training.loop import finish_branch, start_or_resume, train
from automl_sr.training.phases import ModelUpdate, Phase, Timetable
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run, Setup, continued

MORE = 40


def learnt(name: str, folder: Path, until: int | None = None) -> tuple[Setup, Run]:
    """Train the trunk of a first run, and stop it at a step or at its end."""
    setup, blueprint = setup_of(COMBINATIONS[name], folder)
    checkpoints = Checkpoints(folder / "trunk")
    trunk = start_or_resume(setup, blueprint, checkpoints)
    train(trunk, setup.timetable.trunk_steps if until is None else until, Stop(0), checkpoints)
    if until is None:
        trunk.leave_phase()
    return setup, trunk


def go_on(
    setup: Setup, base: Snapshot, folder: Path, *, stop_every: int = 0, seed: int = 1
) -> tuple[Run, int]:
    """Train on to the end, from disk again after each stop; gives the finished branch and how often
    it was begun.
    """
    starts = 0
    observer = Stop(0)
    while True:
        starts += 1
        observer.left = stop_every
        further = replace(continued(setup, base, MORE), seed=seed)
        checkpoints = Checkpoints(folder / "trunk")
        kept = checkpoints.latest()
        run = Run.go_on(further, base) if kept is None else Run.restore(further, kept)
        try:
            train(run, run.end, observer, checkpoints)
            run.leave_phase()
            return finish_branch(run, observer, Checkpoints(folder / "branch")), starts
        except StopRequestedError:
            continue


@pytest.mark.parametrize("name", MOSTLY_IN_CI)
def test_stopping_at_any_step_changes_nothing(name: str, tmp_path: Path) -> None:
    setup, trunk = learnt(name, tmp_path / "first")
    base = trunk.capture()
    undisturbed, once = go_on(setup, base, tmp_path / "undisturbed")
    resumed, starts = go_on(setup, base, tmp_path / "resumed", stop_every=7)
    assert once == 1
    assert starts > MORE // 7 // 2
    assert fingerprint(resumed) == fingerprint(undisturbed)


@pytest.mark.parametrize("name", MOSTLY_IN_CI)
def test_it_begins_with_what_was_learnt(name: str, tmp_path: Path) -> None:
    setup, trunk = learnt(name, tmp_path)
    run = Run.go_on(continued(setup, trunk.capture(), MORE), trunk.capture())
    before, after = trunk.capture(), run.capture()
    assert before.tensors.keys() == after.tensors.keys(), (
        "weights, moments, average, auxiliary weights and state"
    )
    assert all(torch.equal(before.tensors[key], after.tensors[key]) for key in before.tensors)
    assert after.meta["state"] == before.meta["state"]
    assert (run.step, run.branch_step, run.phase_left) == (0, None, False)


@pytest.mark.ci
@pytest.mark.parametrize(
    "name", [name for name in COMBINATIONS if name != "a tail phase on the branch"]
)
def test_the_model_is_not_changed_again(name: str, tmp_path: Path) -> None:
    setup, trunk = learnt(name, tmp_path / "first")
    branch, _ = go_on(setup, trunk.capture(), tmp_path / "further")
    assert branch.blueprint == trunk.blueprint
    for key in [key for key in trunk.state if "mask" in key]:
        assert torch.equal(branch.state[key], trunk.state[key])


def test_pruned_weights_stay_zero(tmp_path: Path) -> None:
    setup, trunk = learnt("pruning rounds with rewinding", tmp_path / "first")
    branch, _ = go_on(setup, trunk.capture(), tmp_path / "further")
    pruned = trunk.finish(tmp_path).module.get_parameter("0.weight") == 0
    refined = branch.finish(tmp_path).module.get_parameter("0.weight")
    assert 0.4 < float(pruned.float().mean()) < 0.6
    assert torch.equal(refined == 0, pruned)


def test_the_tail_of_the_search_ends_it(tmp_path: Path) -> None:
    setup, trunk = learnt("a tail phase on the branch", tmp_path / "first")
    branch, _ = go_on(setup, trunk.capture(), tmp_path / "further")
    assert all(
        torch.equal(value * 64, (value * 64).round()) for value in branch.model.parameters()
    ), "rounded again"
    assert branch.step == MORE


def test_training_on_lowers_the_loss_and_another_seed_sees_other_batches(tmp_path: Path) -> None:
    setup, trunk = learnt("plain", tmp_path / "first")
    branches = [
        go_on(setup, trunk.capture(), tmp_path / f"seed-{seed}", seed=seed)[0] for seed in (1, 2, 1)
    ]
    assert loss_of(branches[0]) < loss_of(trunk)
    assert fingerprint(branches[0]) != fingerprint(branches[1])
    (tmp_path / "again").mkdir()
    assert fingerprint(go_on(setup, trunk.capture(), tmp_path / "again", seed=1)[0]) == fingerprint(
        branches[0]
    )


def loss_of(run: Run) -> float:
    data = run.setup.data
    assert isinstance(data, Digits)
    model = run.finish(Path()).module
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(model(data.x), data.y))


def test_the_data_may_be_others(tmp_path: Path) -> None:
    setup, trunk = learnt("plain", tmp_path)
    data = setup.data.subset(range(100))
    run = Run.go_on(continued(replace(setup, data=data), trunk.capture(), MORE), trunk.capture())
    train(run, 3, Stop(0), Checkpoints(tmp_path / "further"))
    assert run.capture().meta["data"] == data.fingerprint != setup.data.fingerprint


def test_a_run_that_was_stopped_early_goes_on_in_its_own_phase(tmp_path: Path) -> None:
    setup, trunk = learnt("pruning rounds with rewinding", tmp_path, until=25)
    further = continued(setup, trunk.capture(), MORE)
    phase = further.timetable.spans[0].phase
    assert trunk.span is not None
    assert phase.name == trunk.span.phase.name == "train round 1"
    assert (phase.on_enter, phase.on_leave, phase.continued) == ((), (), True)


def test_the_rate_is_warmed_up_shortly_then_constant(tmp_path: Path) -> None:
    setup, trunk = learnt("plain", tmp_path)
    setup = replace(setup, recipe=Recipe(batch=8, patch=8, ema=0.9, warmup=0.05))
    run = Run.go_on(continued(setup, trunk.capture(), MORE), trunk.capture())
    rates = []
    for step in range(run.end):
        run.step = step
        rates.append(run.rate())
    assert rates == [0.5, *[1.0] * (run.end - 1)]


def act(run: Run) -> ModelUpdate | None:
    raise AssertionError("this phase was not to be entered or left again")


def wrap(step: object, run: Run) -> object:
    return step


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_phase_keeps_its_wraps_and_rate_but_not_its_actions(name: str) -> None:
    phases = [
        Phase("first", 0.5, lr=0.5, decay=True).wrapping(wrap),  # type: ignore[arg-type]
        Phase("second", 0.5, on_enter=(act,), on_leave=(act,)),
        Phase("tail", 0.2, tail=True, on_enter=(act,)),
    ]
    table = Timetable.of(phases, 1000, 0.1)
    further = table.going_on(name, 500)
    [span] = further.spans
    kept = next(phase for phase in phases if phase.name == name)
    assert (span.phase.wraps, span.phase.lr, span.phase.decay) == (kept.wraps, kept.lr, False)
    assert (span.phase.on_enter, span.phase.on_leave) == ((), ())
    assert [part for part, _ in further.tail] == [part for part, _ in table.tail], (
        "it prunes or quantizes a copy"
    )
    lengths = [span.steps for span in further.tail_spans(further.trunk_steps)]
    assert lengths == [span.steps for span in table.tail_spans(table.trunk_steps)], (
        "for as long as in the search"
    )
    assert further.tail_spans(further.trunk_steps)[-1].stop == 500


def test_too_few_steps_are_refused() -> None:
    table = Timetable.of([Phase("train", 1.0), Phase("tail", 0.2, tail=True)], 1000, 0.1)
    with pytest.raises(PluginError, match="2 steps are too few"):
        table.going_on("train", 2)


def other_phase(base: Snapshot) -> Snapshot:
    renamed = [["unheard of", *row[1:]] for row in base.meta["timetable"]]
    return replace(base, meta={**base.meta, "timetable": renamed})


def of_a_branch(base: Snapshot) -> Snapshot:
    return replace(base, meta={**base.meta, "branch_step": 10})


def without_weights(base: Snapshot) -> Snapshot:
    return replace(
        base, tensors={key: value for key, value in base.tensors.items() if "weight" not in key}
    )


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (other_phase, PluginError, "no phase 'unheard of'"),
        (of_a_branch, CheckpointError, "of a branch"),
        (without_weights, CheckpointError, "does not fit the model"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused(
    spoil: Callable[[Snapshot], Snapshot], error: type[Exception], said: str, tmp_path: Path
) -> None:
    setup, trunk = learnt("plain", tmp_path, until=5)
    base = spoil(trunk.capture())
    with pytest.raises(error, match=said):
        Run.go_on(continued(setup, base, MORE), base)


def test_a_blueprint_without_its_plugin_is_refused(tmp_path: Path) -> None:
    setup, trunk = learnt("plain", tmp_path, until=5)
    blueprint = {**trunk.blueprint.to_json(), "factory": "gone.net"}
    base = replace(trunk.capture(), meta={**trunk.capture().meta, "blueprint": blueprint})
    with pytest.raises(PluginError, match=r"gone\.net"):
        Run.go_on(continued(setup, base, STEPS), base)
    assert "toys.mlp" in registry().factories
