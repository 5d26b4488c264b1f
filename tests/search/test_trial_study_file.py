"""The study file of one plan: it passes the parser, holds that plan alone, and says everything that
training needs.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import search_world
import space_toys
from search_world import find, load

from automl_sr.errors import AutomlSRError, StudyFileError, UseError
from automl_sr.plugin.registry import Registry
from automl_sr.search.trial_study_file import study_name, trial_study_file
from automl_sr.space.plan import TrialPlan
from automl_sr.space.search_space import SearchSpace
from automl_sr.store.reading import Reader
from automl_sr.store.records import StudyRecord, TrialRecord
from automl_sr.study.schema import study_schema
from automl_sr.study.spec import LoadedStudy, parse_study
from automl_sr.study.yaml_lines import parse

STUDY = """
name: toys
task: {kind: image-sr, scale: 3, train: [one, "a: b"]}
objectives: [params]
constraints: {params: {max: 9000}}
device: {threads: 2, input: [64, 48]}
budget: {trials: 9, minutes: 1.5, steps: 70, trial_minutes: 4}
search: {sampler: tpe, seed: 12, threads: 3}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyRecord, list[TrialRecord]]:
    folder = tmp_path_factory.mktemp("single")
    find(load(trials=5, scheduler="{kind: pareto-asha, rungs: 2}"), folder)
    opened = Reader.open(f"sqlite:///{folder}/store.db")
    study = opened.study("world")
    trials = opened.trials(study)
    opened.close()
    return study, trials


def read(text: str, registry: Registry) -> tuple[LoadedStudy, SearchSpace]:
    loaded = parse_study(text, "one.yaml", registry)
    return loaded, SearchSpace(loaded.space_request, registry)


def stored(plan: TrialPlan, loaded: LoadedStudy, **fields: Any) -> tuple[Any, Any]:
    """A study and a trial of it as a store gives them."""
    study = StudyRecord(
        1, "toys", json.loads(json.dumps(loaded.spec.to_json())), {}, "", {}, {}, "", 0.0, 0.0
    )
    given = {field.name: None for field in dataclasses.fields(TrialRecord)}
    given |= {
        "number": 7,
        "state": "complete",
        "plan": json.loads(json.dumps(plan.to_json())),
        **fields,
    }
    return study, TrialRecord(**given)  # type: ignore[arg-type]


