"""A study trains in one number format, whatever its workers' machines would choose by
themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from refine_world import Trainer, make, options_in
from search_world import find, load, registry, run_fast, study_text

from automl_sr.errors import UseError
from automl_sr.search.engine import Options, join_study, search
from automl_sr.search.open_study import OpenStudy
from automl_sr.search.refine.choice import Request
from automl_sr.search.refine.refiner import refine
from automl_sr.search.study import fork_study, open_study
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store
from automl_sr.training import precision
from automl_sr.trial.types import Outcome, Setting

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Go to a machine that has instructions for these formats besides fp32."""

    def go_to(*native: str) -> None:
        monkeypatch.setattr(precision, "is_native", lambda kind, device: kind in {"fp32", *native})

    return go_to


@dataclass(frozen=True)
class Place:
    """A store with one study, and the machines' ways to it."""

    folder: Path

    @property
    def options(self) -> Options:
        return options_in(self.folder)

    def begin(self, text: str | None = None, **options: Any) -> OpenStudy:
        asked = Options(store=self.options.store, artifacts=self.options.artifacts, **options)
        return open_study(load(text), registry(), asked)

    def join(self) -> OpenStudy:
        return join_study("world", registry(), self.options)

    def recorded(self, name: str = "world") -> Any:
        return Reader.open(self.options.store).study(name).environment.get("precision")

    def forget(self) -> None:
        """Make the study one of an older version, which did not say in which format it trains."""
        store = Store.open(self.options.store)
        study = store.study("world")
        kept = {name: value for name, value in study.environment.items() if name != "precision"}
        store.update_study(study, {"environment": kept})
        store.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def with_recipe(precision: str) -> str:
    return study_text(more=f"    precision: {precision}\n").replace(
        "recipe: {lr: [0.001, 0.1]}", "recipe:\n    lr: [0.001, 0.1]"
    )


# ---- one format for all workers ----


@pytest.mark.parametrize(
    ("here", "there", "format_"), [(["bf16"], [], "bf16"), ([], ["bf16"], "fp32")]
)
def test_a_worker_that_joins_trains_as_the_machine_that_began(
    place: Place, machine: Machine, here: list[str], there: list[str], format_: str
) -> None:
    machine(*here)
    assert place.begin().setting.precision == format_
    machine(*there)
    assert place.join().setting.precision == format_
    assert place.begin().setting.precision == format_, "the same command, to go on"
    assert place.recorded() == format_


def test_trials_and_refinements_are_given_the_format(place: Place, machine: Machine) -> None:
    trained: list[str] = []

    def run(plan: Any, setting: Setting, *rest: Any) -> Outcome:
        trained.append(setting.precision)
        return run_fast(plan, setting, *rest)

    machine("bf16")
    make(place.options)
    machine()
    search(load(trials=8), registry(), place.options, run=run)
    trainer = Trainer()

    def train(plan: Any, setting: Setting, *rest: Any) -> Any:
        trained.append(setting.precision)
        return trainer(plan, setting, *rest)

    refine("world", registry(), place.options, Request(top=1), run=train)
    assert trained == ["bf16"] * 3


def test_plans_and_seeds_do_not_depend_on_it(tmp_path: Path, machine: Machine) -> None:
    found = {}
    for native in ("bf16", "nothing more"):
        machine(native)
        find(load(trials=3), tmp_path / native)
        reader = Reader.open(f"sqlite:///{tmp_path / native}/store.db")
        found[native] = [
            (trial.plan, trial.fingerprint) for trial in reader.trials(reader.study("world"))
        ]
    assert found["bf16"] == found["nothing more"]
    assert {plan["params"]["recipe.precision"] for plan, _ in found["bf16"]} == {"auto"}


@pytest.mark.parametrize("way", ["fork", "warm start"])
def test_a_study_that_takes_over_trials_has_their_format(
    place: Place, machine: Machine, way: str
) -> None:
    machine("bf16")
    make(place.options)
    machine()
    if way == "fork":
        fork_study("world", load(name="next"), registry(), place.options)
    else:
        place.begin(study_text("next"), warm_start="world")
    assert place.recorded("next") == "bf16"


# ---- studies of older versions ----


def test_a_study_that_does_not_say_takes_what_the_first_machine_to_go_on_would_choose(
    place: Place, machine: Machine
) -> None:
    machine("bf16")
    place.begin()
    place.forget()
    assert place.begin().setting.precision == "bf16", "on the machine that began it nothing changes"
    assert place.recorded() == "bf16"
    machine()
    assert place.join().setting.precision == "bf16"


def test_workers_that_settle_it_at_the_same_moment_agree(
    place: Place, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    place.begin()
    place.forget()
    settle = Store.settle_environment

    def first_another(store: Store, study: Any, name: str, value: str) -> None:
        settle(store, study, name, "bf16")
        settle(store, study, name, value)

    monkeypatch.setattr(Store, "settle_environment", first_another)
    joined = place.join()
    assert (joined.setting.precision, place.recorded()) == ("bf16", "bf16")
    assert joined.record.environment["precision"] == "bf16"


def test_nothing_else_of_the_environment_changes(place: Place, machine: Machine) -> None:
    machine("bf16")
    before = place.begin().record.environment
    place.forget()
    assert place.join().record.environment == before


# ---- what the person is told ----


def emulation(study: OpenStudy) -> list[str]:
    return [text for text in study.notes if "emulates" in text]


def test_a_processor_that_emulates_the_format_is_said_to(place: Place, machine: Machine) -> None:
    machine("bf16")
    assert emulation(place.begin()) == []
    machine()
    said = "the study trains in bf16, which this processor emulates: training is slow here"
    assert emulation(place.join()) == emulation(place.begin()) == [said]


def test_a_format_that_the_study_file_names_is_told_too_and_one_that_is_not_used_is_not(
    tmp_path: Path, machine: Machine
) -> None:
    machine()
    assert len(emulation(Place(tmp_path / "named").begin(with_recipe("bf16")))) == 1
    machine("bf16")
    fixed = Place(tmp_path / "fixed")
    fixed.begin(with_recipe("fp32"))
    machine()
    assert emulation(fixed.join()) == []


def test_a_device_that_cannot_compute_in_the_format_is_refused_with_what_to_do(
    place: Place, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("bf16")
    place.begin()
    machine()
    monkeypatch.setattr(precision, "can_train", lambda kind, device: kind == "fp32")
    with pytest.raises(UseError) as refused:
        place.join()
    assert str(refused.value) == (
        "The study 'world' trains in bf16, in which this processor does not compute."
        " Work on it elsewhere, or begin another study with `precision: fp32` in its recipe."
    )


def test_a_new_study_that_cannot_be_trained_here_leaves_nothing_behind(
    place: Place, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    monkeypatch.setattr(precision, "can_train", lambda kind, device: kind == "fp32")
    with pytest.raises(UseError, match="trains in fp16"):
        place.begin(with_recipe("fp16"))
    assert Reader.open(place.options.store).studies() == []
