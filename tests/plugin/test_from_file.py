"""`from_file`: the net of a file is the architecture of a plan, and its weights the first ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from finished_models import FSRCNN, write_model

from automl_sr.errors import TrialError
from automl_sr.files import load_tensors, save_tensors
from automl_sr.plugin.from_file import FromFile
from automl_sr.plugin.registry import installed
from automl_sr.plugin.technique import Slot
from automl_sr.space.search_space import SearchSpace
from automl_sr.testing.tiny import TinyTrial, tiny_recipe, tiny_samples, tiny_task


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model") / "model.safetensors"


def trial(folder: Path, technique: FromFile, steps: int = 12) -> TinyTrial:
    return TinyTrial(
        registry=installed(),
        task=tiny_task(),
        data=tiny_samples(),
        techniques=(technique,),
        steps=steps,
        folder=folder,
        recipe=tiny_recipe(),
    )


def test_the_net_is_that_of_the_file_and_nothing_is_drawn(model: Path, tmp_path: Path) -> None:
    run = trial(tmp_path, FromFile(weights=str(model)), steps=0).train()
    assert run.blueprint.factory == "reference.fsrcnn"
    assert {name: run.blueprint.fields[name] for name in FSRCNN} == FSRCNN
    stored, _ = load_tensors(model)
    assert all(torch.equal(value, stored[name]) for name, value in run.evaluation_state().items())


def test_training_that_was_stopped_in_every_phase_ends_with_the_same_bits(
    model: Path, tmp_path: Path
) -> None:
    whole = trial(tmp_path / "whole", FromFile(weights=str(model))).train()
    again = trial(tmp_path / "again", FromFile(weights=str(model))).train_interrupted()
    weights = again.evaluation_state()
    stored, _ = load_tensors(model)
    for name, value in whole.evaluation_state().items():
        assert torch.equal(value, weights[name]), name
    assert not torch.equal(weights["last_part.weight"], stored["last_part.weight"])


def test_what_it_cannot_begin_with_is_said(model: Path, tmp_path: Path) -> None:
    tensors, header = load_tensors(model)
    del header["blueprint"]
    save_tensors(tmp_path / "foreign.safetensors", tensors, header)
    colour = write_model(tmp_path / "colour", color="rgb") / "model.safetensors"
    for weights, said in (
        ("", "names no file. Write `from_file: {weights: my-model/model.safetensors}`"),
        (str(tmp_path / "foreign.safetensors"), "does not say which net it holds"),
        (str(colour), "a model with channels=3, and the task has channels=1"),
    ):
        with pytest.raises(TrialError, match=said):
            trial(tmp_path / "trial", FromFile(weights=weights)).train()


def test_it_is_searched_only_where_a_study_names_it(model: Path) -> None:
    section = {"architecture": {"from_file": {"weights": str(model)}}, "quantization": {}}
    space = SearchSpace.resolve(section, "image-sr", installed())
    assert [option.name for option in space.slots[1].options] == ["from_file"]
    whole = SearchSpace.resolve(None, "image-sr", installed())
    offered = {slot.slot: slot.options for slot in whole.slots}[Slot.ARCHITECTURE]
    assert "from_file" not in {option.name for option in offered}
