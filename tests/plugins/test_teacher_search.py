"""Teachers in a search: named by a study file, trained once, and refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from photographs import write_photographs

from automl_sr.errors import StudyFileError
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import installed
from automl_sr.plugin.technique import Slot
from automl_sr.search.engine import Options, search
from automl_sr.space.section import read_space
from automl_sr.store.reading import Reader
from automl_sr.study.spec import parse_study
from automl_sr.testing.tiny import tiny_task

STUDY = """
name: taught
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y]
budget: {{trials: {trials}, steps: 10}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{espcn: {{width: 8, activation: relu}}}}
  teacher: {teacher}
  recipe: {{batch: 2, patch: 12, ema: 0.0, precision: fp32, loss: l1, lr: 1e-3}}
"""


def found(folder: Path, teacher: str, trials: int = 1) -> list[Any]:
    text = STUDY.format(folder=folder, teacher=teacher, trials=trials)
    place = folder / "runs"
    place.mkdir(exist_ok=True)
    where = Options(
        store=f"sqlite:///{place}/store.db", artifacts=str(place / "artifacts"), device="cpu"
    )
    search(parse_study(text, str(folder / "study.yaml"), installed()), installed(), where)
    reader = Reader.open(where.store)
    trials_found = list(reader.trials(reader.study("taught")))
    reader.close()
    return trials_found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_photographs(tmp_path)


def test_a_teacher_is_trained_in_the_first_trial_and_found_by_the_others(folder: Path) -> None:
    net = "{espcn: {width: 16, activation: relu}}"
    fields = f"{{architecture: {net}, steps: 4}}"
    trials = found(folder, f"{{response: {fields}, features: {fields}}}", trials=4)
    assert [trial.state for trial in trials] == ["complete"] * 4
    assert len({trial.params["teacher"] for trial in trials}) == 2
    made = []
    for trial in trials:
        shared = trial.shared or {}
        made.append({name: entry["reused"] for name, entry in shared.items()})
    assert made[0] == {"fit/espcn/teacher": False}
    assert made[1:] == [{"fit/espcn/teacher": True}] * 3


def test_a_file_of_another_scale_ends_a_trial_in_words_before_it_is_trained(folder: Path) -> None:
    espcn = installed().technique(Slot.ARCHITECTURE, "espcn")(width=16)
    model = build(espcn.blueprint(tiny_task(scale=3), None), installed())
    torch.save(model.state_dict(), folder / "of_three.pth")
    file = f"{folder}/of_three.pth"
    net = f"{{espcn: {{width: 16, activation: relu, weights: {file}}}}}"
    [trial] = found(folder, f"{{response: {{architecture: {net}, steps: 0}}}}")
    assert trial.state == "failed"
    assert "for this scale" in trial.reason
    assert "The teacher" in trial.reason


def test_a_file_that_is_not_there_is_a_mistake_in_the_study_file(folder: Path) -> None:
    with pytest.raises(StudyFileError, match="there is no file"):
        found(folder, "{response: {architecture: {espcn: {weights: nowhere.pth}}}}")


def test_unasked_no_teacher_is_searched() -> None:
    slots, notes = read_space({"teacher": {}, "architecture": "espcn"}, "image-sr", installed())
    [teacher] = [slot for slot in slots if slot.slot is Slot.TEACHER]
    assert [option.name for option in teacher.options] == ["none"]
    assert any("features, response, self" in note for note in notes)
