"""Scores on held-out training samples: what they measure, and rounds that are kept by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_techniques as toys
from resuming import Stop, fingerprint, registry, setup_of
from torch import Tensor
from trial_notes import Notes, setting

from automl_sr.errors import DataError, PluginError, StopRequestedError
from automl_sr.plugin.task import Batch
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.space.plan import TrialPlan
from automl_sr.tasks.image_sr.image_model import ImageModel, evaluate_pairs
from automl_sr.testing.tiny import (
    SEED,
    TinyNet,
    TinyTrial,
    contract_registry,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import finish_branch, start_or_resume, train
from automl_sr.training.phases import ModelUpdate, Phase
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run
from automl_sr.training.score import MOST, Scorer, hold_out
from automl_sr.training.step import TrainStep
from automl_sr.trial.run import run_trial
from automl_sr.trial.setup import make_context, make_setup, training_data

KEPT = "keeping.weights."


class Scoring(Technique):
    """Declare scores, and ask for none."""

    slot = Slot.PRUNING
    name = "scoring"
    tasks = toys.TOY
    scores = True


class KeepBest(Scoring):
    """Prune in three rounds, each harder, and go back to the best one at the end."""

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        rounds = [Phase(f"round {i}", 1.0).leaving(self.judge) for i in range(3)]
        return [*rounds, phases[0].entering(self.go_back, self.confirm), *phases[1:]]

    def judge(self, run: Any) -> None:
        score = run.score()
        scores = run.state.setdefault("keeping.scores", [])
        if score > max(scores, default=float("-inf")):
            for name, value in run.evaluation_state().items():
                run.state[KEPT + name] = value
        run.state["keeping.scores"] = [*scores, score]
        with torch.no_grad():
            run.model[0].weight.mul_(run.model[0].weight.abs() > 0.1)

    def go_back(self, run: Any) -> ModelUpdate:
        kept = {key: value for key, value in run.state.items() if key.startswith(KEPT)}
        run.model.load_state_dict({key.removeprefix(KEPT): kept[key] for key in kept})
        return ModelUpdate(ema="reset")

    def confirm(self, run: Any) -> None:
        run.state["keeping.after"] = run.score()


class EveryStep(Scoring):
    """Ask for the score twice in each step, before dropout draws its numbers."""

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        def update(run: Run, batch: Batch) -> dict[str, Tensor]:
            assert run.score() == run.score()
            return step.update(run, batch)

        return replace(step, update=update)


class Undeclared(Scoring):
    """Ask for scores without saying so."""

    scores = False

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        run.score()
        return step


def trained(technique: Technique, folder: Path, stop_every: int = 0) -> Run:
    """Train trunk and branch, from disk again after each stop."""
    setup, blueprint = setup_of([toys.Mlp(), technique], folder)
    while True:
        checkpoints = Checkpoints(folder / "trunk")
        run = start_or_resume(setup_of([toys.Mlp(), technique], folder)[0], blueprint, checkpoints)
        try:
            train(run, setup.timetable.trunk_steps, Stop(stop_every), checkpoints)
            run.leave_phase()
            return finish_branch(run, Stop(stop_every), Checkpoints(folder / "branch"))
        except StopRequestedError:
            continue


def test_the_best_round_is_kept_and_stopping_after_any_step_changes_nothing(tmp_path: Path) -> None:
    straight = trained(KeepBest(), tmp_path / "straight")
    scores = straight.state["keeping.scores"]
    assert len(scores) == 3
    assert max(scores) > scores[-1], "the last round is not the best one"
    assert straight.state["keeping.after"] == max(scores)
    for every in (1, 7):
        parts = trained(KeepBest(), tmp_path / f"every {every}", stop_every=every)
        assert fingerprint(parts) == fingerprint(straight), every
        assert parts.state["keeping.scores"] == scores


def test_asking_for_scores_changes_no_bit_of_the_training(tmp_path: Path) -> None:
    silent = trained(Scoring(), tmp_path / "silent")
    assert fingerprint(trained(EveryStep(), tmp_path / "asking")) == fingerprint(silent)
    resumed = trained(EveryStep(), tmp_path / "resumed", stop_every=3)
    assert fingerprint(resumed) == fingerprint(silent)


def test_a_score_is_the_metric_of_the_evaluation_weights(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp(), Scoring()], tmp_path)
    run = Run.start(setup, blueprint)
    train(run, 20, Stop(0), Checkpoints(tmp_path / "trunk"))
    task = toys.DigitsTask()
    rest, held = hold_out(task.load(0).train, 0)
    module = run.finish(tmp_path).module
    with torch.no_grad():
        right = (module(held.x).argmax(1) == held.y).double().mean()
    assert run.score() == pytest.approx(float(right))
    assert len(held) == round(0.05 * 1200)
    assert setup.data.fingerprint == rest.fingerprint


def test_a_state_is_measured_once_and_a_smaller_metric_is_negated(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp(), Scoring()], tmp_path)
    asked: list[str] = []

    class Counting(toys.DigitsTask):
        def measure_quality(self, runner: Any, data: Any, metrics: Any) -> dict[str, float]:
            asked.append(metrics[0].name)
            return super().measure_quality(runner, data, metrics)

    task = Counting()
    held = hold_out(task.load(0).train, 0)[1]
    smaller = replace(task.metrics[0], direction="minimize")
    run = Run.start(replace(setup, scorer=Scorer.of(task, smaller, held, "cpu")), blueprint)
    first = run.score()
    assert first == run.score()
    assert asked == ["accuracy"]
    plain = Run.start(setup, blueprint)
    assert first == -plain.score() < 0
    run.advance()
    run.score()
    assert len(asked) == 2


def test_a_technique_that_does_not_declare_it_is_told(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp(), Undeclared()], tmp_path)
    with pytest.raises(PluginError, match=r"run\.score\(\), and no samples are held out") as error:
        Run.start(setup, blueprint)
    assert "scores: ClassVar[bool] = True" in str(error.value.hint)


def test_what_is_held_out_depends_on_the_study_alone(tmp_path: Path) -> None:
    place = setting(registry(), toys.DigitsTask(), tmp_path, ("accuracy",), 60, 1)
    parts = {Slot.RECIPE: Recipe(batch=8, patch=8)}
    first = TrialPlan.of({Slot.ARCHITECTURE: toys.Mlp(), Slot.PRUNING: Scoring(), **parts}, {})
    small = toys.Mlp(width=4)
    other = TrialPlan.of({Slot.ARCHITECTURE: small, Slot.PRUNING: KeepBest(), **parts}, {})
    plain = TrialPlan.of({Slot.ARCHITECTURE: toys.Mlp(), **parts}, {})
    found = {}
    for name, plan in (("first", first), ("other", other), ("plain", plain)):
        context = make_context(plan, place, tmp_path / name)
        found[name] = make_setup(plan, place, context, training_data(plan, place))
    held = [found[name].scorer.data.valid for name in ("first", "other")]
    assert held[0].fingerprint == held[1].fingerprint
    assert torch.equal(held[0].x, held[1].x)
    assert found["first"].full_data.fingerprint == found["other"].full_data.fingerprint
    together = torch.cat([found["first"].data.x, held[0].x])
    whole = place.data.train.x
    assert torch.equal(together.unique(dim=0), whole.unique(dim=0))
    assert len(together) == len(whole)
    assert training_data(plain, place) is place.data.train
    assert found["plain"].scorer is None
    again, _ = hold_out(place.data.train, place.seed + 1)
    assert again.fingerprint != found["first"].data.fingerprint


def test_a_whole_trial_goes_on_after_stops(tmp_path: Path) -> None:
    place = setting(registry(), toys.DigitsTask(), tmp_path, ("accuracy",), 60, 2)
    place = replace(place, first_rung=10)
    recipe = Recipe(batch=8, patch=8, precision="fp32")
    parts = {Slot.ARCHITECTURE: toys.Mlp(), Slot.PRUNING: KeepBest(), Slot.RECIPE: recipe}
    plan = TrialPlan.of(parts, {})
    straight = run_trial(plan, place, Notes(), tmp_path / "straight")
    for after in (9, 20, 30):
        with pytest.raises(StopRequestedError):
            run_trial(plan, place, Notes(stop_after=after), tmp_path / "stopped")
    again = run_trial(plan, place, Notes(), tmp_path / "stopped")
    assert again.values == straight.values
    weights = [one.artifacts["onnx"].read_bytes() for one in (straight, again)]
    assert weights[0] == weights[1]


def test_a_small_part_is_held_out_and_never_all(tmp_path: Path) -> None:
    samples = toys.DigitsTask().load(0).train
    assert len(hold_out(samples.subset(torch.arange(1200).repeat(4)), 0)[1]) == MOST
    rest, held = hold_out(samples.subset(slice(0, 2)), 0)
    assert (len(rest), len(held)) == (1, 1)
    with pytest.raises(DataError, match="none is left to train on"):
        hold_out(samples.subset(slice(0, 1)), 0)


class Images(EveryStep):
    """Ask for scores of a net that enlarges images."""

    name = "images"
    tasks = frozenset({"image-sr"})


def test_a_net_that_enlarges_images_is_scored_on_the_middle_of_a_training_image(
    tmp_path: Path,
) -> None:
    whole, task = tiny_samples(), tiny_task()
    registry = contract_registry([Images])
    techniques = (TinyNet(), Images())
    trial = TinyTrial(registry, task, whole, techniques, 8, tmp_path, tiny_recipe())
    run = trial.train()
    rest, held = hold_out(whole, SEED)
    kept, out = set(rest.windows[:, 0].tolist()), set(held.windows[:, 0].tolist())
    assert kept | out == set(range(len(whole)))
    assert not kept & out
    assert run.data.fingerprint == rest.to(trial.device).fingerprint
    module = run.finish(tmp_path).module

    def runner(batch: Any) -> Any:
        with torch.no_grad():
            return module(torch.from_numpy(batch)).numpy()

    pairs = task.as_validation(held)
    model = ImageModel(runner, task.scale, task.color)
    wanted = evaluate_pairs(model, pairs, task.scale, [task.metrics[0]])[task.metrics[0].name]
    assert run.score() == pytest.approx(wanted)


def test_the_middle_of_a_window_is_cut_from_both_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl_sr.tasks.image_sr.task.SCORED_SIDE", 8)
    whole, task = tiny_samples(), tiny_task()
    pair = task.as_validation(whole)[0]
    low, high = (store.image(0).permute(1, 2, 0).numpy() for store in (whole.lr, whole.hr))
    assert (pair.lr == low[20:28, 20:28]).all()
    assert (pair.hr == high[40:56, 40:56]).all()
