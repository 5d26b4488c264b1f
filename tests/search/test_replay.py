"""Samplers and schedulers on a table, in simulated time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.samplers import NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image
from replay_world import JUDGING, RUNGS, SPACE, STEPS, made_up, quality, rows, table_data
from scipy.stats import chisquare, kendalltau
from search_world import find, load, registry, run_fast
from search_world import made_up as made_up_values

from automl_sr.errors import UseError
from automl_sr.search.replay import choosers, fidelity, plot
from automl_sr.search.replay.choosers import ROW, SAMPLERS, Domain, NSGA2Chooser, TPEChooser
from automl_sr.search.replay.comparison import POINTS, Combination, Comparison, Studies, combinations, compare
from automl_sr.search.replay.recording import _times, record
from automl_sr.search.replay.simulation import SimulatedStudy, Simulation
from automl_sr.search.replay.table import Table, load_table
from automl_sr.search.samplers import make_sampler
from automl_sr.search.scheduler import ParetoASHA
from automl_sr.store.reading import Reader
from automl_sr.store.records import RungRecord


def study_of(table: Table, sampler: str, scheduler: str = "none", **fields: Any) -> Simulation:
    """Simulate one study to its end."""
    limits: dict[str, Any] = {"seed": 0, "seconds": math.inf, **fields}
    simulation = Simulation(table, Domain(table), Combination(sampler, scheduler), **limits)
    simulation.run()
    return simulation


def tried(simulation: Simulation) -> list[int]:
    """The rows in the order in which they were tried."""
    return [trial.user_attrs[ROW] for trial in simulation.study.kept]


def small(rows: list[dict[str, Any]], **fields: Any) -> Table:
    return Table.model_validate(table_data(rows, **fields))


def plain_row(number: int, end: float, cost: float, *, then: float | None = None, **fields: Any) -> dict[str, Any]:
    """A row that takes 2 s until its only rung, 1 s of it for judging, and 10 s until the end."""
    return {
        "number": number,
        "state": "complete",
        "fingerprint": str(number),
        "params": {},
        "rungs": [
            {
                "rung": 0,
                "step": 50,
                "values": {"psnr": end - 1 if then is None else then, "params": cost},
                "seconds": 2.0,
                "judging": 1.0,
            }
        ],
        "values": {"psnr": end, "params": cost},
        "costs": {"params": cost},
        "seconds": 10.0,
        **fields,
    }


# ---- the table and its file ----


def test_a_table_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    table = made_up(40)
    table.save(tmp_path / "table.json")
    assert load_table(tmp_path / "table.json") == table
    text = (tmp_path / "table.json").read_text()
    assert json.loads(text)["rows"][3]["number"] == 3
    assert len([line for line in text.splitlines() if line.startswith('{"number":')]) == 40, "a row a line"


def test_300_rows_take_a_few_hundred_kilobytes(tmp_path: Path) -> None:
    made_up(300).save(tmp_path / "table.json")
    assert (tmp_path / "table.json").stat().st_size < 300_000


def changed(change: Callable[[dict[str, Any]], Any]) -> str:
    data = table_data(rows(4))
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no table: Expecting property name"),
        ("[]", "the key 'format' is missing"),
        (changed(lambda data: data.update(format=9)), "has format 9, this version reads 1. Update automl-sr."),
        (changed(lambda data: data.update(colour="red")), "colour: Extra inputs are not permitted"),
        (changed(lambda data: data.pop("reference")), "reference: Field required"),
        (
            changed(lambda data: data["rows"][2].update(seconds="long")),
            "rows.2.seconds: Input should be a valid number",
        ),
        (changed(lambda data: data["rows"][2].update(seconds=math.nan)), "rows.2.seconds: Input should be a finite"),
        (changed(lambda data: data["rows"][2].update(number=1)), "a number is there twice"),
        (changed(lambda data: data["rows"][1]["values"].pop("psnr")), "row 1: psnr is missing in its values"),
        (changed(lambda data: data["rows"][1]["rungs"][1]["values"].pop("psnr")), "row 1: psnr is missing in rung 1"),
        (changed(lambda data: data["rows"][1]["rungs"].reverse()), "row 1: its rungs are not in order"),
        (changed(lambda data: data["rows"][1].update(seconds=0.1)), "row 1: its rungs are not in order"),
        (changed(lambda data: data["rows"][1]["rungs"][1].update(judging=1e6)), "row 1: judging rung 1 took longer"),
        (changed(lambda data: data["rows"][0]["params"].update(odd=1)), "row 0: the parameter odd has no distribution"),
        (changed(lambda data: data["rows"][0]["params"].update({"recipe.lr": 7.0})), "recipe.lr = 7.0 lies outside"),
        (changed(lambda data: data["rows"][0]["params"].update(loss="l3")), "loss = 'l3' lies outside"),
        (changed(lambda data: data["reference"].update(psnr=99.0)), "the reference of psnr is no worse than the best"),
        (changed(lambda data: data["ideal"].update(params=0.0)), "params is compared by ratio and must be above 0"),
        (changed(lambda data: data["ideal"].pop("params")), "reference and ideal must name params"),
        (changed(lambda data: data.update(rows=data["rows"][:1])), "there are 1 complete rows, a comparison needs at"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UseError) as error:
        load_table(tmp_path / "table.json")
    assert words in str(error.value)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="There is no table"):
        load_table(tmp_path / "table.json")


# ---- from a study to its table ----


def run_with_rungs(plan: Any, setting: Any, journal: Any, folder: Path) -> Any:
    """Reach two rungs, whatever the scheduler says, then the end; the rungs are a little worse."""
    outcome = run_fast(plan, setting, journal, folder)
    values = {name: value for name, value in made_up_values(plan).items() if name in setting.metrics}
    for index, step in enumerate((100, 300)):
        journal.rung(index, step, {**values, "score": values["score"] - 2 + index}, outcome.artifacts)
    return dataclasses.replace(outcome, seconds={"train": 0.0, "fork": 0.0, "evaluate": 0.0})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("store")
    text = "constraints: {params: {max: 600}}\n"
    loaded = load(trials=8, sampler="qmc", scheduler="{kind: pareto-asha, rungs: 3}", more=text)
    find(loaded, folder, run_with_rungs)
    return Reader.open(f"sqlite:///{folder}/store.db")


def test_a_study_becomes_a_table_that_needs_no_plugins(store: Reader, tmp_path: Path) -> None:
    table, notes = record(store, "world", registry(), {})
    trials = store.trials(store.study("world"))
    assert notes == []
    assert [row.number for row in table.rows] == [trial.number for trial in trials if trial.state != "duplicate"]
    assert {"complete", "infeasible"} == {row.state for row in table.rows}
    assert {"architecture.line.width", "architecture.line.gain", "recipe.lr"} < set(table.distributions)
    assert "recipe.warmup" not in table.distributions, "fixed: no sampler is asked for it"
    by_number = {trial.number: trial for trial in trials}
    for row in table.rows:
        trial = by_number[row.number]
        assert row.fingerprint == trial.fingerprint
        assert row.params == {name: trial.params[name] for name in table.distributions}
        assert row.seconds == trial.seconds
        assert row.costs["params"] == 19.0 * row.params["architecture.line.width"] + 1
        if row.state == "complete":
            assert [(rung.rung, rung.step) for rung in row.rungs] == [(0, 100), (1, 300)]
            assert [rung.values["score"] for rung in row.rungs] == [row.values["score"] - 2, row.values["score"] - 1]
    table.save(tmp_path / "table.json")
    assert load_table(tmp_path / "table.json") == table
    assert study_of(table, "tpe", "pareto-asha").trace.tried == len(table.rows)


def test_the_corners_of_the_hypervolume_follow_from_the_study(store: Reader) -> None:
    table, _ = record(store, "world", registry(), {})
    assert table.reference == {"score": 1.5, "params": 1200.0}, "without a model; twice the limit"
    assert table.ideal["params"] == min(row.values["params"] for row in table.complete)
    given, _ = record(store, "world", registry(), {"score": 20.0})
    assert given.reference == {"score": 20.0, "params": 1200.0}
    with pytest.raises(UseError, match="no objective 'scores'"):
        record(store, "world", registry(), {"scores": 99.0})
    with pytest.raises(UseError, match="gives no table: the reference of score is no worse"):
        record(store, "world", registry(), {"score": 99.0})


def test_a_study_that_was_stopped_early_says_what_is_missing(tmp_path: Path) -> None:
    def run(plan: Any, setting: Any, journal: Any, folder: Path) -> Any:
        outcome = run_fast(plan, setting, journal, folder)
        if journal.rung(0, 100, outcome.values, outcome.artifacts):
            return outcome
        return dataclasses.replace(outcome, state="pruned")

    find(load(trials=12, scheduler="{kind: pareto-asha, rungs: 2}"), tmp_path, run)
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    table, [stopped] = record(opened, "world", registry(), {})
    gone = opened.study("world").counts["pruned"]
    assert gone > 0
    assert stopped.startswith(f"{gone} trials were stopped early and left out")
    assert len(table.complete) == opened.study("world").counts["complete"]


TIMED = {
    "stage_seconds": {"select": 5.0, "train": 90.0, "fork": 13.0, "export": 3.0, "evaluate": 6.0},
    "params": {"recipe.cooldown": 0.1},
    "seconds": 118.0,
    "shared": {},
}
"""900 steps of the trunk and forks after 100, 300 and 900 of them: each takes time as it is long."""


def times(seconds: tuple[float | None, float | None], **fields: Any) -> list[dict[str, Any]]:
    trial: Any = SimpleNamespace(**{**TIMED, **fields})
    study: Any = SimpleNamespace(spec={"budget": {"steps": 1000}})
    rungs: list[Any] = [
        RungRecord(0, index, step, {}, go_on=True, seconds=at)
        for index, (step, at) in enumerate(zip((100, 300), seconds, strict=True))
    ]
    return _times(trial, rungs, study)


def test_judging_is_told_apart_from_training_by_the_stages() -> None:
    first, second = times((20.0, 44.0))
    assert (first["judging"], second["judging"]) == (1.0 + 3.0, 3.0 + 3.0)
    assert (first["seconds"], second["seconds"]) == (20.0, 44.0), "as noted at the rung"


def test_where_the_time_at_a_rung_was_not_noted_every_step_takes_the_same() -> None:
    first, second = times((None, None))
    assert first["seconds"] == pytest.approx(5 + 10 + 4)
    assert second["seconds"] == pytest.approx(5 + 30 + 4 + 6)


def test_making_what_all_trials_share_counts_for_nobody() -> None:
    shared = {
        "scores": {"seconds": 3.0, "reused": False},
        "teacher": {"seconds": 99.0, "reused": True, "waited": 1.5},
        "calibration": {"seconds": 2.0, "reused": True},
    }
    assert [rung["seconds"] for rung in times((20.0, 44.0), shared=shared)] == [15.5, 39.5]


# ---- densities ----

KINDS: list[tuple[BaseDistribution, list[Any]]] = [
    (CategoricalDistribution(("a", "b", "c")), ["a", "b", "c"]),
    (IntDistribution(2, 30), list(range(2, 31))),
    (IntDistribution(0, 12, step=4), [0, 4, 8, 12]),
    (IntDistribution(1, 40, log=True), list(range(1, 41))),
    (FloatDistribution(0.5, 1.0, step=0.125), [0.5, 0.625, 0.75, 0.875, 1.0]),
]


@pytest.mark.parametrize(("item", "values"), KINDS)
def test_the_probabilities_of_all_values_add_up_to_one(item: BaseDistribution, values: list[Any]) -> None:
    numbers = np.array([item.to_internal_repr(value) for value in values])
    prior = np.exp(choosers._log_prior(item, numbers))
    assert prior.sum() == pytest.approx(1)
    cells, masses = choosers._cells(item, numbers)
    assert sum(masses[cells == cell][0] for cell in set(cells)) == pytest.approx(1)
    for cell in set(cells):
        assert masses[cells == cell] == pytest.approx(prior[cells == cell].sum())


@pytest.mark.parametrize("log", [False, True])
def test_a_number_of_a_range_has_the_density_of_the_range(log: bool) -> None:
    item = FloatDistribution(0.01, 10.0, log=log)
    width = math.log(1000) if log else 9.99
    assert np.exp(choosers._log_prior(item, np.array([0.01, 5.0]))) == pytest.approx(1 / width)
    at = np.exp(np.linspace(math.log(0.0101), math.log(9.99), 20)) if log else np.linspace(0.011, 9.99, 20)
    cells, masses = choosers._cells(item, at)
    assert list(cells) == [index // 2 for index in range(20)]
    assert masses == pytest.approx(0.1)


def test_what_a_row_does_not_have_is_nobodys_neighbour() -> None:
    domain = Domain(made_up(30))
    name = "architecture.deep.blocks"
    there = np.array([name in row.params for row in made_up(30).rows])
    assert 0 < there.sum() < 30
    assert list(domain.has(name, np.arange(30))) == list(there)
    assert ((domain.cell[name] < 0) == ~there).all()


def seen_trials(table: Table, indices: list[int]) -> list[FrozenTrial]:
    found = []
    for number, index in enumerate(indices):
        row = table.rows[index]
        trial = create_trial(
            params=row.params,
            distributions={name: table.parameters[name] for name in row.params},
            values=[row.values["psnr"], row.values["params"]],
            user_attrs={ROW: index},
        )
        trial.number = number
        found.append(trial)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "optuna-tpe"])
def test_densities_are_those_of_optunas_own_sampler(sampler: str) -> None:
    table = made_up(50)
    domain = Domain(table)
    chooser = SAMPLERS[sampler].make(table, domain, np.random.default_rng(0))
    assert isinstance(chooser, TPEChooser)
    study = SimulatedStudy(["maximize", "minimize"], sees_stopped=True)
    study.kept = seen_trials(table, list(range(12)))
    spaces = chooser.spaces(study, study.kept)
    ratio = chooser.log_ratio(spaces, study.kept[:5], level=True)
    rest = np.arange(12, 50)
    expected = np.zeros(len(rest))
    for space in spaces:
        density = chooser.sampler._build_parzen_estimator(study, space, study.kept[:5], handle_below=True)
        for place, index in enumerate(rest):
            params = table.rows[index].params
            if space.keys() <= params.keys():
                numbers = {name: np.array([space[name].to_internal_repr(params[name])]) for name in space}
                expected[place] += density.log_pdf(numbers)[0] - sum(domain.prior[name][index] for name in space)
    assert ratio(rest) == pytest.approx(expected)


def test_spaces_are_sampled_as_optuna_divides_them() -> None:
    """In groups that always come together; what all trials have; or each parameter by itself."""
    table = made_up(50)
    trials = seen_trials(table, list(range(30)))
    common = {"architecture", "loss", "recipe.lr", "recipe.batch", "selection.keep"}
    branches = [{"architecture.deep.blocks"}, {"architecture.wide.width"}]

    def spaces(sampler: str, directions: list[str]) -> list[set[str]]:
        chooser = SAMPLERS[sampler].make(table, Domain(table), np.random.default_rng(0))
        assert isinstance(chooser, TPEChooser)
        found = chooser.spaces(SimulatedStudy(directions, sees_stopped=False), trials)
        return sorted((set(space) for space in found), key=lambda names: (-len(names), sorted(names)))

    assert spaces("tpe", ["maximize", "minimize"]) == [common, *branches]
    assert spaces("optuna-tpe-first", ["maximize"]) == [common, *branches]
    assert spaces("optuna-tpe", ["maximize", "minimize"]) == [{name} for name in sorted(SPACE)]


def test_a_child_is_like_its_parents_or_mutated() -> None:
    """With two parameters one of them mutates on average; a child of equal parents that is like them is likeliest."""
    space: dict[str, BaseDistribution] = {
        "a": CategoricalDistribution((0, 1, 2, 3)),
        "b": FloatDistribution(0.0, 1.0),
    }
    given = [{"a": 0, "b": 0.05}, {"a": 0, "b": 0.02}, {"a": 1, "b": 0.05}, {"a": 1, "b": 0.95}, {"a": 2, "b": 0.05}]
    made = [plain_row(number, 30.0 + number, 100.0 * (number + 1), params=p) for number, p in enumerate(given)]
    distributions = {name: json.loads(distribution_to_json(item)) for name, item in space.items()}
    table = small(made, distributions=distributions)
    chooser = NSGA2Chooser(NSGAIISampler(), Domain(table), np.random.default_rng(0))
    first, *_, last = seen_trials(table, [0, 1, 4])
    ratio = np.exp(chooser.log_ratio(space, [first], np.arange(5)))
    same, other = {"a": 0.5 / 0.25 + 0.5, "b": 0.5 / 0.1 + 0.5}, 0.5
    assert ratio == pytest.approx([same["a"] * same["b"]] * 2 + [other * same["b"], other * other, other * same["b"]])
    both = np.exp(chooser.log_ratio(space, [first, last], np.arange(5)))
    half = 0.25 / 0.25 + 0.5
    assert both == pytest.approx([half * same["b"]] * 2 + [other * same["b"], other * other, half * same["b"]]), (
        "half of what two parents disagree on"
    )


# ---- no bias ----


def flat(count: int) -> Table:
    """A table that holds nothing to be learnt: all values and times are equal."""
    made = [plain_row(number, 30.0, 1000.0, params=row["params"]) for number, row in enumerate(rows(count))]
    for row in made:
        row["costs"] = {}
    return small(made, ideal={"psnr": 30.0, "params": 1000.0})


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_the_first_row_is_drawn_evenly(sampler: str) -> None:
    table = flat(12)
    first = [tried(study_of(table, sampler, seed=seed, seconds=1.0))[0] for seed in range(600)]
    assert chisquare(np.bincount(first, minlength=12)).pvalue > 1e-3


@pytest.mark.parametrize("sampler", ["nsga2", "optuna-nsga2", "random"])
def test_where_nothing_can_be_learnt_rows_are_drawn_evenly_at_all_times(sampler: str) -> None:
    table = flat(60)
    counts = np.zeros(60)
    for seed in range(200):
        counts[tried(study_of(table, sampler, seed=seed, seconds=9.0 * 30 - 1))] += 1
    # Drawn without replacement the counts vary less than independent ones would.
    assert 60 / 30 * ((counts - 100) ** 2 / 100).sum() / 59 == pytest.approx(1, abs=0.6)


@pytest.mark.parametrize("sampler", ["tpe", "optuna-tpe", "optuna-tpe-first"])
def test_rows_that_differ_in_name_alone_are_drawn_evenly(sampler: str) -> None:
    """One parameter with a choice for each row: the estimator knows some, and nothing tells the others apart."""
    names = tuple(f"choice {index:02d}" for index in range(24))
    made = [plain_row(number, 30.0, 1000.0, params={"which": name}) for number, name in enumerate(names)]
    for row in made:
        row["costs"] = {}
    which = {"which": json.loads(distribution_to_json(CategoricalDistribution(names)))}
    table = small(made, distributions=which, ideal={"psnr": 30.0, "params": 1000.0})
    eleventh = [tried(study_of(table, sampler, seed=seed, seconds=9.0 * 11))[11] for seed in range(300)]
    assert chisquare(np.bincount(eleventh, minlength=24)).pvalue > 1e-3


@pytest.mark.parametrize("scheduler", ["none", "pareto-asha"])
@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"qmc"}))
def test_nobody_looks_at_rows_that_were_not_tried(sampler: str, scheduler: str) -> None:
    """Other values in the rows after the 25th change none of the first 25 choices."""
    table = made_up(50, seed=3)
    order = tried(study_of(table, sampler, scheduler))
    data = table.model_dump(mode="json")
    for index in order[25:]:
        row = data["rows"][index]
        row["seconds"] *= 2
        for values in [row["values"], *(rung["values"] for rung in row["rungs"])]:
            values["psnr"] = 60.0 - values["psnr"]
    other = Table.model_validate({**data, "ideal": {**data["ideal"], "psnr": 60.0}})
    assert tried(study_of(other, sampler, scheduler))[:25] == order[:25]


def free_search(sampler: str, seed: int, trials: int) -> list[float]:
    """Search the made-up world itself, without a table, with Optuna's own sampler; gives the qualities."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = {"optuna-tpe": TPESampler, "optuna-nsga2": NSGAIISampler}.get(sampler)
        inner: Any = make_sampler(sampler, 0, SPACE).inner if made is None else made()  # type: ignore[attr-defined]
    inner._rng.rng.seed(seed)
    inner._random_sampler._rng.rng.seed(1000 + seed)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=inner)
    found = []
    for _ in range(trials):
        trial = study.ask()
        params: dict[str, Any] = {}
        for name, item in SPACE.items():
            if name.count(".") < 2 or name.split(".")[1] == params["architecture"]:
                params[name] = trial._suggest(name, item)
        psnr, cost = quality(params, STEPS, 0)
        study.tell(trial, (psnr, cost))
        found.append(psnr)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "optuna-tpe", "optuna-nsga2"])
