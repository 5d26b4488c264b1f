"""Samplers and schedulers on a table, in simulated time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from PIL import Image
from replay_world import (
    JUDGING,
    RUNGS,
    made_up,
    plain_row,
    small,
    study_of,
    table_data,
    tried,
)
from scipy.stats import kendalltau

from automl_sr.errors import UseError
from automl_sr.search.decide.scheduler import ParetoASHA
from automl_sr.search.replay import fidelity, plot
from automl_sr.search.replay.choosers import ROW, SAMPLERS
from automl_sr.search.replay.comparison import (
    POINTS,
    Combination,
    Comparison,
    Studies,
    combinations,
    compare,
)
from automl_sr.search.replay.simulation import SimulatedStudy
from automl_sr.search.replay.table import Table

# ---- simulated time ----


def test_without_early_stopping_a_study_takes_the_time_of_its_trials_without_judging() -> None:
    table = small([plain_row(0, 30.0, 300.0), plain_row(1, 31.0, 200.0), plain_row(2, 32.0, 100.0)])
    simulation = study_of(table, "qmc")
    assert (simulation.trace.tried, simulation.trace.complete) == (3, 3)
    assert simulation.trace.times[-1] <= 27.0
    assert all(time % 9 == 0 for time in simulation.trace.times)
    assert table.seconds == 27.0


def test_a_stopped_trial_gives_its_time_to_the_next() -> None:
    """Rows in the order 0, 1, 2: the first goes on, the second is worse in everything, the third is
    the best.
    """
    table = small([plain_row(0, 30.0, 300.0), plain_row(1, 29.0, 400.0), plain_row(2, 32.0, 100.0)])
    seed = next(seed for seed in range(50) if tried(study_of(table, "qmc", seed=seed)) == [0, 1, 2])
    simulation = study_of(table, "qmc", "pareto-asha", seed=seed)
    assert simulation.trace.times == [0.0, 10.0, 22.0]
    assert [trial.state for trial in simulation.study.kept] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.COMPLETE,
    ]
    assert study_of(table, "qmc", "pareto-asha", seed=seed, seconds=21.0).trace.times == [0.0, 10.0]


def test_a_stopped_trial_leaves_the_model_of_its_rung() -> None:
    """The second is cheaper and worse: its model is on the front with the values of the rung."""
    table = small([plain_row(0, 33.0, 300.0), plain_row(1, 31.0, 100.0, then=30.5)], reduction=2)
    seed = next(seed for seed in range(50) if tried(study_of(table, "qmc", seed=seed)) == [0, 1])
    trace = study_of(table, "qmc", "median", seed=seed).trace
    assert trace.times == [0.0, 10.0, 20.0], "the median waits for more trials"
    stopping = study_of(table, "qmc", "pareto-asha", seed=seed)
    assert stopping.study.kept[1].state == TrialState.PRUNED
    assert stopping.trace.times == [0.0, 10.0, 12.0]
    both = table.box.scaled([{"psnr": 33.0, "params": 300.0}, {"psnr": 30.5, "params": 100.0}])
    assert stopping.trace.shares[-1] == pytest.approx(table.box.share(both))


def test_workers_run_side_by_side() -> None:
    table = small([plain_row(number, 30.0 + number, 100.0 * (number + 1)) for number in range(4)])
    one, two = (study_of(table, "random", workers=count) for count in (1, 2))
    assert one.trace.complete == two.trace.complete == 4
    assert (max(one.trace.times), max(two.trace.times)) == (36.0, 18.0)


def test_infeasible_and_failed_rows_cost_their_time_and_leave_nothing() -> None:
    limits: dict[str, Any] = {"constraints": {"params": {"max": 500.0}}}
    made = [
        plain_row(0, 30.0, 100.0),
        plain_row(1, 31.0, 9000.0, state="infeasible", rungs=[], values={}, seconds=0.5),
        plain_row(2, 31.0, 200.0, state="failed", rungs=[], values={}, seconds=4.0),
        plain_row(3, 34.0, 600.0),
        plain_row(4, 29.0, 400.0),
    ]
    simulation = study_of(small(made, **limits), "random", "none")
    told = {trial.user_attrs[ROW]: trial for trial in simulation.study.kept}
    assert (simulation.trace.tried, simulation.trace.complete) == (5, 3)
    assert told[1].state == TrialState.PRUNED
    assert told[1].constraints == {"params": 17.0}
    assert told[2].state == TrialState.FAIL
    assert told[3].constraints == {"params": pytest.approx(0.2)}, (
        "told, so that samplers learn; not on the front"
    )
    only = small(made, **limits).box.scaled([{"psnr": 30.0, "params": 100.0}])
    assert simulation.trace.shares[-1] == pytest.approx(small(made, **limits).box.share(only))


def test_rungs_are_judged_as_in_a_search() -> None:
    """The decisions are those of the scheduler of real trials, asked in the order of simulated
    time.
    """
    table = made_up(60)
    simulation = study_of(table, "random", "pareto-asha", workers=3)
    events = []
    ends = {}
    time = [0.0] * 3
    for trial in simulation.study.kept:  # the next trial goes to the worker that is free first
        worker = int(np.argmin(time))
        row = table.rows[trial.user_attrs[ROW]]
        reached = len(trial.user_attrs["automl_sr:rungs"])
        events += [
            (time[worker] + rung.seconds, trial.number, rung) for rung in row.rungs[:reached]
        ]
        ends[trial.number] = trial.state
        time[worker] += (
            row.seconds if trial.state == TrialState.COMPLETE else row.rungs[reached - 1].seconds
        )
    judge = ParetoASHA(table.metrics, 3)
    before: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    for _, number, rung in sorted(events, key=lambda event: event[:2]):
        later = [event for event in events if event[1] == number and event[2].rung > rung.rung]
        goes_on = bool(later) or (rung.rung == 1 and ends[number] == TrialState.COMPLETE)
        assert judge.decide(rung.rung, rung.values, before[rung.rung]).go_on == goes_on
        before[rung.rung].append(rung.values)
    assert {TrialState.COMPLETE, TrialState.PRUNED} == set(ends.values())


@pytest.mark.parametrize(
    ("sampler", "state"), [("tpe", TrialState.COMPLETE), ("optuna-tpe", TrialState.PRUNED)]
)
def test_our_samplers_see_stopped_trials_with_values_and_optunas_do_not(
    sampler: str, state: TrialState
) -> None:
    simulation = study_of(made_up(30), sampler, "pareto-asha")
    stopped = [trial.number for trial in simulation.study.kept if trial.state == TrialState.PRUNED]
    assert stopped
    simulation.study.look()
    seen = simulation.study._get_trials(deepcopy=False)
    assert {seen[number].state for number in stopped} == {state}


def test_a_study_of_the_first_objective_is_pruned_by_optunas_own_median() -> None:
    table = made_up(60)
    simulation = study_of(table, "optuna-tpe-first", "optuna-median")
    pruner = optuna.pruners.MedianPruner()
    again = SimulatedStudy(["maximize"], sees_stopped=False)
    assert {len(trial.values) for trial in simulation.study.kept if trial.values} == {1}
    assert any(trial.state == TrialState.PRUNED for trial in simulation.study.kept)
    for (
        trial
    ) in simulation.study.kept:  # one worker: a trial is judged with all before it at their end
        row = table.rows[trial.user_attrs[ROW]]
        shown = FrozenTrial(
            trial.number, TrialState.RUNNING, None, None, None, {}, {}, {}, {}, {}, trial.number
        )
        for place, rung in enumerate(row.rungs):
            shown.intermediate_values[rung.step] = rung.values["psnr"]
            stops = pruner.prune(again, shown)
            last = place == len(trial.intermediate_values) - 1
            assert stops == (last and trial.state == TrialState.PRUNED)
            if stops:
                break
        again.kept.append(trial)
        again.look()


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_the_same_seed_gives_the_same_study(sampler: str) -> None:
    table = made_up(40)
    first, again, other = (study_of(table, sampler, "pareto-asha", seed=seed) for seed in (5, 5, 6))
    assert tried(first) == tried(again)
    assert first.trace == again.trace
    assert tried(first) != tried(other)


def test_hypervolume_only_grows_and_counts_from_when_a_trial_ends() -> None:
    trace = study_of(made_up(60), "random", "pareto-asha").trace
    assert trace.times == sorted(trace.times)
    assert all(after > before for before, after in itertools.pairwise(trace.shares))
    at, after = trace.times[3], trace.shares[3]
    assert list(trace.at(np.array([at - 1e-9, at]))) == [trace.shares[2], after]
    assert trace.at(np.array([0.0])) == 0


# ---- comparing ----


def test_samplers_and_schedulers_are_paired_and_single_pairs_can_be_named() -> None:
    names = [
        item.name
        for item in combinations(["tpe", "optuna-tpe-first+optuna-median"], ["none", "median"])
    ]
    assert names == ["optuna-tpe-first+optuna-median", "tpe+none", "tpe+median"]
    left = [
        item.name for item in combinations(["tpe", "optuna-tpe-first"], ["none", "optuna-median"])
    ]
    assert left == ["tpe+none", "optuna-tpe-first+none", "optuna-tpe-first+optuna-median"], (
        "what Optuna has"
    )


@pytest.mark.parametrize(
    ("samplers", "schedulers", "words"),
    [
        (["tpee"], ["none"], "Unknown sampler 'tpee'. Did you mean 'tpe'?"),
        (["gp"], ["none"], "Unknown sampler 'gp'. Known: tpe, nsga2"),
        (["tpe"], ["asha"], "Unknown scheduler 'asha'. Did you mean 'pareto-asha'?"),
        (
            ["tpe"],
            ["optuna-median"],
            "There is nothing to compare. optuna-median works for a single objective",
        ),
        ([], ["none"], "There is nothing to compare. Give --samplers and --schedulers."),
    ],
)
def test_what_cannot_be_compared_is_said(
    samplers: list[str], schedulers: list[str], words: str
) -> None:
    with pytest.raises(UseError) as error:
        combinations(samplers, schedulers)
    assert words in str(error.value)


def made(table: Table, **curves: Any) -> Comparison:
    """A comparison with given curves, from 0 to 100 s; the names are samplers, and `_` divides them
    from schedulers.
    """
    studies = tuple(
        Studies(Combination(*name.split("_")), np.asarray(curve, dtype=float), 1.0, 1.0)
        for name, curve in curves.items()
    )
    return Comparison(table, 100.0, 1, np.linspace(0, 100, POINTS), studies)


def rising(*ends: tuple[float, float]) -> list[Any]:
    """Curves that reach a height on a straight line, at a share of the time, and stay there; one
    for each seed.
    """
    time = np.linspace(0, 1, POINTS)
    return [height * np.minimum(time / at, 1) for height, at in ends]


def test_the_rival_is_the_best_without_early_stopping() -> None:
    found = made(
        made_up(4),
        **{
            "tpe_pareto-asha": rising((0.9, 0.2), (0.9, 0.3), (0.9, 0.4)),
            "nsga2_none": rising((0.7, 0.1), (0.7, 0.1), (0.7, 0.1)),
            "tpe_none": rising((0.8, 0.7), (0.8, 0.8), (0.1, 0.9)),
            "random_none": rising((0.8, 1.0), (0.8, 1.0), (0.5, 1.0)),
        },
    )
    assert found.rival is not None
    assert found.rival.combination.name == "tpe+none", "as high as random, and sooner"
    shown = found.to_json()
    assert (shown["best_rival"], shown["target"], shown["seeds"]) == (
        "tpe+none",
        pytest.approx(0.8),
        3,
    )
    ours, weak, rival, late = (item["to_target"] for item in shown["combinations"])
    assert rival["share"] == 1
    assert ours["seconds"] == pytest.approx(100 * 0.3 * 0.8 / 0.9, abs=0.5), (
        "the median is that of the second seed"
    )
    assert ours["share"] == pytest.approx(ours["seconds"] / rival["seconds"])
    assert ours["low"] <= ours["share"] <= ours["high"]
    assert (weak["seconds"], weak["share"], weak["high"]) == (None, None, None), (
        "soon there, but not high enough"
    )
    assert late["share"] > 1
    assert shown["combinations"][0]["hypervolume"] == {
        key: pytest.approx(0.9) for key in ("median", "low", "high")
    }


def test_optunas_own_pruning_can_be_the_rival() -> None:
    found = made(
        made_up(4),
        **{
            "tpe_pareto-asha": rising((0.9, 0.2)),
            "tpe_none": rising((0.7, 1.0)),
            "optuna-tpe-first_optuna-median": rising((0.8, 1.0)),
        },
    )
    assert found.rival is not None
    assert found.rival.combination.name == "optuna-tpe-first+optuna-median"


def test_ranks_are_averaged_over_seeds_and_ties_are_shared() -> None:
    found = made(
        made_up(4), tpe_none=rising((0.5, 1), (0.9, 1)), random_none=rising((0.5, 1), (0.8, 1))
    )
    ranks = found.mean_ranks()
    assert list(ranks[:, 0]) == [1.5, 1.5]
    assert list(ranks[:, -1]) == [1.25, 1.75]


def test_without_a_rival_there_is_no_target() -> None:
    shown = made(made_up(4), **{"tpe_pareto-asha": rising((0.5, 1.0))}).to_json()
    assert (shown["best_rival"], shown["target"]) == (None, None)
    assert shown["combinations"][0]["to_target"] is None


def test_many_studies_are_compared_on_one_clock() -> None:
    table = made_up(60)
    told: list[tuple[int, int]] = []
    found = compare(
        table,
        combinations(["random", "nsga2"], ["pareto-asha", "none"]),
        seeds=3,
        tell=lambda done, of: told.append((done, of)),
    )
    shown = found.to_json()
    assert told == [(done, 12) for done in range(1, 13)]
    assert shown["seconds"] == pytest.approx(table.seconds / 8)
    assert shown["curves"]["seconds"][-1] == shown["seconds"]
    for item in shown["combinations"]:
        curve = shown["curves"][item["name"]]
        assert item["hypervolume"]["median"] == curve["median"][-1]
        assert {len(line) for line in curve.values()} == {POINTS}
        assert all(low <= high for low, high in zip(curve["low"], curve["high"], strict=True))
    stopping, whole = shown["combinations"][:2]
    assert stopping["tried"] > 2 * whole["tried"]
    assert compare(table, combinations(["random"], ["none"]), seeds=1, seconds=7.0).seconds == 7.0


# ---- how rungs foretell the end ----


def test_tau_of_drawn_rows_is_that_of_scipy_ties_included() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 30).astype(float)
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=5).astype(float)
    for row, found in zip(weights, fidelity.taus(x, y, weights), strict=True):
        again = np.repeat(np.arange(30), row.astype(int))
        assert found == pytest.approx(kendalltau(x[again], y[again]).statistic)


def test_tau_is_one_with_itself_and_minus_one_reversed() -> None:
    x = np.arange(20.0)
    assert fidelity.interval(x, x) == {"tau": 1.0, "low": 1.0, "high": 1.0}
    assert fidelity.interval(x, -x)["tau"] == -1.0
    assert fidelity.interval(x, np.zeros(20)) == {"tau": None, "low": None, "high": None}


def test_classes_are_thirds_by_parameters() -> None:
    table = made_up(60)
    parts = fidelity.cost_classes(list(table.rows))
    assert sorted(np.concatenate(parts)) == list(range(60))
    costs = [[table.rows[index].costs["params"] for index in part] for part in parts]
    assert all(max(small) < min(large) for small, large in itertools.pairwise(costs))
    assert (
        fidelity.cost_classes(
            [row.model_copy(update={"costs": {}, "values": {}}) for row in table.rows]
        )
        == []
    )


def test_agreement_is_over_all_rows_and_inside_classes() -> None:
    """Between classes the order is kept, inside one it is turned round: tau over all hides it."""
    made = [
        plain_row(number, 30 + 10 * cost + inside, 100.0 * 10**cost, then=10 * cost - inside)
        for number, (cost, inside) in enumerate(
            (cost, inside) for cost in range(3) for inside in range(5)
        )
    ]
    [found] = fidelity.agreement(small(made))
    assert (found["objective"], found["rung"], found["step"], found["rows"]) == ("psnr", 0, 50, 15)
    assert found["tau"] > 0.4
    assert found["low"] < found["tau"] < found["high"]
    assert found["inside"]["tau"] == pytest.approx(-1)
    assert [part["rows"] for part in found["inside"]["classes"]] == [5, 5, 5]
    assert [part["from"] for part in found["inside"]["classes"]] == [100.0, 1000.0, 10_000.0]


def test_what_is_timed_is_left_out_of_the_agreement() -> None:
    made = [plain_row(number, 30.0 + number, 100.0 + number) for number in range(6)]
    for row in made:
        row["values"] = {**row["values"], "params": row["values"]["params"] + 0.01}
    data = table_data(made)
    assert [item["objective"] for item in fidelity.agreement(Table.model_validate(data))] == [
        "psnr",
        "params",
    ]
    data["objectives"][1]["level"] = "device"
    assert [item["objective"] for item in fidelity.agreement(Table.model_validate(data))] == [
        "psnr"
    ]


def test_later_rungs_of_the_made_up_world_agree_better() -> None:
    first, second = fidelity.agreement(made_up(128))
    assert (first["step"], second["step"]) == RUNGS
    assert first["tau"] < second["tau"]
    assert first["high"] - first["low"] < 0.5


# ---- the picture ----


def test_the_picture_shows_every_combination(tmp_path: Path) -> None:
    found = compare(
        made_up(60), combinations(["random", "nsga2"], ["pareto-asha", "none"]), seeds=2
    ).to_json()
    plot.draw(tmp_path / "replay.png", found, "made-up")
    with Image.open(tmp_path / "replay.png") as image:
        assert image.format == "PNG"
        assert image.size[0] == plot.WIDTH
        there = np.array([color for _, color in image.convert("RGB").getcolors(2**24) or []])
    for color in plot.COLORS[:4]:
        assert np.abs(there - list(bytes.fromhex(color[1:]))).max(axis=1).min() < 8


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.61, 0.66, [0.61, 0.62, 0.63, 0.64, 0.65, 0.66]),
        (0, 7, list(range(0, 8, 2))),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert plot.ticks(low, high) == pytest.approx(expected)


def test_times_are_shown_in_a_unit_that_suits() -> None:
    assert [plot.time_unit(seconds) for seconds in (100, 1000, 100_000)] == [
        (1.0, "s"),
        (60.0, "min"),
        (3600.0, "h"),
    ]


def test_the_made_up_rows_pay_for_judging() -> None:
    """What the tests above rely on."""
    [row, *_] = made_up(4).rows
    assert [rung.judging for rung in row.rungs] == [JUDGING] * len(RUNGS)
    assert row.unjudged_seconds == row.seconds - 2 * JUDGING
