"""Everything that a plugin may import.

Names that need torch are resolved when they are first used, so that declaring a technique imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from automl_sr.errors import AutomlSRError, DataError, ExportError, PluginError, TrialError
from automl_sr.plugin.blueprint import Blueprint, Edit
from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.metric import Metric
from automl_sr.plugin.task import Batch, Interface, Samples, Task, TaskData
from automl_sr.plugin.technique import Choice, Each, Fixed, Float, Int, Pick, Slot, Technique, When
from automl_sr.training.phases import ModelUpdate, Phase
from automl_sr.training.step import Output, ParamGroup, TrainStep

if TYPE_CHECKING:
    from automl_sr.compression.export import layer_nodes, layer_tensors, quantize_static
    from automl_sr.evaluation.runtime import OnnxModel
    from automl_sr.tasks.image_sr.samples import SRSamples
    from automl_sr.training.recipe import Recipe
    from automl_sr.training.run import Run, TrainedModel
    from automl_sr.trial.context import Context

_LAZY = {
    "Context": "automl_sr.trial.context",
    "OnnxModel": "automl_sr.evaluation.runtime",
    "TrainedModel": "automl_sr.training.run",
    "Recipe": "automl_sr.training.recipe",
    "Run": "automl_sr.training.run",
    "SRSamples": "automl_sr.tasks.image_sr.samples",
    "layer_nodes": "automl_sr.compression.export",
    "layer_tensors": "automl_sr.compression.export",
    "quantize_static": "automl_sr.compression.export",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"automl_sr.api has no {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


__all__ = [
    "AutomlSRError",
    "Batch",
    "Blueprint",
    "Choice",
    "Context",
    "DataError",
    "Each",
    "Edit",
    "ExportError",
    "Fixed",
    "Float",
    "Int",
    "Interface",
    "Metric",
    "ModelUpdate",
    "OnnxModel",
    "Output",
    "ParamGroup",
    "Phase",
    "Pick",
    "PluginError",
    "Recipe",
    "Run",
    "SRSamples",
    "Samples",
    "Slot",
    "Task",
    "TaskData",
    "Technique",
    "TrainStep",
    "TrainedModel",
    "TrialError",
    "When",
    "hookimpl",
    "layer_nodes",
    "layer_tensors",
    "quantize_static",
]
