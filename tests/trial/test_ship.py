"""Every file that ships is compared with the module, also where a technique wrote it anew in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from packing_toys import FourBits

from automl_sr.api import pack_weights
from automl_sr.compression.packing import is_packed
from automl_sr.errors import ExportError
from automl_sr.plugin.technique import Technique
from automl_sr.testing.tiny import (
    TinyNet,
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.run import TrainedModel


class Careless(FourBits):
    """Rounds the weights again after the file was packed."""

    name = "careless"

    def export(self, finished: TrainedModel, ctx: object) -> TrainedModel:
        made = super().export(finished, ctx)  # type: ignore[arg-type]
        for value in finished.module.parameters():
            value.detach().mul_(1.5)
        return made


class Harmless(FourBits):
    name = "harmless"

    def export(self, finished: TrainedModel, ctx: object) -> TrainedModel:
        assert finished.onnx is not None
        pack_weights(finished.onnx, finished.onnx, {})
        return finished


def shipped(technique: Technique, folder: Path) -> TrainedModel:
    techniques = in_pipeline_order([TinyNet(width=24), technique])
    registry = contract_registry(type(item) for item in techniques)
    trial = TinyTrial(registry, tiny_task(), tiny_samples(), techniques, 4, folder, tiny_recipe())
    return trial.shipped(trial.train())


def test_a_file_that_was_written_in_its_place_is_compared_with_the_module(tmp_path: Path) -> None:
    made = shipped(FourBits(), tmp_path / "right")
    assert made.onnx is not None
    assert is_packed(made.onnx)
    with pytest.raises(ExportError, match="differs from the module"):
        shipped(Careless(), tmp_path / "wrong")


def test_a_file_that_nothing_is_packed_in_stays_as_it_is(tmp_path: Path) -> None:
    made = shipped(Harmless(), tmp_path)
    assert made.onnx is not None
    assert not is_packed(made.onnx)