def test_on_a_large_table_a_sampler_proposes_what_it_proposes_in_the_space(sampler: str) -> None:
    """Quality of the second 25 of 50 trials: as far above random search in both."""
    made = rows(1024, noise=0)
    for row in made:
        row.update(rungs=[], seconds=3.0)
    table = small(made)
    mean = np.mean([row.values["psnr"] for row in table.rows])
    spread = np.std([row.values["psnr"] for row in table.rows])
    free, replayed = [], []
    for seed in range(12):
        free.append(np.mean(free_search(sampler, seed, 50)[25:]))
        order = tried(study_of(table, sampler, seed=seed, seconds=3.0 * 49.5))
        replayed.append(np.mean([table.rows[index].values["psnr"] for index in order[25:]]))
    noise = math.hypot(np.std(free), np.std(replayed)) / math.sqrt(12)
    assert abs(np.mean(free) - np.mean(replayed)) < 0.12 * spread + 3 * noise
    if sampler != "optuna-nsga2":  # 50 trials are its first generation
        assert np.mean(replayed) > mean + 0.2 * spread


def test_quasi_random_search_goes_through_the_recorded_sequence() -> None:
    order = tried(study_of(made_up(20), "qmc", seed=1))
    assert sorted(order) == list(range(20))
    begin = order[0]
    assert order == [(begin + step) % 20 for step in range(20)]
    assert len({tried(study_of(made_up(20), "qmc", seed=seed, seconds=1.0))[0] for seed in range(20)}) > 5
    with pytest.raises(UseError, match="was recorded with random: its order is no Sobol sequence"):
        study_of(made_up(20, sampler="random"), "qmc")


