"""A new study takes over the trials of an old one whose plans mean the same, and every sampler
learns from them.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import optuna
import pytest
import search_world
from optuna.trial import TrialState
from search_world import FakeTask, Line
from searched import Once
from space_toys import plugin
from sqlalchemy import update

from automl_sr.errors import StoreError, UseError
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.registry import Registry, discover
from automl_sr.plugin.task import TaskData
from automl_sr.plugin.technique import Choice, Int, Later, Slot, Technique
from automl_sr.search import warm_start
from automl_sr.search.engine import Options, SearchEnd, search
from automl_sr.search.open_study import OpenStudy
from automl_sr.search.optuna import sync
from automl_sr.search.optuna.sampler_view import RUNGS_ATTRIBUTE
from automl_sr.search.optuna.samplers import SAMPLERS
from automl_sr.search.retention import find_leftovers, remove
from automl_sr.search.study import fork_study, open_study
from automl_sr.search.workers.callbacks import SearchCallback
from automl_sr.search.workers.store_monitor import StoreMonitor
from automl_sr.store import models
from automl_sr.store.imports import named_elsewhere
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store
from automl_sr.study.spec import parse_study
from automl_sr.training.recipe import Recipe
from automl_sr.trial.types import Outcome

pytestmark = pytest.mark.ci


class Block(Technique):
    """Another architecture."""

    slot = Slot.ARCHITECTURE
    name = "block"
    tasks = frozenset({"fake"})
    provides = frozenset({"blocks"})
    factories: ClassVar = {"line": "search_world:line"}
    width: Annotated[int, Int(1, 64)] = 8
    kernel: Annotated[int, Choice(3, 5)] = 3

    def blueprint(self, task: Any, ctx: Any) -> Blueprint:
        return Blueprint("line", {"width": self.width})


class NoQuantization(Technique):
    """Ship float32."""

    slot = Slot.QUANTIZATION
    name = "none"
    tasks = frozenset({"fake"})
    baseline = True


class Half(NoQuantization):
    """Ship float16."""

    name = "half"
    baseline = False

    def compress(self, finished: Any, ctx: Any) -> Any:
        return finished


class Int8(Half):
    """Ship int8, which blocks do not bear."""

    name = "int8"
    conflicts = frozenset({"blocks"})
    bits: Annotated[int, Choice(4, 8)] = 8


def world(*techniques: type[Technique]) -> Registry:
    return discover(
        entry_points=(), plugins=[plugin([*techniques, Recipe], [FakeTask], name="world")]
    )


EVERYTHING = world(Line, Block, NoQuantization, Half, Int8)
SMALL = (
    "architecture: {line: {width: [4, 40]}}\n  quantization: [none, half]\n  recipe: {lr: [0.001,"
    " 0.1]}"
)
ONE_RECIPE = "batch: 16, patch: 32, loss: l1, ema: 0.99"
FEW = (
    "architecture: {{line: {{width: [1, {}], gain: 0.5}}}}\n  recipe: {{lr: 0.02,"
    f" {ONE_RECIPE}}}}}"
)
LARGE = (
    "architecture: {line: {}, block: {}}\n  quantization: [none, half, int8]\n  recipe: {lr:"
    " [0.001, 0.1]}"
)


def study_file(
    name: str, space: str, registry: Registry = EVERYTHING, more: str = "", **fields: Any
) -> Any:
    head = search_world.study_text(name, **fields).split("space:")[0]
    return parse_study(f"{head}{more}space:\n  {space}\n", f"{name}.yaml", registry)


def values_of(plan: Any) -> dict[str, float]:
    """Wide nets are good, blocks are better, and there is a best learning rate."""
    kind, params = plan.params["architecture"], plan.params
    width = params[f"architecture.{kind}.width"]
    score = 30 + width / 32 + (kind == "block") - 50 * (params["recipe.lr"] - 0.02) ** 2
    return {"score": score, "params": 19.0 * width + 1}


def run(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.onnx"
    file.write_text(plan.fingerprint)
    values = {name: value for name, value in values_of(plan).items() if name in setting.metrics}
    return Outcome("complete", values, {"onnx": file}, {"train": 0.1})


def where(folder: Path, **more: Any) -> Options:
    return Options(
        store=f"sqlite:///{folder}/store.db", artifacts=str(folder / "artifacts"), **more
    )


def find(
    folder: Path, loaded: Any, registry: Registry = EVERYTHING, run: Any = run, **more: Any
) -> SearchEnd:
    return search(loaded, registry, where(folder, **more), run=run)


Begin = Callable[..., None]


@pytest.fixture
def begin(once: Once) -> Begin:
    """Search in a new store, or copy the store of a test that began with the same study."""

    def search_or_copy(folder: Path, loaded: Any, run: Any = run) -> None:
        once((loaded.source_text, run.__name__), lambda made: find(made, loaded, run=run), folder)

    return search_or_copy


def fork(folder: Path, loaded: Any, registry: Registry = EVERYTHING, old: str = "old") -> OpenStudy:
    return fork_study(old, loaded, registry, where(folder))


def rows(folder: Path, name: str) -> list[Any]:
    opened = Reader.open(f"sqlite:///{folder}/store.db")
    return opened.trials(opened.study(name))


def left_out(study: OpenStudy) -> dict[str, int]:
    return dict(study.record.environment["origin"]["left_out"])


def optuna_trials(study: OpenStudy) -> list[Any]:
    return sorted(study.optuna.get_trials(), key=lambda trial: trial.number)


# What is taken over


@pytest.mark.everyday
def test_a_larger_space_takes_over_every_trial_with_its_values_and_files(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=12))
    forked = fork(tmp_path, study_file("new", LARGE, trials=12))
    old, new = rows(tmp_path, "old"), rows(tmp_path, "new")
    assert [row.number for row in new] == list(range(12))
    assert [row.origin for row in new] == [
        {"study": "old", "number": number} for number in range(12)
    ]
    for before, after in zip(old, new, strict=True):
        assert (after.state, after.values, after.costs) == (
            before.state,
            before.values,
            before.costs,
        )
        assert (after.params, after.fingerprint) == (before.params, before.fingerprint)
        assert after.artifacts == before.artifacts
        assert after.id != before.id
    assert left_out(forked) == {}
    assert forked.record.counts["complete"] == 12
    assert not forked.resumed


def test_the_budget_counts_a_studys_own_trials_and_its_baseline_is_not_tried_again(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=5))
    new = study_file("new", LARGE, trials=4)
    fork(tmp_path, new)
    end = find(tmp_path, new)
    assert end.summary["trials"]["complete"] == 9
    assert [row.origin is None for row in rows(tmp_path, "new")] == [False] * 5 + [True] * 4
    assert [row.number for row in rows(tmp_path, "new")] == list(range(9))
    assert not [row for row in rows(tmp_path, "new") if row.state == "duplicate"], (
        "the baseline was imported"
    )


@pytest.mark.everyday
def test_a_baseline_that_was_not_among_them_comes_first(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=5))
    elsewhere = LARGE.replace(
        "line: {}, block: {}", "block: {}, line: {width: [1, 50], gain: [0.0, 1.0]}"
    )
    new = study_file(
        "new", elsewhere.replace("lr: [0.001, 0.1]", "lr: [0.001, 0.1], batch: 8"), trials=1
    )
    with pytest.raises(UseError, match=r"5 with another recipe\.batch than the new study's"):
        fork(tmp_path, new)
    new = study_file("new", LARGE.replace("none, half", "half"), trials=3)
    imported = len(rows(tmp_path, "old")) - sum(left_out(fork(tmp_path, new)).values())
    assert rows(tmp_path, "new")[-1].state == "waiting"
    find(tmp_path, new)
    first = rows(tmp_path, "new")[imported]
    assert (first.number, first.origin, first.state) == (imported, None, "complete")
    assert (first.params["architecture.line.width"], first.params["quantization"]) == (16, "half")


def test_a_smaller_space_leaves_out_what_it_lacks_and_says_why(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", LARGE, trials=40))
    narrow = (
        "architecture: {line: {width: [1, 30]}}\n  quantization: [none, half]\n  recipe: {lr:"
        " [0.001, 0.1]}"
    )
    forked = fork(tmp_path, study_file("new", narrow))
    old = rows(tmp_path, "old")
    expected: Counter[str] = Counter()
    fits = []
    for row in old:
        if row.params["architecture"] == "block":
            expected["with architecture 'block', which the new space lacks"] += 1
        elif row.params["architecture.line.width"] > 30:
            expected["with architecture.line.width outside the new range"] += 1
        elif row.params["quantization"] == "int8":
            expected["with quantization 'int8', which the new space lacks"] += 1
        else:
            fits.append(row.number)
    assert len(expected) == 3
    assert fits
    assert left_out(forked) == dict(expected)
    assert [row.origin["number"] for row in rows(tmp_path, "new")] == fits, "in the old order"
    assert list(left_out(forked).values()) == sorted(expected.values(), reverse=True)


def test_a_value_that_is_fixed_now_keeps_the_trials_that_have_it(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", "architecture: {block: {width: 8}}", trials=9))
    forked = fork(tmp_path, study_file("new", "architecture: {block: {width: 8, kernel: 5}}"))
    assert {row.params["architecture.block.kernel"] for row in rows(tmp_path, "new")} == {5}
    assert left_out(forked)["with another architecture.block.kernel than the new study's"] == 1
    assert left_out(forked)["that repeat another one"] == len(rows(tmp_path, "old")) - 2
    assert "architecture.block.kernel" not in optuna_trials(forked)[0].params


def test_failed_repeated_and_unfinished_trials_are_left_out(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", FEW.format(3), trials=9))
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    states = [row.state for row in rows(tmp_path, "old")]
    assert states.count("complete") == 3
    with store.writing() as session:
        session.execute(update(models.Trial).where(models.Trial.number == 0).values(state="failed"))
        last = states.index("complete", 1)
        session.execute(
            update(models.Trial).where(models.Trial.number == last).values(state="running")
        )
    forked = fork(tmp_path, study_file("new", FEW.format(9)))
    assert left_out(forked) == {
        "that repeat another one": states.count("duplicate"),
        "failed": 1,
        "not ended": 1,
    }
    assert [row.state for row in rows(tmp_path, "new") if row.origin] == ["complete"]


def test_a_fork_of_a_fork_takes_over_what_that_one_did(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=4))
    find(tmp_path, study_file("new", LARGE, trials=2), warm_start="old")
    fork(tmp_path, study_file("newer", LARGE, trials=2), old="new")
    assert [row.origin for row in rows(tmp_path, "newer")] == [
        {"study": "new", "number": n} for n in range(6)
    ]


# When a plan means the same


def test_a_technique_that_has_a_field_more_means_something_else(
    begin: Begin, tmp_path: Path
) -> None:
    class Longer(Line):
        """The same name and version, but one field more."""

        depth: Annotated[int, Int(1, 4)] = 1

    begin(tmp_path, study_file("old", SMALL, trials=4))
    grown = world(Longer, NoQuantization, Half)
    with pytest.raises(UseError, match=r"4 without architecture\.line\.depth"):
        fork(tmp_path, study_file("new", SMALL, grown), grown)
    fixed = SMALL.replace("width: [4, 40]", "width: [4, 40], depth: 1")
    with pytest.raises(UseError, match=r"4 without architecture\.line\.depth"):
        fork(tmp_path, study_file("new", fixed, grown), grown)
    assert Reader.open(f"sqlite:///{tmp_path}/store.db").find_study("new") is None


def test_a_field_that_came_later_had_its_default_before(begin: Begin, tmp_path: Path) -> None:
    class Longer(Line):
        """The same name and version, and a field that says nothing at its default."""

        depth: Annotated[int, Int(1, 4), Later()] = 1

    begin(tmp_path, study_file("old", SMALL, trials=4))
    grown = world(Longer, NoQuantization, Half)
    forked = fork(tmp_path, study_file("new", SMALL, grown), grown)
    assert left_out(forked) == {}
    assert [trial.params["architecture.line.depth"] for trial in optuna_trials(forked)] == [1] * 4
    deeper = SMALL.replace("width: [4, 40]", "width: [4, 40], depth: 2")
    with pytest.raises(UseError, match="4 "):
        fork(tmp_path, study_file("deeper", deeper, grown), grown)


def test_a_technique_of_another_version_means_something_else(begin: Begin, tmp_path: Path) -> None:
    class Newer(Half):
        """Ship float16 in another way."""

        version = "2"

    begin(tmp_path, study_file("old", SMALL, trials=10))
    changed = world(Line, NoQuantization, Newer)
    forked = fork(tmp_path, study_file("new", SMALL, changed), changed)
    assert {row.params["quantization"] for row in rows(tmp_path, "new")} == {"none"}
    assert set(left_out(forked)) == {"made by another version of quantization 'half'"}


def test_a_slot_that_nothing_could_fill_was_filled_with_nothing(tmp_path: Path) -> None:
    before = world(Line)
    find(tmp_path, study_file("old", "architecture: {line: {}}", before, trials=4), before)
    assert "quantization" not in rows(tmp_path, "old")[0].params
    forked = fork(
        tmp_path, study_file("new", "architecture: {line: {}}\n  quantization: [none, int8]")
    )
    assert left_out(forked) == {}
    assert {row.params["quantization"] for row in rows(tmp_path, "new")} == {"none"}
    assert optuna_trials(forked)[0].params["quantization"] == "none"
    with pytest.raises(UseError, match="4 without quantization"):
        fork(tmp_path, study_file("half", "architecture: {line: {}}\n  quantization: [half, int8]"))


# Whether results compare


@pytest.mark.everyday
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"more": "# steps\n"}, r"budget\.steps: 1000 there, 2000 here"),
        ({"objectives": "score, macs"}, "macs: not measured there"),
        ({"more": "constraints: {size_bytes: {max: 9}}\n"}, "size_bytes: not measured there"),
    ],
)
def test_results_that_do_not_compare_are_refused(
    begin: Begin, tmp_path: Path, change: Any, named: str
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=2))
    loaded = study_file("new", SMALL, **change)
    if "steps" in named:
        budget = loaded.spec.budget.model_copy(update={"steps": 2000})
        loaded = type(loaded)(
            loaded.spec.model_copy(update={"budget": budget}), loaded.space_request, ""
        )
    with pytest.raises(
        UseError, match=f"The trials of 'old' do not compare with those of 'new' .*{named}"
    ):
        fork(tmp_path, loaded)
    assert Reader.open(f"sqlite:///{tmp_path}/store.db").find_study("new") is None


def test_other_images_and_other_versions_are_refused(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=2))
    with Store.open(f"sqlite:///{tmp_path}/store.db").writing() as session:
        environment = session.query(models.Study).one().environment
        other = {**environment, "plugins": {"world": "world 0.1"}, "automl-sr": "0.0"}
        session.execute(update(models.Study).values(environment=other))
    with pytest.raises(UseError, match=r"automl-sr: 0\.0 there, .* here; world: world 0\.1 there"):
        fork(tmp_path, study_file("new", SMALL))
    monkeypatch.setattr(
        FakeTask, "load", lambda *_: TaskData(search_world.Samples(), None, (), "others")
    )
    with pytest.raises(
        UseError, match=r"other images \(search\.seed 0 there, 1 here, may draw them\); "
    ):
        fork(tmp_path, study_file("new", SMALL, seed=1))


@pytest.mark.parametrize("matters", [True, False])
def test_the_device_matters_where_times_are_measured(tmp_path: Path, matters: bool) -> None:
    def timed(plan: Any, *rest: Any) -> Outcome:
        outcome = run(plan, *rest)
        return Outcome("complete", {**outcome.values, "latency_ms": 2.0}, outcome.artifacts, {})

    find(
        tmp_path,
        study_file("old", SMALL, objectives="score, params, latency_ms", trials=2),
        run=timed,
    )
    objectives = "score, latency_ms" if matters else "params, score"
    new = study_file("new", SMALL, objectives=objectives, more="device: {threads: 2}\n")
    if matters:
        with pytest.raises(UseError, match=r"device\.threads: 1 there, 2 here"):
            fork(tmp_path, new)
    else:
        fork(tmp_path, new)
        assert list(rows(tmp_path, "new")[0].values) == ["params", "score"]


# Limits


def test_limits_may_change_and_who_is_infeasible_is_seen_anew(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", LARGE, trials=10, more="constraints: {params: {max: 600}}\n"))
    old = rows(tmp_path, "old")
    rejected = [row for row in old if row.state == "infeasible"]
    beyond = [row for row in rejected if row.costs["params"] > 900]
    assert 0 < len(beyond) < len(rejected)
    looser = fork(tmp_path, study_file("looser", LARGE, more="constraints: {params: {max: 900}}\n"))
    kept = [row for row in rows(tmp_path, "looser") if row.state == "infeasible"]
    assert [row.costs for row in kept] == [row.costs for row in beyond]
    assert [row.violations["params"] for row in kept] == [
        (row.costs["params"] - 900) / 900 for row in beyond
    ]
    assert all(row.reason.endswith("at most 900 is asked") for row in kept)
    assert left_out(looser) == {
        "rejected for reasons that the new study does not have": len(rejected) - len(beyond)
    }
    stricter = fork(
        tmp_path, study_file("stricter", LARGE, more="constraints: {params: {max: 300}}\n")
    )
    for row, trial in zip(rows(tmp_path, "stricter"), optuna_trials(stricter), strict=False):
        assert row.state == old[row.origin["number"]].state, "what was measured stays measured"
        assert (
            (trial.constraints["params"] > 0)
            == (row.reason is not None)
            == (row.costs["params"] > 300)
        )
    end = find(tmp_path, study_file("stricter", LARGE, more="constraints: {params: {max: 300}}\n"))
    assert end.summary["front"]
    assert all(member["values"]["params"] <= 300 for member in end.summary["front"])


# Rungs


def in_rungs(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    outcome = run(plan, setting, observer, folder)
    for rung, step in ((0, 100), (1, 300)):
        values = {**outcome.values, "score": outcome.values["score"] - 2 + rung}
        if not observer.rung(rung, step, values, {}):
            return Outcome("pruned", values, outcome.artifacts, {})
    return outcome


def test_trials_that_were_stopped_keep_their_rungs_which_count_in_the_new_study(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=12, scheduler="pareto-asha"), run=in_rungs)
    new = study_file("new", LARGE, trials=6, scheduler="pareto-asha")
    forked = fork(tmp_path, new)
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    old_rungs, new_rungs = opened.rungs(opened.study("old")), opened.rungs(opened.study("new"))
    assert new_rungs == old_rungs
    states = [row.state for row in rows(tmp_path, "old")]
    assert {"pruned", "complete"} <= set(states)
    for trial, state in zip(optuna_trials(forked), states, strict=True):
        assert trial.state is (TrialState.PRUNED if state == "pruned" else TrialState.COMPLETE)
        assert trial.user_attrs[RUNGS_ATTRIBUTE]
    seen: list[int] = []

    def watched(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        decide = observer._scheduler.decide
        observer._scheduler.decide = lambda rung, values, others: (
            seen.append(len(others)) or decide(rung, values, others)
        )
        try:
            return in_rungs(plan, setting, observer, folder)
        finally:
            observer._scheduler.decide = decide

    find(tmp_path, new, run=watched)
    assert seen[0] == len([row for row in old_rungs if row.rung == 0])


@pytest.mark.parametrize(
    ("scheduler", "kept"),
    [
        ("{kind: pareto-asha, rungs: 4}", {1: 100, 2: 300}),
        ("{kind: record, rungs: 2}", {0: 300}),
        ("{kind: pareto-asha, reduction: 2}", {}),
        ("none", {}),
    ],
)
def test_rungs_are_known_by_their_place_before_the_end(
    begin: Begin, tmp_path: Path, scheduler: str, kept: dict[int, int]
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=12, scheduler="pareto-asha"), run=in_rungs)
    forked = fork(tmp_path, study_file("new", LARGE, scheduler=scheduler))
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    found = opened.rungs(opened.study("new"))
    assert {row.rung: row.step for row in found} == kept
    stopped = [row for row in rows(tmp_path, "new") if row.state == "pruned"]
    assert all(any(rung.number == row.number for rung in found) for row in stopped)
    gone = left_out(forked).get("stopped at a rung that the new study lacks", 0)
    assert gone + len(stopped) == [row.state for row in rows(tmp_path, "old")].count("pruned")
    assert bool(gone) == (1 not in kept)


# What samplers make of it


def test_stored_names_are_those_of_the_new_space(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", LARGE, trials=30))
    old = open_study(study_file("old", LARGE, trials=30), EVERYTHING, where(tmp_path))
    assert {"quantization[none|half]", "quantization"} <= {
        name for t in old.optuna.trials for name in t.params
    }
    new = study_file("new", LARGE.replace("[none, half, int8]", "[none, half]"), trials=30)
    forked = fork(tmp_path, new)
    names = {name for trial in forked.optuna.trials for name in trial.params}
    assert "quantization" in names
    assert not [name for name in names if "[" in name or "int8" in name]
    ranges = forked.space.parameters()
    assert all(
        trial.distributions == {n: ranges[n] for n in trial.params}
        for trial in forked.optuna.trials
    )


def test_the_conditional_structure_survives_and_what_vanished_is_not_proposed(
    begin: Begin, tmp_path: Path
) -> None:
    grown = (
        "architecture: {line: {}, block: {}}\n  quantization: [none, int8]\n  recipe: {lr: [0.001,"
        " 0.1]}"
    )
    begin(tmp_path, study_file("old", LARGE, trials=25))
    find(tmp_path, new := study_file("new", grown, trials=15, sampler="tpe"), warm_start="old")
    opened = open_study(new, EVERYTHING, where(tmp_path))
    inner = opened.optuna.sampler.inner  # type: ignore[attr-defined]
    groups = inner._group_decomposed_search_space.calculate(opened.optuna).search_spaces
    together = [set(group) for group in groups]
    assert {"architecture.block.width", "architecture.block.kernel"} in together
    assert any({"architecture.line.width", "architecture.line.gain"} <= group for group in together)
    assert any({"architecture", "recipe.lr"} <= group for group in together)
    own = [row for row in rows(tmp_path, "new") if row.origin is None]
    assert {row.params["quantization"] for row in own} <= {"none", "int8"}
    assert {row.params["architecture"] for row in own} == {"line", "block"}


def test_a_proposal_that_repeats_an_imported_trial_copies_its_values(
    begin: Begin, tmp_path: Path
) -> None:
    tiny = f"architecture: {{block: {{width: [1, 3]}}}}\n  recipe: {{lr: 0.02, {ONE_RECIPE}}}"
    begin(tmp_path, study_file("old", tiny, trials=6))
    find(tmp_path, study_file("new", tiny, trials=6, seed=1), warm_start="old")
    repeats = [row for row in rows(tmp_path, "new") if row.state == "duplicate"]
    imported = {row.number: row for row in rows(tmp_path, "new") if row.origin}
    assert repeats
    for row in repeats:
        original = imported[row.duplicate_of]
        assert (row.values, row.fingerprint) == (original.values, original.fingerprint)


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a study of random trials; some plans are much better than others."""
    folder = tmp_path_factory.mktemp("explored")
    find(folder, study_file("old", PEAK, trials=60, objectives="score"), run=peaked)
    return folder


