"""Whatever is installed goes together, or says that it does not: all pairs of techniques are trained
together, stopped on the way, exported, and compared with their files.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from covering import Group, Row, covering, groups_in, groups_of

from automl_sr.compression.export import TOLERANCE, verify
from automl_sr.errors import StopRequestedError
from automl_sr.plugin.registry import Registry, installed, instantiate
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.space.compatibility import Chosen
from automl_sr.testing.configurations import configurations
from automl_sr.testing.tiny import (
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.loop import Silent
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run

SLOTS = (
    Slot.ARCHITECTURE,
    Slot.PRUNING,
    Slot.QUANTIZATION,
    Slot.TEACHER,
    Slot.SELECTION,
    Slot.DATASET_DISTILLATION,
)
"""Those with the most techniques first: rows are filled in this order."""
OFTEN = ("fsrcnn", "edsr", "sesr", "imdn")
"""A transposed convolution with PReLU, a residual stream, blocks that are trained wide, channels
that are split and attended to: what techniques find difficult, tried everyday."""
SMALL: Mapping[str, Mapping[str, Any]] = {
    "selection.loss": {"scorer_steps": 20, "size": 24, "step": 12},
    "selection.sobel": {"size": 24, "step": 12},
    "selection.random": {"size": 24, "step": 12},
    "teacher.response": {"architecture": "espcn", "steps": 2},
    "teacher.features": {"architecture": "espcn", "steps": 2},
    "teacher.self": {"steps": 2},
    "quantization.int8_ptq": {"samples": 4},
    "quantization.int8_qat": {"samples": 4},
}
"""Fields that make a technique quick, as far as they are not searched: the others are at an end of
their ranges."""
NEED_A_FILE = ("from_file",)
"""What is nothing without a file: it is the net of the file, and the others are here as they are."""
STEPS = 16
ROUNDED = 0.2
"""How far a file may be from its model, relative to its range, where a technique rounds
activations: nets of sixteen steps say little more."""


@functools.cache
def names_of(slot: Slot) -> tuple[str, ...]:
    """Name what is installed for super-resolution, first what leaves everything as it is."""
    names = []
    for name, cls in installed().techniques[slot].items():
        if {"image-sr", "*"} & cls.tasks and name not in NEED_A_FILE:
            names.append(name)
    return tuple(sorted(names, key=lambda name: (name != "none", name)))


def architectures() -> tuple[str, ...]:
    """Name those that are searched unasked: the others, which are slow, are sampled alone."""
    known = installed().techniques[Slot.ARCHITECTURE]
    return tuple(name for name in names_of(Slot.ARCHITECTURE) if not known[name].asked_only)


def factors(nets: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for slot in SLOTS:
        names = names_of(slot)
        if slot is Slot.ARCHITECTURE:
            names = nets
        if len(names) > 1:
            found[slot.value] = names
    found["loss"] = ("l1", "charbonnier", "mse")
    found["color"] = ("y", "rgb")
    return found


def classes_of(row: Row) -> list[type[Technique]]:
    found = []
    for slot in SLOTS:
        if slot.value in row:
            found.append(installed().technique(slot, row[slot.value]))
    return found


def is_legal(row: Row) -> bool:
    """Whether core offers a choice of techniques: `requires` only when all slots are filled."""
    chosen = Chosen()
    for cls in classes_of(row):
        if not chosen.fits(cls):
            return False
        chosen = chosen.plus(cls)
    return chosen.complete or len(row) < len(factors(OFTEN))


@functools.cache
def everyday() -> tuple[Row, ...]:
    return tuple(covering(factors(OFTEN), is_legal).rows)


@functools.cache
def others() -> tuple[Row, ...]:
    """Give the rows that CI tries besides: pairs with more architectures, and a sample of all."""
    pairs = covering(factors(architectures()), is_legal, known=everyday()).rows

    draws = random.Random(0)
    sampled: list[Row] = []
    nets = names_of(Slot.ARCHITECTURE)
    values = factors(nets)
    while len(sampled) < len(nets):
        # Each architecture once: the slow ones are in no other row.
        drawn = {"architecture": nets[len(sampled)]}
        for name in [*values][1:]:
            drawn[name] = draws.choice(values[name])
        if is_legal(drawn):
            sampled.append(drawn)
    return (*pairs, *sampled)


def technique_of(slot: Slot, name: str, corner: str) -> Technique:
    cls = installed().technique(slot, name)
    settings = SMALL.get(f"{slot}.{name}", {})
    fields = {"technique": name}
    corners = configurations(cls)
    if corner in corners:
        fields.update(corners[corner].dump())
    for key, value in settings.items():
        fields[key] = value
        if key == "architecture":
            fields[key] = {"technique": value, "width": 8}
    return instantiate(installed(), slot, fields).canonical()


@functools.cache
def registry() -> Registry:
    return contract_registry([])


def trial_of(row: Row, number: int, folder: Path, shared: Path) -> TinyTrial:
    # Scores and teachers are made once for all rows, as in a study.
    folder.mkdir()
    (folder / "cache").symlink_to(shared, target_is_directory=True)
    techniques = []
    for slot in SLOTS:
        if slot.value not in row:
            continue
        # The nets at their smallest; what is done to them at both ends of its ranges in turns.
        corner = "lows"
        if slot is not Slot.ARCHITECTURE:
            corner = ("default", "lows", "highs")[number % 3]
        techniques.append(technique_of(slot, row[slot.value], corner))
    color: Any = row["color"]
    loss: Any = row["loss"]
    return TinyTrial(
        registry=registry(),
        task=tiny_task(color=color),
        data=tiny_samples(),
        techniques=in_pipeline_order(techniques),
        steps=STEPS,
        folder=folder,
        recipe=Recipe(batch=2, patch=8, precision="fp32", ema=0.9, loss=loss),
    )


def words(row: Row) -> str:
    return "-".join(row.values())


def cases() -> list[Any]:
    found = []
    for number, row in enumerate(everyday()):
        found.append(pytest.param(row, number, id=words(row)))
    for number, row in enumerate(others()):
        found.append(pytest.param(row, number, id=f"ci-{words(row)}", marks=pytest.mark.ci))
    return found


class StopTwice(Silent):
    """Asks a run to stop in the middle of its trunk, and again one step into its tail."""

    def __init__(self, trunk: int) -> None:
        self.stops = {trunk // 2, trunk + 1}
        self.step = 0

    def stop_requested(self) -> bool:
        self.step += 1  # of all attempts: a run goes on where it stopped
        return self.step in self.stops


def stopped_twice(trial: TinyTrial) -> Run:
    observer = StopTwice(trial.timetable().trunk_steps)
    for _ in observer.stops:
        with pytest.raises(StopRequestedError):
            trial.train(observer)
    return trial.train(observer)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize(("row", "number"), cases())
def test_a_combination_resumes_and_ships_what_it_has_learnt(
    row: Row, number: int, shared: Path, tmp_path: Path
) -> None:
    whole = trial_of(row, number, tmp_path / "whole", shared).train()
    trial = trial_of(row, number, tmp_path / "stopped", shared)
    run = stopped_twice(trial)
    for name, value in whole.evaluation_state().items():
        assert torch.equal(run.evaluation_state()[name], value), name

    finished = trial.shipped(run)
    assert finished.onnx is not None
    tolerance = TOLERANCE
    for technique in trial.techniques:
        if technique.export_tolerance > 0:
            tolerance = ROUNDED
    examples = finished.task.examples(finished.module)
    verify(finished.onnx, finished.module, examples, tolerance)


# ---- the array itself ----


def test_all_pairs_are_tried_but_those_that_exclude_each_other() -> None:
    every = factors(architectures())
    tried: set[Group] = set()
    for row in (*everyday(), *others()):
        tried |= groups_in(row, 2)
    for pair in set(groups_of(every, 2)) - tried:
        assert not is_legal(dict(pair)), f"{pair} is legal by all that is declared, and not tried"


def test_pairs_of_what_is_tried_everyday_are_all_tried_everyday() -> None:
    tried: set[Group] = set()
    for row in everyday():
        tried |= groups_in(row, 2)
    found = covering(factors(OFTEN), is_legal)
    assert set(groups_of(factors(OFTEN), 2)) - tried == set(found.impossible)


def test_a_covering_array_has_every_pair_that_is_legal_in_few_legal_rows() -> None:
    letters = {"a": "123", "b": "1234", "c": "12", "d": "12345"}

    def legal(row: Row) -> bool:
        return (row.get("a"), row.get("b")) != ("1", "2") and (
            row.get("c") != "2" or row.get("d") != "3"
        )

    found = covering(letters, legal)
    assert found.impossible == [(("a", "1"), ("b", "2")), (("c", "2"), ("d", "3"))]
    tried: set[Group] = set()
    for row in found.rows:
        assert legal(row)
        assert [*row] == [*letters]
        tried |= groups_in(row, 2)
    assert tried == set(groups_of(letters, 2)) - set(found.impossible)
    assert len(found.rows) <= 24


def test_a_covering_array_of_triples_has_every_triple() -> None:
    letters = {"a": "12", "b": "12", "c": "12", "d": "12"}
    found = covering(letters, lambda row: True, size=3)
    tried: set[Group] = set()
    for row in found.rows:
        tried |= groups_in(row, 3)
    assert tried == set(groups_of(letters, 3))
    assert len(found.rows) < 16