# ---- simulated time ----


def test_without_early_stopping_a_study_takes_the_time_of_its_trials_without_judging() -> None:
    table = small([plain_row(0, 30.0, 300.0), plain_row(1, 31.0, 200.0), plain_row(2, 32.0, 100.0)])
    simulation = study_of(table, "qmc")
    assert (simulation.trace.tried, simulation.trace.complete) == (3, 3)
    assert simulation.trace.times[-1] <= 27.0
    assert all(time % 9 == 0 for time in simulation.trace.times)
    assert table.seconds == 27.0


def test_a_stopped_trial_gives_its_time_to_the_next() -> None:
    """Rows in the order 0, 1, 2: the first goes on, the second is worse in everything, the third is the best."""
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
    assert told[3].constraints == {"params": pytest.approx(0.2)}, "told, so that samplers learn; not on the front"
    only = small(made, **limits).box.scaled([{"psnr": 30.0, "params": 100.0}])
    assert simulation.trace.shares[-1] == pytest.approx(small(made, **limits).box.share(only))


def test_rungs_are_judged_as_in_a_search() -> None:
    """The decisions are those of the scheduler of real trials, asked in the order of simulated time."""
    table = made_up(60)
    simulation = study_of(table, "random", "pareto-asha", workers=3)
    events = []
    ends = {}
    time = [0.0] * 3
    for trial in simulation.study.kept:  # the next trial goes to the worker that is free first
        worker = int(np.argmin(time))
        row = table.rows[trial.user_attrs[ROW]]
        reached = len(trial.user_attrs["automl_sr:rungs"])
        events += [(time[worker] + rung.seconds, trial.number, rung) for rung in row.rungs[:reached]]
        ends[trial.number] = trial.state
        time[worker] += row.seconds if trial.state == TrialState.COMPLETE else row.rungs[reached - 1].seconds
    judge = ParetoASHA(table.metrics, 3)
    before: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    for _, number, rung in sorted(events, key=lambda event: event[:2]):
        later = [event for event in events if event[1] == number and event[2].rung > rung.rung]
        goes_on = bool(later) or (rung.rung == 1 and ends[number] == TrialState.COMPLETE)
        assert judge.decide(rung.rung, rung.values, before[rung.rung]) == goes_on
        before[rung.rung].append(rung.values)
    assert {TrialState.COMPLETE, TrialState.PRUNED} == set(ends.values())