PEAK = f"architecture: {{line: {{}}}}\n  recipe: {{lr: [0.001, 0.1], {ONE_RECIPE}}}"


def peaked(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    params = plan.params
    distance = ((params["architecture.line.width"] - 55) / 30) ** 2 + 9 * (
        params["architecture.line.gain"] - 0.9
    ) ** 2
    return Outcome(
        "complete", {"score": -distance}, run(plan, setting, observer, folder).artifacts, {}
    )


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in ("random", "qmc")])
def test_samplers_that_learn_begin_where_the_old_study_ended(explored: Path, sampler: str) -> None:
    scores = {}
    for start in (None, "old"):
        name = f"{sampler}-{start}"
        loaded = study_file(name, PEAK, trials=10, sampler=sampler, objectives="score", seed=5)
        find(explored, loaded, run=peaked, warm_start=start)
        own = [
            row for row in rows(explored, name) if row.origin is None and row.state == "complete"
        ]
        scores[start] = statistics.mean(row.values["score"] for row in own)
    random = statistics.mean(row.values["score"] for row in rows(explored, "old"))
    assert scores["old"] > scores[None]
    assert scores["old"] > random


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_goes_on_from_imported_trials_of_a_grown_space(
    begin: Begin, tmp_path: Path, sampler: str
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=12))
    found = []
    for name in ("new", "again"):
        end = find(tmp_path, study_file(name, LARGE, trials=3, sampler=sampler), warm_start="old")
        assert end.error is None
        assert end.summary["trials"]["complete"] == 15
        found.append([(row.params, row.values) for row in rows(tmp_path, name)])
    assert found[0] == found[1], "reproducible"


