"""Measuring the exported file, as it ships: quality, cost, size and latency."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import onnxruntime
import torch

from automl_sr.compression.onnx_file import graph_digest
from automl_sr.evaluation.cost import on_meta
from automl_sr.evaluation.latency import LATENCY, Latency, timed_in_turns
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.plugin.metric import Level, Metric
from automl_sr.plugin.task import as_inputs
from automl_sr.store.leases import node
from automl_sr.trial.ship import artifacts_of

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.plugin.task import Array, Feed, Runner
    from automl_sr.plugin.technique import Technique
    from automl_sr.training.run import TrainedModel
    from automl_sr.trial.context import Context
    from automl_sr.trial.types import Setting


def measure(
    finished: TrainedModel,
    pipeline: Sequence[Technique],
    setting: Setting,
    context: Context,
    seconds: Mapping[str, float],
) -> dict[str, float]:
    """Measure every metric of the study on the exported file, as it ships.

    `seconds` are the trial's by stage.
    """
    path = artifacts_of(finished)["onnx"]
    by_level: dict[str, list[Metric]] = {level: [] for level in get_args(Level)}
    for name in setting.metrics:
        metric = setting.registry.metric(name)
        by_level[metric.level].append(metric)

    values: dict[str, float] = {}
    if by_level["quality"]:
        # Every core for quality: the number of threads changes the time that this takes, not the
        # outputs.
        model = OnnxModel(path, threads=setting.threads or 1)
        values |= setting.task.measure_quality(model, setting.data, by_level["quality"])

    meta = on_meta(finished.module)
    example = as_inputs(setting.task.cost_example(meta))
    for metric in by_level["blueprint"]:
        values[metric.name] = metric.function()(meta, example)
    for metric in by_level["artifact"]:
        values[metric.name] = metric.function()(path)
    for metric in by_level["trial"]:
        values[metric.name] = metric.function()(finished, seconds)
    if by_level["device"]:
        values |= measure_device(path, setting, by_level["device"], context)

    # Last: a technique sees all values, and may correct them.
    for technique in pipeline:
        values = technique.evaluate(values, finished, context.for_technique(technique))
    return {name: float(value) for name, value in values.items()}


def measure_device(
    path: Path,
    setting: Setting,
    metrics: Sequence[Metric],
    context: Context,
) -> dict[str, float]:
    """Time an exported file on the study's device.

    It takes turns with the reference net where one is asked for.
    """
    files = {"own": path}
    if _needs_reference(setting):
        files["reference"] = setting.task.reference_net()

    def make(_: Path) -> dict[str, Tensor]:
        return _timed(files, setting)

    # Times do not depend on weights: files of one graph are timed once on a machine, so that rungs
    # cost less, and noise does not tell equal models apart.
    graphs = {}
    for name, file in files.items():
        graphs[name] = graph_digest(file)
    parts = {
        "graphs": graphs,
        "device": asdict(setting.device),
        "machine": node(),
        "onnxruntime": onnxruntime.__version__,
    }
    kept = context.cache.get(LATENCY, parts, make, context.observer.stop_requested)

    own = _latency(kept["own"].tolist())
    values: dict[str, float] = {}
    for metric in metrics:
        reference = None
        if "reference_net" in metric.needs:
            reference = _latency(kept["reference"].tolist())
        values[metric.name] = metric.function()(own, reference)
    return values


def _needs_reference(setting: Setting) -> bool:
    metrics = [setting.registry.metric(name) for name in setting.metrics]
    return any("reference_net" in metric.needs for metric in metrics)


def _timed(files: Mapping[str, Path], setting: Setting) -> dict[str, Tensor]:
    """Return the times of each file, as the cache keeps them."""
    device = setting.device
    calls = {}
    for name, file in files.items():
        runner = OnnxModel(file, device.threads, device.provider)
        example = setting.task.latency_example(runner, device.input)
        calls[name] = _call(runner, example)
    tensors: dict[str, Tensor] = {}
    for name, latency in timed_in_turns(calls).items():
        # In double precision: what is found again has the bits of what was measured.
        tensors[name] = torch.tensor(astuple(latency), dtype=torch.float64)
    return tensors


def _call(runner: Runner, example: Array | Feed) -> Callable[[], object]:
    """Return one forward pass of a file, ready to be timed."""
    if isinstance(example, Mapping):
        return functools.partial(runner.run, example)
    return functools.partial(runner, example)


def _latency(kept: Sequence[float]) -> Latency:
    median, fastest, p90, runs = kept
    return Latency(median, fastest, p90, int(runs))