@pytest.mark.parametrize(("sampler", "state"), [("tpe", TrialState.COMPLETE), ("optuna-tpe", TrialState.PRUNED)])
def test_our_samplers_see_stopped_trials_with_values_and_optunas_do_not(sampler: str, state: TrialState) -> None:
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
    for trial in simulation.study.kept:  # one worker: a trial is judged with all before it at their end
        row = table.rows[trial.user_attrs[ROW]]
        shown = FrozenTrial(trial.number, TrialState.RUNNING, None, None, None, {}, {}, {}, {}, {}, trial.number)
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
    names = [item.name for item in combinations(["tpe", "optuna-tpe-first+optuna-median"], ["none", "median"])]
    assert names == ["optuna-tpe-first+optuna-median", "tpe+none", "tpe+median"]
    left = [item.name for item in combinations(["tpe", "optuna-tpe-first"], ["none", "optuna-median"])]
    assert left == ["tpe+none", "optuna-tpe-first+none", "optuna-tpe-first+optuna-median"], "what Optuna has"


@pytest.mark.parametrize(
    ("samplers", "schedulers", "words"),
    [
        (["tpee"], ["none"], "Unknown sampler 'tpee'. Did you mean 'tpe'?"),
        (["gp"], ["none"], "Unknown sampler 'gp'. Known: tpe, nsga2"),
        (["tpe"], ["asha"], "Unknown scheduler 'asha'. Did you mean 'pareto-asha'?"),
        (["tpe"], ["optuna-median"], "There is nothing to compare. optuna-median works for a single objective"),
        ([], ["none"], "There is nothing to compare. Give --samplers and --schedulers."),
    ],
)
def test_what_cannot_be_compared_is_said(samplers: list[str], schedulers: list[str], words: str) -> None:
    with pytest.raises(UseError) as error:
        combinations(samplers, schedulers)
    assert words in str(error.value)