def test_imported_trials_are_the_first_generation_of_nsga2(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=24))
    find(tmp_path, new := study_file("new", LARGE, trials=2, sampler="nsga2"), warm_start="old")
    opened = open_study(new, EVERYTHING, where(tmp_path))
    assert [t.system_attrs["NSGAIISampler:generation"] for t in optuna_trials(opened)] == [
        0
    ] * 24 + [1] * 2


# Beginning, again and again


class Killed(BaseException):
    """What ends a process on the spot."""


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (sync, "project", 3),
        (sync, "tell", 3),
        ("automl_sr.search.create_study", "create_study_with", 0),
    ],
)
def test_a_killed_fork_is_completed_by_the_same_command(
    begin: Begin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    calls: int,
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=8))
    new = study_file("new", LARGE, trials=2)
    target = __import__(module, fromlist=["_"]) if isinstance(module, str) else module
    real, left = getattr(target, name), [calls]

    def dying(*given: Any, **named: Any) -> Any:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, dying)
        with pytest.raises(Killed):
            fork(tmp_path, new)
    forked = fork(tmp_path, new)
    check_whole(tmp_path, forked)
    check_whole(tmp_path, fork(tmp_path, new))  # once more changes nothing


def check_whole(folder: Path, forked: OpenStudy) -> None:
    told = optuna_trials(forked)
    assert [trial.state for trial in told] == [TrialState.COMPLETE] * 8
    found = rows(folder, "new")
    assert [trial.user_attrs[sync.KEY_ATTRIBUTE] for trial in told] == [row.key for row in found]
    assert [trial.values for trial in told] == [
        [row.values["score"], row.values["params"]] for row in found
    ]


