"""A finished model goes through what a trial goes through, and is measured before and after."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import packing_toys
import pytest
import torch
from deep_supervision import DeepSupervision
from filelock import FileLock
from finished_models import write_model
from photographs import write_photographs

from automl_sr.compression.packing import is_packed
from automl_sr.errors import StopRequestedError, UseError
from automl_sr.files import load_tensors
from automl_sr.plugin.registry import Registry, Source, discover
from automl_sr.plugin.technique import Slot
from automl_sr.presentation.model_card import FILES
from automl_sr.search.compress.choice import Techniques
from automl_sr.search.compress.given import Asked, Given, from_folder
from automl_sr.search.compress.run import (
    Amount,
    CompressCallback,
    compress,
    working_for,
)

RECIPE = {"batch": 2, "patch": 12, "precision": "fp32"}
STEPS = 20


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = discover()
    found.add_plugin(packing_toys, Source("packing_toys", "packing_toys"))
    found.add_technique(DeepSupervision, Source("toys", "toys"))
    return found


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Given:
    folder = tmp_path_factory.mktemp("world")
    write_photographs(folder)
    asked = Asked((str(folder / "train"),), (str(folder / "valid"),), (16, 16))
    return from_folder(write_model(folder / "model"), asked, registry)


Evidence = dict[str, Any]


def done(
    given: Given,
    registry: Registry,
    output: Path,
    *,
    steps: int = STEPS,
    callback: CompressCallback | None = None,
    **names: str,
) -> Evidence:
    """Compress, copy the files to the output folder, and give the evidence."""
    chosen = Techniques({Slot(slot): name for slot, name in names.items()}, (), RECIPE)
    amount = Amount(steps, device="cpu", threads=1)
    with working_for(output) as work:
        found = compress(given, chosen, amount, registry, work, callback)
        output.mkdir()
        for kind, name in FILES.items():
            shutil.copyfile(found.files[kind], output / name)
    return found.evidence


def layers_of(evidence: Evidence) -> dict[str, Evidence]:
    return {row["name"]: row for row in evidence["layers"]["layers"]}


BOTH = {"pruning": "mostly_zero", "quantization": "four_bits"}


@pytest.fixture(scope="module")
def whole(given: Given, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a model lies that was pruned and quantized, beside its evidence."""
    folder = tmp_path_factory.mktemp("whole") / "new"
    evidence = done(given, registry, folder, **BOTH)
    (folder / "evidence.json").write_text(json.dumps(evidence))
    return folder


@pytest.fixture(scope="module")
def evidence(whole: Path) -> Evidence:
    found: Evidence = json.loads((whole / "evidence.json").read_text())
    return found


def test_the_evidence_holds_what_it_was_and_what_it_is(evidence: Evidence, whole: Path) -> None:
    before, after = evidence["before"], evidence["after"]
    assert {*before} == {*after} >= {"psnr_y", "ssim_y", "size_bytes", "latency_ms", "params"}
    assert after["size_bytes"] == (whole / "model.onnx").stat().st_size
    assert after["size_bytes"] < 0.8 * before["size_bytes"]
    assert after["params"] == before["params"]
    assert after["params_nonzero"] < 0.5 * before["params_nonzero"]
    assert (evidence["steps"], evidence["techniques"]["pruning"]) == (STEPS, "mostly_zero")
    assert not any(name.startswith("architecture") for name in evidence["plan"])
    assert is_packed(whole / "model.onnx")


def test_the_layers_say_what_was_pruned_and_in_how_many_bits_it_ships(evidence: Evidence) -> None:
    for row in layers_of(evidence).values():
        assert row["parameters"] == row["parameters_before"]
        assert row["sparsity"] > 0.8
    assert layers_of(evidence)["mid_part.2"]["bits"] == 4.0


class Interrupting(CompressCallback):
    """Presses Ctrl-C when training has come so far."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.went_on: list[bool] = []

    def began(self, plan: Any, steps: int, *, goes_on: bool) -> None:
        self.went_on.append(goes_on)

    def point(self, point: Any) -> None:
        if point.step == self.at:
            self.at = 0
            os.kill(os.getpid(), signal.SIGINT)


def test_what_was_stopped_goes_on_and_ends_with_the_same_bytes(
    given: Given, registry: Registry, tmp_path: Path, whole: Path
) -> None:
    pressing = Interrupting(at=6)
    with pytest.raises(StopRequestedError, match="The same command goes on") as stopped:
        done(given, registry, tmp_path / "new", callback=pressing, **BOTH)
    assert stopped.value.exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == [".new.compress"], "nothing half"

    with pytest.raises(UseError, match=r"differs \(plan\). Repeat its command, remove"):
        done(given, registry, tmp_path / "new", quantization="four_bits")
    done(given, registry, tmp_path / "new", callback=pressing, **BOTH)
    assert pressing.went_on == [False, True]
    for name in FILES.values():
        assert (tmp_path / "new" / name).read_bytes() == (whole / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_without_steps_the_weights_are_those_of_the_model(
    given: Given, registry: Registry, tmp_path: Path
) -> None:
    found = done(given, registry, tmp_path / "new", steps=0, quantization="int8_ptq")
    weights, _ = load_tensors(tmp_path / "new" / "model.safetensors")
    stored, _ = load_tensors(given.weights)
    assert found["steps"] == 0
    assert all(torch.equal(value, stored[name]) for name, value in weights.items())
    assert layers_of(found)["mid_part.0"]["bits"] == 8.0


@pytest.mark.parametrize(
    ("names", "steps", "said"),
    [
        (BOTH, 0, "this plan has 2: train, sparse. Ask for steps of training"),
        ({"teacher": "deep_supervision"}, 0, "nothing that the teacher 'deep_supervision' could"),
    ],
    ids=["pruning", "teacher"],
)
def test_what_has_to_train_is_refused_without_steps_and_leaves_nothing(
    names: dict[str, str], steps: int, said: str, given: Given, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(UseError, match=said):
        done(given, registry, tmp_path / "new", steps=steps, **names)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_work_on_one_folder(tmp_path: Path) -> None:
    (tmp_path / ".new.compress").mkdir()
    with (
        FileLock(tmp_path / ".new.compress" / "lock"),
        pytest.raises(UseError, match="Another process works in"),
        working_for(tmp_path / "new"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".new.compress"]
