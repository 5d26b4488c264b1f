"""How samplers choose among the rows of a table: by their own densities, without bias."""

from __future__ import annotations

import json
import math
import warnings
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
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState, create_trial
from replay_world import (
    SPACE,
    STEPS,
    made_up,
    plain_row,
    quality,
    rows,
    small,
    study_of,
    tried,
)
from scipy.stats import chisquare

from automl_sr.errors import UseError
from automl_sr.search.optuna.samplers import make_sampler
from automl_sr.search.replay import choosers
from automl_sr.search.replay.choosers import ROW, SAMPLERS, Domain, NSGA2Chooser, TPEChooser
from automl_sr.search.replay.simulation import SimulatedStudy
from automl_sr.search.replay.table import Table

# ---- densities ----

KINDS: list[tuple[BaseDistribution, list[Any]]] = [
    (CategoricalDistribution(("a", "b", "c")), ["a", "b", "c"]),
    (IntDistribution(2, 30), list(range(2, 31))),
    (IntDistribution(0, 12, step=4), [0, 4, 8, 12]),
    (IntDistribution(1, 40, log=True), list(range(1, 41))),
    (FloatDistribution(0.5, 1.0, step=0.125), [0.5, 0.625, 0.75, 0.875, 1.0]),
]


@pytest.mark.parametrize(("item", "values"), KINDS)
def test_the_probabilities_of_all_values_add_up_to_one(
    item: BaseDistribution, values: list[Any]
) -> None:
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
    at = (
        np.exp(np.linspace(math.log(0.0101), math.log(9.99), 20))
        if log
        else np.linspace(0.011, 9.99, 20)
    )
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
    study.kept = seen_trials(table, list(range(40)))
    spaces = chooser.spaces(study, study.kept)
    rest = np.arange(40, 50)

    def expected(trials: list[FrozenTrial], *, good: bool) -> np.ndarray:
        found = np.zeros(len(rest))
        for space in spaces:
            density = chooser.sampler._build_parzen_estimator(
                study, space, trials, handle_below=good
            )
            for place, index in enumerate(rest):
                params = table.rows[index].params
                if space.keys() <= params.keys():
                    numbers = {
                        name: np.array([space[name].to_internal_repr(params[name])])
                        for name in space
                    }
                    found[place] += density.log_pdf(numbers)[0] - sum(
                        domain.prior[name][index] for name in space
                    )
        return found

    for level in (
        True,
        False,
    ):  # with more than 25 trials the newest weigh more, but not among the good ones
        ratio = chooser.log_ratio(spaces, study.kept[:32], level=level)
        assert ratio(rest) == pytest.approx(expected(study.kept[:32], good=level))
    below, above = _split_trials(study, study.kept, 4)
    score = expected(below, good=True) - expected(above, good=False)
    chooser.sampler._n_ei_candidates = 100_000  # all rows are among the candidates
    new = FrozenTrial(40, TrialState.RUNNING, None, None, None, {}, {}, {}, {}, {}, 40)
    study.kept.append(new)
    study.look()
    assert chooser.choose(study, new, rest) == rest[score.argmax()]


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
        return sorted(
            (set(space) for space in found), key=lambda names: (-len(names), sorted(names))
        )

    assert spaces("tpe", ["maximize", "minimize"]) == [common, *branches]
    assert spaces("optuna-tpe-first", ["maximize"]) == [common, *branches]
    assert spaces("optuna-tpe", ["maximize", "minimize"]) == [{name} for name in sorted(SPACE)]