def made(table: Table, **curves: Any) -> Comparison:
    """A comparison with given curves, from 0 to 100 s; the names are samplers, and `_` divides them from schedulers."""
    studies = tuple(
        Studies(Combination(*name.split("_")), np.asarray(curve, dtype=float), 1.0, 1.0)
        for name, curve in curves.items()
    )
    return Comparison(table, 100.0, 1, np.linspace(0, 100, POINTS), studies)


def rising(*ends: tuple[float, float]) -> list[Any]:
    """Curves that reach a height on a straight line, at a share of the time, and stay there; one for each seed."""
    time = np.linspace(0, 1, POINTS)
    return [height * np.minimum(time / at, 1) for height, at in ends]


def test_the_rival_is_the_best_without_early_stopping() -> None:
    found = made(
        made_up(4),
        **{
            "tpe_pareto-asha": rising((0.9, 0.2), (0.9, 0.3), (0.9, 0.4)),
            "nsga2_none": rising((0.6, 1.0), (0.6, 1.0), (0.6, 1.0)),
            "tpe_none": rising((0.8, 0.7), (0.8, 0.8), (0.1, 0.9)),
            "random_none": rising((0.8, 1.0), (0.8, 1.0), (0.5, 1.0)),
        },
    )
    assert found.rival is not None
    assert found.rival.combination.name == "tpe+none", "as high as random, and sooner"
    shown = found.to_json()
    assert (shown["best_rival"], shown["target"], shown["seeds"]) == ("tpe+none", pytest.approx(0.8), 3)
    ours, weak, rival, late = (item["to_target"] for item in shown["combinations"])
    assert rival["share"] == 1
    assert ours["seconds"] == pytest.approx(100 * 0.3 * 0.8 / 0.9, abs=0.5), "the median is that of the second seed"
    assert ours["share"] == pytest.approx(ours["seconds"] / rival["seconds"])
    assert ours["low"] <= ours["share"] <= ours["high"]
    assert weak == {"seconds": None, "share": None, "low": None, "high": None} | {"low": weak["low"]}
    assert late["share"] > 1
    assert shown["combinations"][0]["hypervolume"] == {key: pytest.approx(0.9) for key in ("median", "low", "high")}


