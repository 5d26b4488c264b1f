"""In which number format a run computes: the recipe's, where that says `auto` the study's, and to
its end the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resuming import COMBINATIONS, setup_of

from automl_sr.training import precision
from automl_sr.training.precision import can_train, own_format, resolve
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run, continued


def start(folder: Path, study: str, recipe: str = "auto") -> Run:
    setup, blueprint = setup_of(
        COMBINATIONS["plain"], folder, Recipe(batch=8, patch=8, precision=recipe), study
    )
    return Run.start(setup, blueprint)


def in_study(run: Run, study: str) -> Any:
    return replace(run.setup, context=replace(run.setup.context, precision=study))


@pytest.mark.parametrize(
    ("study", "recipe", "kind"), [("bf16", "auto", "bf16"), ("bf16", "fp32", "fp32")]
)
def test_auto_means_the_format_of_the_study(
    tmp_path: Path, study: str, recipe: str, kind: str
) -> None:
    run = start(tmp_path, study, recipe)
    assert run.precision.kind == kind


def test_a_run_goes_on_in_the_format_in_which_it_began(tmp_path: Path) -> None:
    began = start(tmp_path, "bf16")
    resumed = Run.restore(in_study(began, "fp32"), began.capture())
    assert (resumed.precision.kind, resumed.branch().precision.kind) == ("bf16", "bf16")


def test_a_run_that_goes_on_from_another_one_is_the_study_s_again(tmp_path: Path) -> None:
    began = start(tmp_path, "bf16")
    began.advance()
    base = began.capture()
    assert Run.go_on(continued(in_study(began, "fp32"), base, 40), base).precision.kind == "fp32"


@pytest.mark.parametrize(
    ("device", "native", "own"),
    [
        ("cpu", {"fp32", "bf16"}, "bf16"),
        ("cpu", {"fp32", "fp16"}, "fp32"),
        ("cuda", {"fp32", "fp16"}, "fp16"),
    ],
)
def test_without_a_study_auto_is_what_suits_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, native: set[str], own: str
) -> None:
    monkeypatch.setattr(precision, "is_native", lambda kind, device: kind in native)
    assert own_format(device) == resolve("auto", device) == own
    assert resolve("auto", device, "fp16") == "fp16"
    assert resolve("bf16", device, "fp16") == "bf16"


@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp16"])
def test_every_format_is_tried_out_without_touching_the_random_numbers(kind: str) -> None:
    before = torch.get_rng_state()
    assert can_train(kind, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_device_that_does_not_know_a_format_cannot_train_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> torch.Tensor:
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    assert not can_train("fp16", "cpu")
    assert can_train("fp32", "cpu")
