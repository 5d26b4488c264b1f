"""The file of a trial that says what became of each layer of its model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from automl_sr.evaluation.layer_table import layer_table
from automl_sr.files import write_atomically
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.foreign import one_line
from automl_sr.store.records import LAYERS
from automl_sr.training.randomness import undisturbed

if TYPE_CHECKING:
    from pathlib import Path

    from automl_sr.plugin.technique import Technique
    from automl_sr.training.run import TrainedModel
    from automl_sr.trial.context import Context


def with_layers(
    finished: TrainedModel, architecture: Technique, context: Context
) -> tuple[TrainedModel, dict[str, Path]]:
    """Write what became of each layer, and return that file by its kind.

    The former model is the largest that the architecture alone would ship. A net whose layers
    cannot be told leaves no file, and a note that says why.
    """
    if finished.onnx is None:
        return finished, {}
    own = context.for_technique(architecture)
    try:
        first = architecture.blueprint(finished.task, own)
        _, former = architecture.shipped(first, finished.task, own)
        # Building draws weights, which may change nothing that is drawn later.
        with undisturbed():
            before = build(former, context.registry)
        table = layer_table(before, finished.module, finished.task, finished.onnx)
    except Exception as error:  # noqa: BLE001 - nets run Python of plugins, which may do anything
        note = f"What became of the layers cannot be told: {one_line(error)}."
        return replace(finished, notes=(*finished.notes, note)), {}
    path = finished.folder / "layers.json"
    write_atomically(path, json.dumps(table, indent=1).encode())
    return finished, {LAYERS: path}