class Script:
    """A trial that answers from a mapping, else with the lowest value."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.answers.get(name, choices[0])

    def suggest_int(self, name: str, low: int, high: int, **_: Any) -> int:
        return int(self.answers.get(name, low))

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:
        return float(self.answers.get(name, low))


def test_every_trial_has_a_file_of_its_own(world: tuple[StudyRecord, list[TrialRecord]]) -> None:
    study, trials = world
    registry = search_world.registry()
    for trial in trials:
        loaded, space = read(trial_study_file(study, trial, registry), registry)
        assert loaded.spec.name == f"world-trial-{trial.number}"
        assert space.count().total == 1
        assert space.default_plan().fingerprint == trial.fingerprint
        assert dict(space.default_plan().params) == trial.params


def test_the_file_is_trained_as_trial_0(
    tmp_path: Path, world: tuple[StudyRecord, list[TrialRecord]]
) -> None:
    study, trials = world
    registry = search_world.registry()
    loaded, _ = read(trial_study_file(study, trials[-1], registry), registry)
    find(loaded, tmp_path)
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    again = opened.trials(opened.study(loaded.spec.name))
    opened.close()
    assert [row.fingerprint for row in again] == [trials[-1].fingerprint]
    assert again[0].values == trials[-1].values


def test_task_device_budget_and_seed_are_those_of_the_study() -> None:
    registry = space_toys.registry()
    parsed = parse_study(STUDY, "toys.yaml", registry)
    plan = SearchSpace(parsed.space_request, registry).default_plan()
    loaded, _ = read(trial_study_file(*stored(plan, parsed), registry), registry)
    spec = loaded.spec
    assert (spec.task, spec.device, spec.constraints) == (
        parsed.spec.task,
        parsed.spec.device,
        parsed.spec.constraints,
    )
    assert (spec.objectives, spec.search.seed, spec.search.threads) == (("params",), 12, 3)
    assert (spec.search.scheduler.kind, spec.budget.trials, spec.budget.minutes) == (
        "none",
        1,
        None,
    )
    assert (spec.budget.steps, spec.budget.trial_minutes) == (70, 4)


def test_vectors_and_nested_techniques_are_written_place_by_place() -> None:
    registry = space_toys.registry()
    parsed = parse_study(STUDY, "toys.yaml", registry)
    answers = {
        "architecture": "cells",
        "architecture.cells.layers": 3,
        "architecture.cells.ops.0": "skip",
        "architecture.cells.ops.2": "conv5",
        "teacher": "kd",
        "teacher.kd.architecture": "cells",
        "teacher.kd.architecture.cells.layers": 2,
        "teacher.kd.architecture.cells.ops.1": "skip",
    }
    plan = SearchSpace(parsed.space_request, registry).suggest(Script(answers))
    text = trial_study_file(*stored(plan, parsed), registry)
    _, space = read(text, registry)
    assert space.default_plan().fingerprint == plan.fingerprint
    assert dict(space.default_plan().params) == dict(plan.params)
    jsonschema.validate(parse(text, "one.yaml")[0], study_schema(registry))


def test_a_stopped_trial_is_said_to_be_trained_to_the_end(
    world: tuple[StudyRecord, list[TrialRecord]],
) -> None:
    study, trials = world
    stopped = dataclasses.replace(trials[0], state="pruned")
    assert (
        "trains it to the end"
        in trial_study_file(study, stopped, search_world.registry()).splitlines()[0]
    )


def test_without_a_plan_there_is_no_file(world: tuple[StudyRecord, list[TrialRecord]]) -> None:
    study, trials = world
    with pytest.raises(UseError, match="has no plan yet"):
        trial_study_file(study, dataclasses.replace(trials[0], plan=None), search_world.registry())


def test_a_plan_that_means_something_else_here_is_refused(
    world: tuple[StudyRecord, list[TrialRecord]],
) -> None:
    study, trials = world
    other = {**(trials[0].plan or {}), "fingerprint": "another"}
    with pytest.raises(UseError, match="means something else with the plugins installed here"):
        trial_study_file(study, dataclasses.replace(trials[0], plan=other), search_world.registry())


def test_a_technique_that_is_not_installed_is_named(
    world: tuple[StudyRecord, list[TrialRecord]],
) -> None:
    study, trials = world
    with pytest.raises(AutomlSRError, match="line"):
        trial_study_file(study, trials[0], space_toys.registry())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny-x2", "tiny-x2-trial-7"),
        ("x" * 64, f"{'x' * 56}-trial-7"),
        ("a: b\n<script>", "study-trial-7"),
        ("", "study-trial-7"),
    ],
)
def test_the_name_is_one_that_a_study_may_have(name: str, expected: str) -> None:
    assert study_name(name, 7) == expected


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ("{fixed: conv3}", "not a list of at most 4"),
        ("{fixed: [conv3, conv3, conv3, conv3, conv3]}", "not a list of at most 4"),
        ("{fixed: [conv3, [conv5, skip]]}", "not a single value"),
        ("{fixed: [conv4]}", "not an allowed value"),
    ],
)
def test_a_wrong_vector_is_one_sentence_with_its_line(ops: str, message: str) -> None:
    text = f"{STUDY}space:\n  architecture: {{cells: {{layers: 1, ops: {ops}}}}}\n"
    with pytest.raises(
        StudyFileError, match=rf"^toys.yaml:10: space.architecture.cells.ops.fixed.*{message}"
    ):
        parse_study(text, "toys.yaml", space_toys.registry())
