"""Proposals follow from the seed and from what is finished, not from the process or the number of
workers.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial
from search_world import find, load, made_up, run_fast

from automl_sr.errors import UseError
from automl_sr.search.optuna.sampler_view import RUNGS_ATTRIBUTE, StudyView
from automl_sr.search.optuna.samplers import (
    SAMPLERS,
    SobolSampler,
    at_share,
    draw_seed,
    make_sampler,
)
from automl_sr.store.reading import Reader

SPACE = {
    "x": FloatDistribution(0.0, 1.0),
    "n": IntDistribution(1, 64, log=True),
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "only_b": FloatDistribution(0.1, 10.0, log=True),
}


def study_of(name: str, storage: Any = None, seed: int = 3) -> optuna.Study:
    sampler = make_sampler(name, seed, SPACE)
    storage = storage or optuna.storages.InMemoryStorage()
    return optuna.create_study(
        study_name="s",
        storage=storage,
        sampler=sampler,
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    params = {"x": trial.suggest_float("x", 0, 1), "n": trial.suggest_int("n", 1, 64, log=True)}
    params["kind"] = trial.suggest_categorical("kind", ["a", "b", "c"])
    if params["kind"] == "b":
        params["only_b"] = trial.suggest_float("only_b", 0.1, 10, log=True)
    return params


def values(params: dict[str, Any]) -> list[float]:
    return [params["x"] * params["n"], float(params["n"])]


def run(study: optuna.Study, count: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(count):
        trial = study.ask()
        found.append(suggest(trial))
        study.tell(trial, values(found[-1]))
    return found


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_a_resume_proposes_what_an_uninterrupted_run_does(name: str) -> None:
    whole = run(study_of(name), 30)
    storage = optuna.storages.InMemoryStorage()
    parts = [params for part in (7, 6, 17) for params in run(study_of(name, storage), part)]
    assert parts == whole
    assert run(study_of(name, seed=4), 5) != whole[:5]


@pytest.mark.ci
def test_the_gaussian_process_resumes_too() -> None:
    """As Optuna makes it, not brief."""
    whole = run(study_of("gp"), 12)
    storage = optuna.storages.InMemoryStorage()
    assert run(study_of("gp", storage), 11) + run(study_of("gp", storage), 1) == whole


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_workers_in_any_number_propose_the_same(name: str) -> None:
    alone = run(study_of(name), 8)
    storage = optuna.storages.InMemoryStorage()
    workers = [study_of(name, storage) for _ in range(4)]
    trials = [workers[number % 4].ask() for number in range(8)]
    together = {trial.number: suggest(trial) for trial in reversed(trials)}
    assert [together[number] for number in range(8)] == alone


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "nsga2"])
def test_a_trial_that_is_taken_over_half_way_gets_the_values_that_it_would_have_had(
    name: str,
) -> None:
    whole = run(study_of(name), 25)
    storage = optuna.storages.InMemoryStorage()
    run(study_of(name, storage), 24)
    study_of(name, storage).ask().suggest_float("x", 0, 1)
    again = optuna.trial.Trial(study_of(name, storage), 24)
    assert suggest(again) == whole[24]


def test_draws_of_one_trial_differ_from_each_other() -> None:
    """Seeding by the trial alone would give every parameter the same number."""
    study = optuna.create_study(sampler=make_sampler("random", 0, {}))
    trial = study.ask()
    found = [trial.suggest_float(f"p{index}", 0, 1) for index in range(50)]
    assert len(set(found)) == 50
    assert draw_seed(1, 2, "a") != draw_seed(1, 2, "b")


def test_nothing_is_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(study_of("tpe"), 14)


def test_an_unknown_sampler_is_named() -> None:
    with pytest.raises(UseError, match="Did you mean 'random'"):
        make_sampler("randon", 0, {})


def test_quasi_random_points_fill_a_dimension_evenly() -> None:
    study = optuna.create_study(sampler=SobolSampler(5, SPACE))
    found = sorted(study.ask().suggest_float("x", 0, 1) for _ in range(64))
    assert [int(value * 64) for value in found] == list(range(64)), (
        "one of 64 Sobol points in every 64th"
    )


def test_a_share_of_a_distribution_reaches_all_its_values() -> None:
    shares = [(index + 0.5) / 100 for index in range(100)]
    for distribution in (
        IntDistribution(1, 9, step=2),
        IntDistribution(1, 8, log=True),
        FloatDistribution(0, 1, step=0.25),
    ):
        found = {at_share(distribution, share) for share in shares}
        assert all(distribution._contains(distribution.to_internal_repr(value)) for value in found)
        assert min(found) == distribution.low
        assert max(found) == distribution.high
    assert {at_share(CategoricalDistribution(["a", "b"]), share) for share in shares} == {"a", "b"}
    assert at_share(FloatDistribution(1e-4, 1.0, log=True), 0.5) == pytest.approx(1e-2)


def test_stopped_trials_look_complete_with_what_survivors_gained() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler())

    def add(
        state: TrialState, rungs: dict[str, list[float]], end: list[float] | None = None
    ) -> None:
        attributes = {RUNGS_ATTRIBUTE: rungs} if rungs else {}
        study.add_trial(create_trial(state=state, values=end, user_attrs=attributes))

    add(TrialState.COMPLETE, {"0": [30.0, 5.0], "1": [31.0, 5.0]}, [33.0, 4.0])
    add(TrialState.COMPLETE, {"0": [28.0, 9.0]}, [29.0, 9.0])
    add(TrialState.PRUNED, {"0": [27.0, 7.0]})
    add(TrialState.PRUNED, {})
    add(TrialState.FAIL, {})
    seen = StudyView(study)._get_trials()
    assert [trial.state.name for trial in seen] == [
        "COMPLETE",
        "COMPLETE",
        "COMPLETE",
        "PRUNED",
        "FAIL",
    ]
    assert seen[2].values == [27.0 + 2.0, 7.0 - 0.5], (
        "medians of the gains 3 and 1, and of -1 and 0"
    )
    assert study.trials[2].state is TrialState.PRUNED, "what is stored stays"


def test_the_sampler_learns_from_stopped_trials() -> None:
    """With bad trials stopped early, later proposals leave the bad half; told as pruned alone they
    would not.
    """
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=make_sampler("tpe", 0, {})
    )
    late = []
    for number in range(60):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        late += [x] if number >= 40 else []
        trial.set_user_attr(RUNGS_ATTRIBUTE, {"0": [x, 1 - x / 2]})
        if x < 0.5 and number % 2:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [x, 1 - x / 2])
    assert sum(x > 0.5 for x in late) >= 15


def limited(name: str, trials: int) -> tuple[optuna.Study, list[bool]]:
    """Run a study in which all of more than 0.3 breaks a limit, as measured; says which trials kept
    to it.
    """
    study = study_of(name)
    kept = []
    for _ in range(trials):
        trial = study.ask()
        params = suggest(trial)
        trial.set_constraint("x", params["x"] - 0.3)
        kept.append(params["x"] <= 0.3)
        study.tell(trial, values(params))
    return study, kept


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(("name", "trials"), [("tpe", 50), ("nsga2", 80), ("gp", 9)])
def test_samplers_that_learn_learn_hard_constraints(name: str, trials: int) -> None:
    """Beyond the limit, everything would be better."""
    _, kept = limited(name, trials)
    late = kept[-trials // 3 :]
    random = limited("random", 50)[1]
    assert sum(late) / len(late) > 2 * sum(random) / len(random)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", SAMPLERS)
def test_hard_constraints_leave_proposals_reproducible(name: str) -> None:
    trials = 6 if name == "gp" else 24
    first, again = limited(name, trials)[0], limited(name, trials)[0]
    assert [trial.params for trial in first.trials] == [trial.params for trial in again.trials]
    assert all("x" in trial.constraints for trial in first.trials)


@pytest.mark.ci
@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sampler_gets_an_infeasible_plan_trained_or_into_the_front(
    tmp_path: Path, name: str
) -> None:
    trained = []

    def watched(plan: Any, *rest: Any) -> Any:
        trained.append(made_up(plan)["params"])
        return run_fast(plan, *rest)

    trials = {"gp": 6, "tpe": 14, "nsga2": 22}.get(
        name, 8
    )  # so many that it proposes by what it has seen
    end = find(
        load(sampler=name, trials=trials, more="constraints: {params: {max: 600}}\n"),
        tmp_path,
        watched,
    )
    assert end.summary["trials"]["complete"] == trials
    assert end.summary["trials"]["infeasible"] > 0
    assert max(trained) <= 600
    assert all(member["values"]["params"] <= 600 for member in end.summary["front"])


@pytest.mark.ci
@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    ("name", "trials", "early", "late"),
    [("tpe", 40, 10, 15), ("nsga2", 30, 10, 10), ("gp", 8, 4, 5)],
)
def test_plans_that_the_gate_rejects_become_rare(
    tmp_path: Path, name: str, trials: int, early: int, late: int
) -> None:
    find(load(sampler=name, trials=trials, more="constraints: {params: {max: 300}}\n"), tmp_path)
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    rejected = [row.state == "infeasible" for row in opened.trials(opened.study("world"))]
    assert sum(rejected[:early]) >= early / 2, "three quarters of the space are out of the question"
    assert sum(rejected[-late:]) <= late / 5


@pytest.mark.ci
@pytest.mark.usefixtures("brief")
def test_a_gaussian_process_searches_in_parts_what_it_does_in_a_piece(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    find(load(sampler="gp", trials=6), whole)
    for trials in (5, 6):
        find(load(sampler="gp", trials=5), parts, trials=trials)
    plans = []
    for folder in (whole, parts):
        opened = Reader.open(f"sqlite:///{folder}/store.db")
        plans.append([row.plan for row in opened.trials(opened.study("world"))])
    assert plans[0] == plans[1]


def test_rejected_plans_look_complete_to_a_gaussian_process() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler())

    def add(state: TrialState, end: list[float] | None = None, **constraints: float) -> None:
        notes = {f"constraints:{name}": amount for name, amount in constraints.items()}
        study.add_trial(create_trial(state=state, values=end, system_attrs=notes))

    add(TrialState.PRUNED, params=0.5, memory=-0.9)
    add(TrialState.COMPLETE, [30.0, 5.0], params=-0.5, psnr=-0.1)
    add(TrialState.COMPLETE, [32.0, 7.0], params=-0.3, psnr=0.2)
    add(TrialState.PRUNED, params=-0.2, memory=1.5)
    add(TrialState.PRUNED)
    seen = StudyView(study, rejected=True)._get_trials()
    assert [trial.state.name for trial in seen] == ["COMPLETE"] * 4 + ["PRUNED"]
    assert [trial.values for trial in seen[:4]] == [
        [31.0, 6.0],
        [30.0, 5.0],
        [32.0, 7.0],
        [31.0, 6.0],
    ]
    assert [list(trial.constraints.items()) for trial in seen[:4]] == [
        [("memory", -0.9), ("params", 0.5), ("psnr", pytest.approx(0.05))],
        [("memory", -1.0), ("params", -0.5), ("psnr", -0.1)],
        [("memory", -1.0), ("params", -0.3), ("psnr", 0.2)],
        [("memory", 1.5), ("params", -0.2), ("psnr", pytest.approx(0.05))],
    ], "each has the same ones, in one order"
    assert StudyView(study)._get_trials()[0].state is TrialState.PRUNED, "to the other samplers"
    assert study.trials[0].state is TrialState.PRUNED, "what is stored stays"