def test_whoever_opens_a_half_begun_study_completes_it_before_drawing(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=8))
    new = study_file("new", LARGE, trials=2)
    with monkeypatch.context() as patch:
        patch.setattr(warm_start, "project_imports", lambda study: None)
        patch.setattr("automl_sr.search.study.project_imports", lambda study: None)
        fork(tmp_path, new)
    find(tmp_path, new)
    opened = open_study(new, EVERYTHING, where(tmp_path))
    keys = [trial.user_attrs[sync.KEY_ATTRIBUTE] for trial in optuna_trials(opened)]
    assert keys == [row.key for row in rows(tmp_path, "new")]


def test_a_warm_start_is_resumed_with_the_same_words_and_without(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=3))
    new = study_file("new", LARGE, trials=2)
    for more in ({"warm_start": "old"}, {"warm_start": "old", "trials": 3}, {"trials": 4}):
        find(tmp_path, new, **more)
    assert [row.origin is None for row in rows(tmp_path, "new")] == [False] * 3 + [True] * 4
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path}/store.db") == ["old", "new"]


def test_what_was_begun_otherwise_is_refused(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=3))
    find(tmp_path, study_file("plain", SMALL, trials=3))
    find(tmp_path, study_file("new", SMALL, trials=1), warm_start="old")
    with pytest.raises(
        UseError,
        match=r"'plain' cannot be begun with the trials of 'old': .* without those of another",
    ):
        find(tmp_path, study_file("plain", SMALL, trials=3), warm_start="old")
    with pytest.raises(UseError, match="it is there, begun with those of 'old'"):
        fork(tmp_path, study_file("new", SMALL, trials=1), old="plain")
    with pytest.raises(StoreError, match=r"no study 'ald'.*Did you mean 'old'"):
        find(tmp_path, study_file("newer", SMALL, trials=1), warm_start="ald")
    with pytest.raises(StoreError, match="There is no store"):
        fork_study(
            "old",
            study_file("new", SMALL),
            EVERYTHING,
            Options(store=f"sqlite:///{tmp_path}/other.db"),
        )
    assert not (tmp_path / "other.db").exists()


