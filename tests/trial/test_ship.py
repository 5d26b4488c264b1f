"""A file that a technique wrote ships only if it computes what its module does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from packing_toys import FourBits

from automl_sr.api import pack_weights
from automl_sr.compression.packing import is_packed
from automl_sr.errors import ExportError
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.testing.tiny import (
    TinyNet,
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)


class InPlace(Technique):
    """Writes the exported file anew under its own name, with its weights changed or not."""

    slot = Slot.QUANTIZATION
    name = "in_place"

    def export(self, finished: Any, ctx: Any) -> Any:
        model = onnx.load(finished.onnx)
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if "weight" in tensor.name:
                made = onnx.numpy_helper.from_array(self.changed(values), tensor.name)
                tensor.CopyFrom(made)
        model.producer_name = self.name
        onnx.save(model, finished.onnx)
        return finished

    def changed(self, weight: Any) -> Any:
        return weight


class Wrong(InPlace):
    """Gives another net than the one that was trained."""

    name = "wrong"

    def changed(self, weight: Any) -> Any:
        return weight * np.float32(1.5)


class Broken(InPlace):
    """Gives weights of a shape that no convolution has."""

    name = "broken"

    def changed(self, weight: Any) -> Any:
        return weight.reshape(-1)


class Careless(FourBits):
    """Changes the module's weights after the file was packed."""

    name = "careless"

    def export(self, finished: Any, ctx: Any) -> Any:
        made = super().export(finished, ctx)
        for value in finished.module.parameters():
            value.detach().mul_(1.5)
        return made


class NothingToPack(FourBits):
    """Packs none of the weights."""

    name = "nothing_to_pack"

    def export(self, finished: Any, ctx: Any) -> Any:
        pack_weights(finished.onnx, finished.onnx, {})
        return finished


def shipped(technique: Technique, folder: Path) -> Path:
    techniques = in_pipeline_order([TinyNet(width=24), technique])
    registry = contract_registry(type(item) for item in techniques)
    trial = TinyTrial(registry, tiny_task(), tiny_samples(), techniques, 4, folder, tiny_recipe())
    return trial.shipped(trial.train()).onnx


def test_a_file_that_was_written_anew_in_its_place_ships(tmp_path: Path) -> None:
    assert onnx.load(shipped(InPlace(), tmp_path)).producer_name == "in_place"


def test_a_packed_file_ships(tmp_path: Path) -> None:
    assert is_packed(shipped(FourBits(), tmp_path))


def test_a_file_that_nothing_is_packed_in_stays_as_it_is(tmp_path: Path) -> None:
    assert not is_packed(shipped(NothingToPack(), tmp_path))


@pytest.mark.parametrize(
    ("technique", "said"),
    [
        (Wrong, "differs from the module"),
        (Broken, "cannot be run"),
        (Careless, "differs from the module"),
    ],
)
def test_one_that_is_not_the_model_any_more_is_refused(
    technique: type[Technique], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=said):
        shipped(technique(), tmp_path)
