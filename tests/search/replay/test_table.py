"""From a study to a table, and to its file and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from replay_world import (
    made_up,
    rows,
    study_of,
    table_data,
)
from search_world import find, load, registry, run_fast
from search_world import made_up as made_up_values

from automl_sr.errors import UseError
from automl_sr.search.replay.recording import _times, asked_params, record
from automl_sr.search.replay.table import load_table
from automl_sr.store.reading import Reader
from automl_sr.store.records import RungRecord

# ---- the table and its file ----


def test_a_table_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    table = made_up(40)
    table.save(tmp_path / "table.json")
    assert load_table(tmp_path / "table.json") == table
    text = (tmp_path / "table.json").read_text()
    assert json.loads(text)["rows"][3]["number"] == 3
    assert len([line for line in text.splitlines() if line.startswith('{"number":')]) == 40, (
        "a row a line"
    )


def test_300_rows_take_a_few_hundred_kilobytes(tmp_path: Path) -> None:
    made_up(300).save(tmp_path / "table.json")
    assert (tmp_path / "table.json").stat().st_size < 300_000


def changed(change: Callable[[dict[str, Any]], Any]) -> str:
    data = table_data(rows(4))
    change(data)
    return json.dumps(data)


def range_of(**attributes: Any) -> str:
    return changed(lambda data: data["distributions"]["recipe.lr"]["attributes"].update(attributes))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no table: Expecting property name"),
        ("[]", "the key 'format' is missing"),
        (
            changed(lambda data: data.update(format=9)),
            "has format 9, this version reads 1. Update automl-sr.",
        ),
        (
            changed(lambda data: data.update(colour="red")),
            "colour: unknown key 'colour'. Keys: format, made_by",
        ),
        (
            changed(lambda data: data.pop("reference")),
            "'reference' is missing. The corner of the hypervolume",
        ),
        (
            changed(lambda data: data["rows"][2].update(seconds="long")),
            "rows.2.seconds: 'long' is not a number.",
        ),
        (
            changed(lambda data: data["rows"][2].update(seconds=math.nan)),
            "rows.2.seconds: nan is not a finite number.",
        ),
        (changed(lambda data: data["rows"][2].update(number=1)), "a number is there twice"),
        (
            changed(lambda data: data["rows"][1]["values"].pop("psnr")),
            "row 1: psnr is missing in its values",
        ),
        (
            changed(lambda data: data["rows"][1]["rungs"][1]["values"].pop("psnr")),
            "row 1: psnr is missing in rung 1",
        ),
        (
            changed(lambda data: data["rows"][1]["rungs"].reverse()),
            "row 1: its rungs are not in order",
        ),
        (
            changed(lambda data: data["rows"][1].update(seconds=0.1)),
            "row 1: its rungs are not in order",
        ),
        (
            changed(lambda data: data["rows"][1]["rungs"][1].update(judging=1e6)),
            "row 1: judging rung 1 took longer",
        ),
        (
            changed(lambda data: data["rows"][0]["params"].update(odd=1)),
            "row 0: the parameter odd has no distribution",
        ),
        (
            changed(lambda data: data["rows"][0]["params"].update({"recipe.lr": 7.0})),
            "recipe.lr = 7.0 lies outside",
        ),
        (
            changed(lambda data: data["rows"][0]["params"].update(loss="l3")),
            "loss = 'l3' lies outside",
        ),
        (
            changed(lambda data: data["reference"].update(psnr=99.0)),
            "the reference of psnr is no worse than the best",
        ),
        (
            changed(lambda data: data["ideal"].update(params=0.0)),
            "params is compared by ratio and must be above 0",
        ),
        (changed(lambda data: data["ideal"].pop("params")), "reference and ideal must name params"),
        (
            changed(lambda data: data.update(rows=data["rows"][:1])),
            "there are 1 complete rows, a comparison needs at",
        ),
        ("no JSON", "is no table: Expecting value"),
        ('{"format": 1, "steps": ' + "9" * 5000 + "}", "is no table: Exceeds the limit"),
        ('{"format": ' + "[" * 100_000, "is no table: it is nested too deeply"),
        ('{"format": "\\u001b[31m"}', "has format '\\x1b[31m', this version reads 1"),
        ('{"format": 1, "rows": [' + "1," * 600_000 + "1]}", "holds more than 500,000 values"),
        (
            '{"format": 1, "rows": [' + "1," * 6000 + "1]}",
            "has a list or a mapping of 6,001 entries",
        ),
        ('{"format": 1, "rows": 1}', "rows: 1 is not a list"),
        ('{"format": 1}', "'made_by' is missing"),
        (
            changed(lambda data: data.update(steps=0)),
            "steps: 0 is not allowed: it should be greater than 0",
        ),
        (changed(lambda data: data.update(steps=-1)), "steps: -1 is not allowed"),
        (
            changed(lambda data: data.update(steps=10**30)),
            "steps: 1000000000000000000000000000000 is not allowed",
        ),
        (changed(lambda data: data.update(steps="450")), "steps: '450' is not a whole number"),
        (changed(lambda data: data.update(steps=True)), "steps: true is not a whole number"),
        (
            changed(lambda data: data["rows"][1]["rungs"][0].update(step=0)),
            "rows.1.rungs.0.step: 0 is not allowed",
        ),
        (
            changed(lambda data: data["rows"][1].update(number=-1)),
            "rows.1.number: -1 is not allowed",
        ),
        (
            changed(lambda data: data["rows"][1].update(seconds=-1)),
            "rows.1.seconds: -1 is not allowed",
        ),
        (
            changed(lambda data: data["rows"][1].update(state="running")),
            "rows.1.state: 'running' is not allowed.",
        ),
        (
            changed(lambda data: data["rows"][1]["values"].update(psnr=1e308)),
            "rows.1.values.psnr: 1e+308 is not allowed",
        ),
        (
            changed(lambda data: data["rows"][1]["values"].update(psnr=None)),
            "rows.1.values.psnr: an empty value is not a",
        ),
        (
            changed(lambda data: data["rows"][1].update(params=[])),
            "rows.1.params: an empty list is not a mapping",
        ),
        (changed(lambda data: data["rows"][1].pop("params")), "rows.1: 'params' is missing"),
        (changed(lambda data: data.update(rows={})), "rows: an empty mapping is not a list"),
        (changed(lambda data: data.update(objectives=[])), "objectives: the list is empty"),
        (changed(lambda data: data.update(reduction=1)), "reduction: 1 is not allowed"),
        (changed(lambda data: data.update(threads=0)), "threads: 0 is not allowed"),
        (changed(lambda data: data.update(study="x" * 9000)), "study: 'xxx"),
        (changed(lambda data: data["distributions"].update(loss=1)), "distributions.loss"),
        (
            changed(lambda data: data["distributions"].update(loss={"name": "Own"})),
            "distributions.loss: ",
        ),
        (
            range_of(low=math.nan),
            "distributions.recipe.lr.attributes.low: nan is not a finite number",
        ),
        (range_of(low="a"), "distributions.recipe.lr.attributes.low: 'a' is not a number"),
        (range_of(low=1.0, high=0.5), "distributions.recipe.lr: "),
        (range_of(low=0.0), "distributions.recipe.lr: "),
        (range_of(step=0.0), "distributions.recipe.lr.attributes.step: 0.0 is not allowed"),
        (
            range_of(low=-1e99, high=1e99, log=False, step=1e-300),
            "distributions.recipe.lr: its range has too many steps",
        ),
        (range_of(odd=1), "distributions.recipe.lr.attributes.odd: unknown key 'odd'. "),
        (
            changed(lambda data: data["distributions"]["loss"]["attributes"].update(choices=[])),
            "choices: the list is empty",
        ),
        (
            changed(lambda data: data["distributions"]["loss"]["attributes"].update(choices=[[]])),
            "choices",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UseError) as error:
        load_table(tmp_path / "table.json")
    assert words in str(error.value)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 900


def test_what_is_larger_than_any_table_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "table.json").open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(UseError, match="is larger than 16 MB, which no table is"):
        load_table(tmp_path / "table.json")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", bytes(range(256)), b"\0" * 50, b"PK\x03\x04"]
)
def test_what_is_no_text_is_no_table(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises(UseError, match=r"table\.json is no table: "):
        load_table(tmp_path / "table.json")


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="cannot be read: Is a directory"):
        load_table(tmp_path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="There is no table"):
        load_table(tmp_path / "table.json")


# ---- from a study to its table ----


def run_with_rungs(plan: Any, setting: Any, observer: Any, folder: Path) -> Any:
    """Reach two rungs, whatever the scheduler says, then the end; the rungs are a little worse."""
    outcome = run_fast(plan, setting, observer, folder)
    values = {
        name: value for name, value in made_up_values(plan).items() if name in setting.metrics
    }
    for index, step in enumerate((100, 300)):
        observer.rung(
            index, step, {**values, "score": values["score"] - 2 + index}, outcome.artifacts
        )
    return dataclasses.replace(outcome, seconds={"train": 0.0, "branch": 0.0, "evaluate": 0.0})


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
    assert [row.number for row in table.rows] == [
        trial.number for trial in trials if trial.state != "duplicate"
    ]
    assert {"complete", "infeasible"} == {row.state for row in table.rows}
    assert {"architecture.line.width", "architecture.line.gain", "recipe.lr"} < set(
        table.distributions
    )
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
            assert [rung.values["score"] for rung in row.rungs] == [
                row.values["score"] - 2,
                row.values["score"] - 1,
            ]
    table.save(tmp_path / "table.json")
    assert load_table(tmp_path / "table.json") == table
    assert study_of(table, "tpe", "pareto-asha").trace.tried == len(table.rows)


def test_parameters_are_stored_by_the_names_that_samplers_are_asked_for() -> None:
    """A plan says `quantization`; the sampler was asked which of those that fit."""

    class Space:
        def suggest(self, trial: Any) -> None:
            trial.suggest_categorical("quantization[none|int8]", ["none", "int8"])
            trial.suggest_float("recipe.lr", 0.0, 1.0)
            trial.suggest_int("width", 1, 9)

    space: Any = Space()
    plan = {"quantization": "int8", "recipe.lr": 1, "width": 3, "recipe.loss": "l1"}
    assert asked_params(space, plan) == {
        "quantization[none|int8]": "int8",
        "recipe.lr": 1.0,
        "width": 3,
    }


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
    def run(plan: Any, setting: Any, observer: Any, folder: Path) -> Any:
        outcome = run_fast(plan, setting, observer, folder)
        if observer.rung(0, 100, outcome.values, outcome.artifacts):
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
    "stage_seconds": {"select": 5.0, "train": 90.0, "branch": 13.0, "export": 3.0, "evaluate": 6.0},
    "params": {"recipe.cooldown": 0.1},
    "seconds": 118.0,
    "shared": {},
}
"""900 steps of the trunk and branches after 100, 300 and 900 of them: each takes time as it is
long.
"""


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


@pytest.mark.parametrize(
    ("latency", "judging"),
    [
        ({"seconds": 6.0, "reused": False}, 1.0),
        ({"seconds": 6.0, "reused": True, "waited": 1.5}, 2.5),
        ({"seconds": 6.0, "reused": True}, 3.0),
    ],
    ids=["timed here", "waited for", "reused"],
)
def test_timing_its_own_graph_is_a_rows_own_work_but_no_part_of_judging(
    latency: dict[str, Any], judging: float
) -> None:
    shared = {"scores": {"seconds": 3.0, "reused": False}, "latency": latency}
    first, second = times((20.0, 44.0), shared=shared)
    assert (first["seconds"], second["seconds"]) == (17.0, 41.0), "without the scores alone"
    assert (first["judging"], second["judging"]) == (1.0 + judging, 3.0 + judging)


def test_the_seconds_of_timing_its_own_graph_stay_in_a_recorded_row(tmp_path: Path) -> None:
    def run(plan: Any, setting: Any, observer: Any, folder: Path) -> Any:
        outcome = run_fast(plan, setting, observer, folder)
        return dataclasses.replace(
            outcome, shared={name: {"seconds": 1000.0, "reused": False} for name in next(made)}
        )

    made = iter([["latency"], ["scores"], ["latency", "scores"], []])
    find(load(trials=4), tmp_path, run)
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    table, _ = record(opened, "world", registry(), {})
    taken = [trial.seconds for trial in opened.trials(opened.study("world"))]
    assert [row.seconds for row in table.rows] == [taken[0], 0.0, 0.0, taken[3]]


def test_a_second_graph_of_the_same_trial_counts_as_the_first_does() -> None:
    """The gate times the untrained model, and compression makes another graph of it."""
    entries = {name: {"seconds": 1.5, "reused": False} for name in ("latency", "latency (2)")}
    first, _ = times((20.0, 44.0), shared=entries)
    assert (first["seconds"], first["judging"]) == (20.0, 1.0 + 2.0)
