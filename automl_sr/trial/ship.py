"""Shipping a trained model: compress it, export it to ONNX, and name its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from automl_sr import __version__
from automl_sr.compression.export import TOLERANCE, export_onnx, verify
from automl_sr.compression.onnx_file import FIXED_TENSORS, PARAMETERS
from automl_sr.errors import ExportError
from automl_sr.evaluation.cost import count_params
from automl_sr.files import save_tensors
from automl_sr.plugin.task import as_inputs

if TYPE_CHECKING:
    from torch import nn

    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.plugin.task import Task
    from automl_sr.plugin.technique import Technique
    from automl_sr.training.run import TrainedModel
    from automl_sr.trial.context import Context


def ship(finished: TrainedModel, pipeline: Sequence[Technique], context: Context) -> TrainedModel:
    """Compress and export a trained model.

    The file is checked against it, and again where a technique changed it.
    """
    for technique in pipeline:
        finished = technique.compress(finished, context.for_technique(technique))
    finished.folder.mkdir(parents=True, exist_ok=True)
    path = finished.folder / "model.onnx"
    metadata = export_module(finished.module, finished.blueprint, finished.task, path)
    finished = replace(finished, onnx=path)
    tolerances = [0.0]
    for technique in pipeline:
        before = path.read_bytes()
        exported = technique.export(finished, context.for_technique(technique))
        # A technique may write another file, or the same one anew.
        changed = exported is not finished or path.read_bytes() != before
        if exported.onnx is not None and changed:
            # What earlier techniques changed is still in the file.
            tolerance = max(TOLERANCE, technique.export_tolerance, *tolerances)
            verify(
                exported.onnx,
                exported.module,
                exported.task.examples(exported.module),
                tolerance,
            )
            tolerances.append(technique.export_tolerance)
        finished = exported
        path = finished.onnx or path
    save_tensors(finished.folder / "model.safetensors", finished.module.state_dict(), metadata)
    return finished


def export_model(finished: TrainedModel, path: Path) -> TrainedModel:
    """Return a model with the float file that it would ship as, written to this path.

    It is for those who want to know what runtimes will see of a model in training. Raises
    ExportError where the file does not give what the model gives.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    export_module(finished.module, finished.blueprint, finished.task, path)
    return replace(finished, onnx=path)


def export_module(
    module: nn.Module,
    blueprint: Blueprint,
    task: Task,
    path: Path,
) -> dict[str, str]:
    """Write a module as ONNX, checked on the task's examples.

    Returns the metadata that went into the file.
    """
    interface = task.interface()
    metadata = {
        "made_by": f"automl-sr {__version__}",
        "task": task.kind,
        "blueprint": json.dumps(blueprint.to_json(), sort_keys=True),
    }
    for key, value in task.dims().items():
        metadata[key] = str(value)
    metadata[PARAMETERS] = str(count_params(module))
    metadata.update(task.metadata())
    fixed = _fixed_tensors(module)
    if fixed:
        metadata[FIXED_TENSORS] = json.dumps(fixed)

    first, *others = (as_inputs(example) for example in task.examples(module))
    names = (interface.inputs, interface.outputs, interface.dynamic_axes)
    export_onnx(module, path, first, *names, metadata=metadata, check_inputs=others)
    return metadata


def _fixed_tensors(module: nn.Module) -> list[str]:
    """Name the kernels and tables that no training changes."""
    # A file alone does not tell them from weights.
    names = []
    for name, value in module.named_buffers():
        if value.dim() > 1 and value.is_floating_point():
            names.append(name)
    return names


def artifacts_of(finished: TrainedModel) -> dict[str, Path]:
    """Name the files of a shipped model by kind."""
    if finished.onnx is None:
        raise ExportError("The model was not exported.")
    return {"onnx": finished.onnx, "weights": finished.folder / "model.safetensors"}