def test_a_changed_study_file_is_offered_a_fork_where_results_still_compare(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=2))
    with pytest.raises(
        UseError, match=r"space\.architecture.* After renaming, `automl-sr fork old STUDY\.yaml`"
    ):
        find(tmp_path, study_file("old", LARGE, trials=2))
    text = search_world.study_text("old", trials=2).replace("steps: 1000", "steps: 500")
    with pytest.raises(UseError, match=r"budget\.steps: 1000 is now 500") as refused:
        find(tmp_path, parse_study(text, "old.yaml", EVERYTHING))
    assert "fork" not in str(refused.value)


def test_several_workers_see_a_budget_without_imported_trials(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=5))
    new = study_file("new", LARGE, trials=5)
    monitor = StoreMonitor(fork(tmp_path, new), SearchCallback(), 60)
    assert not monitor.look({}).over
    find(tmp_path, new)
    state = monitor.look({})
    assert state.over
    assert state.ended == 5


# Files


def test_files_stay_where_they_are_and_are_known_to_both_studies(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=6))
    forked = fork(tmp_path, study_file("new", LARGE, trials=6))
    store, old = forked.store, forked.store.study("old")
    files = {file.url for row in rows(tmp_path, "old") for file in row.artifacts.values()}
    assert len(files) == 6
    assert named_elsewhere(store, old) == files
    assert named_elsewhere(store, forked.record) == set()
    remove(store, find_leftovers(store, forked.record, EVERYTHING.metrics))
    assert all(Path(url).is_file() for url in files)


