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
    from automl_sr.compression.export import (
        activation_ranges,
        layer_nodes,
        layer_tensors,
        quantize_static,
    )
    from automl_sr.compression.layers import Layer, layers
    from automl_sr.compression.packing import Codebook, Sparse, Uniform, pack_weights
    from automl_sr.tasks.image_sr.samples import SRSamples
    from automl_sr.training.recipe import Recipe
    from automl_sr.training.run import Run, TrainedModel
    from automl_sr.trial.context import Context

_LAZY = {
    "Context": "automl_sr.trial.context",
    "TrainedModel": "automl_sr.training.run",
    "Recipe": "automl_sr.training.recipe",
    "Run": "automl_sr.training.run",
    "SRSamples": "automl_sr.tasks.image_sr.samples",
    "Codebook": "automl_sr.compression.packing",
    "Layer": "automl_sr.compression.layers",
    "Sparse": "automl_sr.compression.packing",
    "Uniform": "automl_sr.compression.packing",
    "activation_ranges": "automl_sr.compression.export",
    "layer_nodes": "automl_sr.compression.export",
    "layer_tensors": "automl_sr.compression.export",
    "layers": "automl_sr.compression.layers",
    "pack_weights": "automl_sr.compression.packing",
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
    "Codebook",
    "Context",
    "DataError",
    "Each",
    "Edit",
    "ExportError",
    "Fixed",
    "Float",
    "Int",
    "Interface",
    "Layer",
    "Metric",
    "ModelUpdate",
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
    "Sparse",
    "Task",
    "TaskData",
    "Technique",
    "TrainStep",
    "TrainedModel",
    "TrialError",
    "Uniform",
    "When",
    "activation_ranges",
    "hookimpl",
    "layer_nodes",
    "layer_tensors",
    "layers",
    "pack_weights",
    "quantize_static",
]
