"""Everything that a plugin may import.

Names that need torch are resolved when they are first used, so that declaring a technique imports
nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from automl_sr.errors import AutomlSRError, DataError, ExportError, PluginError, TrialError
from automl_sr.plugin.blueprint import Blueprint, Edit
from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.metric import Metric
from automl_sr.plugin.task import (
    Batch,
    Example,
    Gallery,
    Interface,
    Piece,
    Port,
    Runner,
    Samples,
    Shared,
    Task,
    TaskData,
    alone,
    as_inputs,
)
from automl_sr.plugin.technique import (
    Choice,
    Each,
    File,
    Fixed,
    Float,
    Int,
    Later,
    Pick,
    Slot,
    Technique,
    When,
)
from automl_sr.training.phases import ModelUpdate, Phase
from automl_sr.training.step import Output, ParamGroup, TrainStep

if TYPE_CHECKING:
    from automl_sr.compression.export import (
        activation_ranges,
        layer_nodes,
        layer_tensors,
        quantize_static,
    )
    from automl_sr.compression.packing import Codebook, Float16, Sparse, Uniform, pack_weights
    from automl_sr.data.catalog import Catalog, ImageSet
    from automl_sr.data.images import read as read_image
    from automl_sr.data.images import to_rgb8
    from automl_sr.evaluation.latency import cache_folder
    from automl_sr.evaluation.layers import Layer, layers
    from automl_sr.evaluation.runtime import OnnxModel
    from automl_sr.tasks.image_sr.quality import psnr, rgb_to_y, ssim
    from automl_sr.tasks.image_sr.reference_net import reference_net
    from automl_sr.tasks.image_sr.resize import imresize
    from automl_sr.tasks.image_sr.samples import SRSamples
    from automl_sr.training.randomness import generator
    from automl_sr.training.recipe import Recipe
    from automl_sr.training.run import Run, TrainedModel
    from automl_sr.trial.context import Context
    from automl_sr.trial.ship import export_model

_LAZY = {
    "Layer": "automl_sr.evaluation.layers",
    "layers": "automl_sr.evaluation.layers",
    "cache_folder": "automl_sr.evaluation.latency",
    "Catalog": "automl_sr.data.catalog",
    "Context": "automl_sr.trial.context",
    "Codebook": "automl_sr.compression.packing",
    "Float16": "automl_sr.compression.packing",
    "Sparse": "automl_sr.compression.packing",
    "Uniform": "automl_sr.compression.packing",
    "activation_ranges": "automl_sr.compression.export",
    "pack_weights": "automl_sr.compression.packing",
    "export_model": "automl_sr.trial.ship",
    "generator": "automl_sr.training.randomness",
    "ImageSet": "automl_sr.data.catalog",
    "imresize": "automl_sr.tasks.image_sr.resize",
    "layer_nodes": "automl_sr.compression.export",
    "layer_tensors": "automl_sr.compression.export",
    "OnnxModel": "automl_sr.evaluation.runtime",
    "psnr": "automl_sr.tasks.image_sr.quality",
    "quantize_static": "automl_sr.compression.export",
    "read_image": "automl_sr.data.images:read",
    "Recipe": "automl_sr.training.recipe",
    "reference_net": "automl_sr.tasks.image_sr.reference_net",
    "rgb_to_y": "automl_sr.tasks.image_sr.quality",
    "Run": "automl_sr.training.run",
    "SRSamples": "automl_sr.tasks.image_sr.samples",
    "ssim": "automl_sr.tasks.image_sr.quality",
    "to_rgb8": "automl_sr.data.images",
    "TrainedModel": "automl_sr.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"automl_sr.api has no {name!r}")
    module, _, own = _LAZY[name].partition(":")
    return getattr(importlib.import_module(module), own or name)


__all__ = [
    "AutomlSRError",
    "Batch",
    "Blueprint",
    "Catalog",
    "Choice",
    "Codebook",
    "Context",
    "DataError",
    "Each",
    "Edit",
    "Example",
    "ExportError",
    "File",
    "Fixed",
    "Float",
    "Float16",
    "Gallery",
    "ImageSet",
    "Int",
    "Interface",
    "Later",
    "Layer",
    "Metric",
    "ModelUpdate",
    "OnnxModel",
    "Output",
    "ParamGroup",
    "Phase",
    "Pick",
    "Piece",
    "PluginError",
    "Port",
    "Recipe",
    "Run",
    "Runner",
    "SRSamples",
    "Samples",
    "Shared",
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
    "alone",
    "as_inputs",
    "cache_folder",
    "export_model",
    "generator",
    "hookimpl",
    "imresize",
    "layer_nodes",
    "layer_tensors",
    "layers",
    "pack_weights",
    "psnr",
    "quantize_static",
    "read_image",
    "reference_net",
    "rgb_to_y",
    "ssim",
    "to_rgb8",
]
