"""An EDSR that is trained wide, searched and refined: what is kept is wide, what ships is plain."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from photographs import write_photographs
from safetensors.torch import load_file

from automl_sr.evaluation.cost import count_params
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.plugin.registry import installed
from automl_sr.plugin.task import TaskData
from automl_sr.plugin.technique import Slot
from automl_sr.search.decide import gate as gates
from automl_sr.search.decide.gate import Gate
from automl_sr.search.engine import Options, search
from automl_sr.search.refine.choice import Request
from automl_sr.search.refine.refiner import refine
from automl_sr.space.plan import TrialPlan
from automl_sr.store.reading import Reader
from automl_sr.store.refinements import refinements
from automl_sr.study.limits import Limits
from automl_sr.study.spec import parse_study
from automl_sr.testing.tiny import TinyTrial, contract_registry, tiny_samples, tiny_task
from automl_sr.training import loop
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run
from automl_sr.trial.types import DeviceSpec, Setting
from automl_sr_plugins.reference import EDSR
from automl_sr_plugins.reference.reparam import fold

STUDY = """
name: wide
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y, params]
observe: [macs]
constraints: {{params: {{max: {most}}}}}
budget: {{trials: 1, steps: 40}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{edsr: {{width: 8, blocks: 1, tail: lite, reparam: linear}}}}
  recipe: {{batch: 2, patch: 12, ema: 0.9, precision: fp32}}
"""
STEPS = 30
NET = EDSR(width=8, blocks=1, reparam="linear")
WIDE_LAYER = "body.0.conv1.expand.weight"


def params_of(technique: EDSR) -> int:
    net = build(technique.blueprint(tiny_task(), None), installed())  # type: ignore[arg-type]
    return count_params(net)


PLAIN_PARAMS = params_of(EDSR(width=8, blocks=1))


def options_in(place: Path) -> Options:
    return Options(
        store=f"sqlite:///{place}/store.db", artifacts=str(place / "artifacts"), device="cpu"
    )


def work(folder: Path, place: Path) -> None:
    """Search one trial and refine it; what is done already is not done again."""
    place.mkdir(exist_ok=True)
    text = STUDY.format(folder=folder, most=PLAIN_PARAMS)
    loaded = parse_study(text, "study.yaml", installed())
    assert search(loaded, installed(), options_in(place)).error is None
    asked = Request(steps=STEPS)
    assert refine("wide", installed(), options_in(place), asked).error is None


def killed(at: Callable[[Run], bool], worked: Callable[[], None]) -> None:
    """Work in a process of its own, which kills itself at a step, each step being kept."""
    child = os.fork()
    if child == 0:
        loop.CHECKPOINT_SECONDS = 0.0
        advance = Run.advance

        def deadly(run: Run) -> None:
            if at(run):
                os.kill(os.getpid(), signal.SIGKILL)
            advance(run)

        Run.advance = deadly  # type: ignore[method-assign]
        worked()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def in_refinement(run: Run) -> bool:
    return run.setup.timetable.steps == STEPS


def found_in(place: Path) -> tuple[Any, Any]:
    """Return the trial and its refinement."""
    reader = Reader.open(f"sqlite:///{place}/store.db")
    study = reader.study("wide")
    [trial], [refined] = reader.trials(study), refinements(reader, study)
    reader.close()
    return trial, refined


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def searched(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("searched")
    work(photographs, place)
    return place


def weights_in(path: str) -> int:
    """Count what the layers of an exported file hold; the bicubic kernel is no weight."""
    count = 0
    for stored in onnx.load(path).graph.initializer:
        if stored.name.endswith((".weight", ".bias")):
            count += math.prod(stored.dims)
    return count


def test_what_ships_is_plain_and_counted_so_everywhere(searched: Path) -> None:
    for row in found_in(searched):
        assert row.values["params"] == PLAIN_PARAMS
        assert weights_in(row.artifacts["onnx"].url) == PLAIN_PARAMS
        shipped = load_file(row.artifacts["weights"].url)
        assert "body.0.conv1.weight" in shipped
        assert WIDE_LAYER not in shipped
    trial, refined = found_in(searched)
    assert trial.costs["params"] == PLAIN_PARAMS, "at the gate"
    assert refined.values["macs"] == trial.values["macs"] == trial.costs["macs"]


def test_what_is_kept_for_more_training_is_wide_and_so_is_its_average(searched: Path) -> None:
    trial, _ = found_in(searched)
    kept = load_file(trial.artifacts["checkpoint"].url)
    for part in ("model", "average"):
        assert f"{part}|{WIDE_LAYER}" in kept


def test_the_average_of_the_wide_weights_is_what_is_folded(tmp_path: Path) -> None:
    recipe = Recipe(batch=2, patch=12, precision="fp32", ema=0.9)
    registry = contract_registry([EDSR])
    trial = TinyTrial(registry, tiny_task(), tiny_samples(), (NET,), 6, tmp_path, recipe)
    run = trial.train()
    assert run.ema is not None
    finished = trial.shipped(run)
    wide = build(run.blueprint, registry)
    wide.load_state_dict({**run.model.state_dict(), **run.ema.values})
    for name, value in fold(wide).state_dict().items():
        assert torch.equal(finished.module.state_dict()[name], value), name
    assert finished.blueprint == Blueprint.from_json(
        json.loads(json.dumps(run.blueprint.edited("reference.fold").to_json()))
    )


def test_memory_is_estimated_for_the_wide_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_task()
    setting = Setting(
        registry=installed(),
        task=task,
        data=TaskData(tiny_samples(), []),
        metrics=("params",),
        objectives=("params",),
        steps=10,
        rungs=1,
        reduction=4,
        seed=0,
        train_device="cpu",
        device=DeviceSpec(),
        cache=tmp_path / "cache",
    )
    gate = Gate(setting, {"params": Limits(max=PLAIN_PARAMS)}, tmp_path)
    sizes = []
    real = gates.training_bytes

    def noted(module: Any, *inputs: Any, **fields: Any) -> int:
        sizes.append(count_params(module))
        return real(module, *inputs, **fields)

    monkeypatch.setattr(gates, "training_bytes", noted)
    techniques = {Slot.ARCHITECTURE: NET, Slot.RECIPE: Recipe()}
    verdict = gate.check(TrialPlan.of(techniques, {}))
    assert verdict.reason is None
    assert verdict.costs["params"] == PLAIN_PARAMS
    assert sorted(sizes) == [PLAIN_PARAMS, params_of(NET)]


@pytest.mark.timeout(300)
def test_killed_on_the_way_it_ships_the_same_bytes(
    searched: Path, photographs: Path, tmp_path: Path
) -> None:
    again = partial(work, photographs, tmp_path)
    killed(lambda run: run.branch_step is None and run.step == 20, again)
    killed(lambda run: run.branch_step is not None and not in_refinement(run), again)
    killed(lambda run: in_refinement(run) and run.step == 9, again)
    again()
    for whole, parts in zip(found_in(searched), found_in(tmp_path), strict=True):
        assert parts.values == whole.values
        for kind in ("onnx", "weights"):
            assert parts.artifacts[kind].sha256 == whole.artifacts[kind].sha256