def test_ranks_are_averaged_over_seeds_and_ties_are_shared() -> None:
    found = made(made_up(4), tpe_none=rising((0.5, 1), (0.9, 1)), random_none=rising((0.5, 1), (0.8, 1)))
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
    assert fidelity.cost_classes([row.model_copy(update={"costs": {}, "values": {}}) for row in table.rows]) == []


def test_agreement_is_over_all_rows_and_inside_classes() -> None:
    """Between classes the order is kept, inside one it is turned round: tau over all hides it."""
    made = [
        plain_row(number, 30 + 10 * cost + inside, 100.0 * 10**cost, then=10 * cost - inside)
        for number, (cost, inside) in enumerate((cost, inside) for cost in range(3) for inside in range(5))
    ]
    [found] = fidelity.agreement(small(made))
    assert (found["objective"], found["rung"], found["step"], found["rows"]) == ("psnr", 0, 50, 15)
    assert found["tau"] > 0.4
    assert found["low"] < found["tau"] < found["high"]
    assert found["inside"]["tau"] == pytest.approx(-1)
    assert [part["rows"] for part in found["inside"]["classes"]] == [5, 5, 5]
    assert [part["from"] for part in found["inside"]["classes"]] == [100.0, 1000.0, 10_000.0]


def test_later_rungs_of_the_made_up_world_agree_better() -> None:
    first, second = fidelity.agreement(made_up(128))
    assert (first["step"], second["step"]) == RUNGS
    assert first["tau"] < second["tau"]
    assert first["high"] - first["low"] < 0.5


# ---- the picture ----


def test_the_picture_shows_every_combination(tmp_path: Path) -> None:
    found = compare(made_up(60), combinations(["random", "nsga2"], ["pareto-asha", "none"]), seeds=2).to_json()
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
    assert [plot.time_unit(seconds) for seconds in (100, 1000, 100_000)] == [(1.0, "s"), (60.0, "min"), (3600.0, "h")]


def test_the_made_up_rows_pay_for_judging() -> None:
    """What the tests above rely on."""
    [row, *_] = made_up(4).rows
    assert [rung.judging for rung in row.rungs] == [JUDGING] * len(RUNGS)
    assert row.unjudged_seconds == row.seconds - 2 * JUDGING