def test_a_child_is_like_its_parents_or_mutated() -> None:
    """With two parameters one of them mutates on average; a child of equal parents that is like
    them is likeliest.
    """
    space: dict[str, BaseDistribution] = {
        "a": CategoricalDistribution((0, 1, 2, 3)),
        "b": FloatDistribution(0.0, 1.0),
    }
    given = [
        {"a": 0, "b": 0.05},
        {"a": 0, "b": 0.02},
        {"a": 1, "b": 0.05},
        {"a": 1, "b": 0.95},
        {"a": 2, "b": 0.05},
    ]
    made = [
        plain_row(number, 30.0 + number, 100.0 * (number + 1), params=p)
        for number, p in enumerate(given)
    ]
    distributions = {name: json.loads(distribution_to_json(item)) for name, item in space.items()}
    table = small(made, distributions=distributions)
    chooser = NSGA2Chooser(NSGAIISampler(), Domain(table), np.random.default_rng(0))
    first, *_, last = seen_trials(table, [0, 1, 4])
    ratio = np.exp(chooser.log_ratio(space, [first], np.arange(5)))
    same, other = {"a": 0.5 / 0.25 + 0.5, "b": 0.5 / 0.1 + 0.5}, 0.5
    assert ratio == pytest.approx(
        [same["a"] * same["b"]] * 2 + [other * same["b"], other * other, other * same["b"]]
    )
    both = np.exp(chooser.log_ratio(space, [first, last], np.arange(5)))
    half = 0.25 / 0.25 + 0.5
    assert both == pytest.approx(
        [half * same["b"]] * 2 + [other * same["b"], other * other, half * same["b"]]
    ), "half of what two parents disagree on"


# ---- no bias ----


def flat(count: int) -> Table:
    """A table that holds nothing to be learnt: all values and times are equal."""
    made = [
        plain_row(number, 30.0, 1000.0, params=row["params"])
        for number, row in enumerate(rows(count))
    ]
    for row in made:
        row["costs"] = {}
    return small(made, ideal={"psnr": 30.0, "params": 1000.0})


@pytest.mark.ci
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_the_first_row_is_drawn_evenly(sampler: str) -> None:
    table = flat(12)
    first = [tried(study_of(table, sampler, seed=seed, seconds=1.0))[0] for seed in range(600)]
    assert chisquare(np.bincount(first, minlength=12)).pvalue > 1e-3


@pytest.mark.ci
@pytest.mark.parametrize("sampler", ["nsga2", "optuna-nsga2", "random"])
def test_where_nothing_can_be_learnt_rows_are_drawn_evenly_at_all_times(sampler: str) -> None:
    table = flat(60)
    counts = np.zeros(60)
    for seed in range(200):
        counts[tried(study_of(table, sampler, seed=seed, seconds=9.0 * 30 - 1))] += 1
    # Drawn without replacement the counts vary less than independent ones would.
    assert 60 / 30 * ((counts - 100) ** 2 / 100).sum() / 59 == pytest.approx(1, abs=0.6)


@pytest.mark.ci
@pytest.mark.parametrize("sampler", ["tpe", "optuna-tpe", "optuna-tpe-first"])
def test_rows_that_differ_in_name_alone_are_drawn_evenly(sampler: str) -> None:
    """One parameter with a choice for each row: the estimator knows some, and nothing tells the
    others apart.
    """
    names = tuple(f"choice {index:02d}" for index in range(24))
    made = [
        plain_row(number, 30.0, 1000.0, params={"which": name}) for number, name in enumerate(names)
    ]
    for row in made:
        row["costs"] = {}
    which = {"which": json.loads(distribution_to_json(CategoricalDistribution(names)))}
    table = small(made, distributions=which, ideal={"psnr": 30.0, "params": 1000.0})
    eleventh = [
        tried(study_of(table, sampler, seed=seed, seconds=9.0 * 11))[11] for seed in range(300)
    ]
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
    """Search the made-up world itself, without a table, with Optuna's own sampler; gives the
    qualities.
    """
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


@pytest.mark.ci
@pytest.mark.parametrize(
    "sampler",
    [
        "nsga2",
        "optuna-nsga2",
        pytest.param("tpe", marks=pytest.mark.ci),
        pytest.param("optuna-tpe", marks=pytest.mark.ci),
    ],
)
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
    assert (
        len({tried(study_of(made_up(20), "qmc", seed=seed, seconds=1.0))[0] for seed in range(20)})
        > 5
    )
    with pytest.raises(UseError, match="was recorded with random: its order is no Sobol sequence"):
        study_of(made_up(20, sampler="random"), "qmc")