def test_each_study_keeps_what_the_other_needs(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=8, objectives="score, params"))
    forked = fork(tmp_path, study_file("new", LARGE, trials=8, objectives="score"))
    store, old = forked.store, forked.store.study("old")
    files = {row.number: row.artifacts["onnx"].url for row in rows(tmp_path, "old")}
    remove(store, find_leftovers(store, old, EVERYTHING.metrics))
    assert all(Path(url).is_file() for url in files.values()), "all are named by the new study"
    leftovers = find_leftovers(store, forked.record, EVERYTHING.metrics)
    remove(store, leftovers)
    assert leftovers.files == (), "the old study's folder is not the new one's"
    assert all(Path(url).is_file() for url in files.values())
    best = max(rows(tmp_path, "new"), key=lambda row: row.values["score"])
    assert [row.number for row in rows(tmp_path, "new") if row.artifacts] == [best.number]
    remove(store, find_leftovers(store, old, EVERYTHING.metrics))
    needed = {
        row.artifacts["onnx"].url
        for name in ("old", "new")
        for row in rows(tmp_path, name)
        if row.artifacts
    }
    assert {url for url in files.values() if Path(url).is_file()} == needed


def test_a_fork_between_the_look_and_the_removal_loses_no_file(
    begin: Begin, tmp_path: Path
) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=6))
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    found = find_leftovers(store, store.study("old"), EVERYTHING.metrics)
    assert found.files
    fork(tmp_path, study_file("new", LARGE, trials=6))
    remove(store, found)
    named = [file.url for row in rows(tmp_path, "new") for file in row.artifacts.values()]
    assert len(named) == 6
    assert all(Path(url).is_file() for url in named)


def test_files_that_are_gone_already_are_not_named(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, study_file("old", SMALL, trials=6))
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    remove(store, find_leftovers(store, store.study("old"), EVERYTHING.metrics))
    fork(tmp_path, study_file("new", LARGE, trials=6))
    assert [row.artifacts for row in rows(tmp_path, "new")] == [
        row.artifacts for row in rows(tmp_path, "old")
    ]
    assert any(not row.artifacts for row in rows(tmp_path, "new"))


@pytest.mark.everyday
def test_a_fork_works_on_every_database(tmp_path: Path, store_url: str) -> None:
    options = Options(store=store_url, artifacts=str(tmp_path / "artifacts"))
    search(study_file("old", SMALL, trials=4), EVERYTHING, options, run=run)
    new = study_file("new", LARGE, trials=3)
    fork_study("old", new, EVERYTHING, options).store.close()
    end = search(new, EVERYTHING, options, run=run)
    assert end.summary["trials"]["complete"] == 7
    store = Reader.open(store_url)
    assert [
        event.text for event in store.events(store.study("new")) if event.kind == "imported"
    ] == ["imported 4 of 4 trials of old"]
    assert [row.number for row in store.trials(store.study("new"))] == list(range(7))
