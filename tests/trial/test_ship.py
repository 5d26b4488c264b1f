"""Every file that ships is compared with the module, also where a technique wrote it anew in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import onnx
import pytest

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
    """Writes the exported file anew under its own name, its weights times a factor."""

    slot = Slot.QUANTIZATION
    name = "in_place"
    times: ClassVar[float] = 1.0
    which: ClassVar[str] = "weight"

    def export(self, finished: Any, ctx: Any) -> Any:
        model = onnx.load(finished.onnx)
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype.kind == "f" and self.which in tensor.name:
                made = (values * self.times).astype(values.dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(made, tensor.name))
        model.producer_name = self.name
        onnx.save(model, finished.onnx)
        return finished


class Wrong(InPlace):
    """Gives another net than the one that was trained."""

    name = "wrong"
    times: ClassVar[float] = 1.5


class Broken(InPlace):
    """Changes numbers that are no weights, such as the factors of an enlargement."""

    name = "broken"
    times: ClassVar[float] = 1.5
    which: ClassVar[str] = ""


def shipped(technique: Technique, folder: Path) -> Path:
    techniques = in_pipeline_order([TinyNet(), technique])
    registry = contract_registry(type(item) for item in techniques)
    trial = TinyTrial(registry, tiny_task(), tiny_samples(), techniques, 4, folder, tiny_recipe())
    return trial.shipped(trial.train()).onnx


def test_a_file_that_was_written_anew_in_its_place_ships(tmp_path: Path) -> None:
    assert onnx.load(shipped(InPlace(), tmp_path)).producer_name == "in_place"


@pytest.mark.parametrize(("technique", "said"), [(Wrong, "differs from the module"), (Broken, "cannot be run")])
def test_one_that_is_not_the_model_any_more_is_refused(technique: type[InPlace], said: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=said):
        shipped(technique(), tmp_path)
