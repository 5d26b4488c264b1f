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
    """Measure every metric of the study on the exported file, as it ships; `seconds` are the
    trial's by stage.
    """
    path = artifacts_of(finished)["onnx"]
    metrics = []
    for name in setting.metrics:
        metrics.append(setting.registry.metric(name))
    by_level = {}
    for level in get_args(Level):
        by_level[level] = [metric for metric in metrics if metric.level == level]
    values: dict[str, float] = {}
    if by_level["quality"]:
        # Every core for quality: the number of threads changes the time that this takes, not the
        # outputs.
        model = OnnxModel(path, threads=setting.threads or 1)
        values |= setting.task.measure_quality(model, setting.data, by_level["quality"])
    meta = on_meta(finished.module)
    example = as_inputs(setting.task.cost_example(meta))
    values |= {metric.name: metric.function()(meta, example) for metric in by_level["blueprint"]}
    values |= {metric.name: metric.function()(path) for metric in by_level["artifact"]}
    values |= {metric.name: metric.function()(finished, seconds) for metric in by_level["trial"]}
    if by_level["device"]:
        values |= measure_device(path, setting, by_level["device"], context)
    for technique in pipeline:
        values = technique.evaluate(values, finished, context.for_technique(technique))
    found: dict[str, float] = {}
    for name, value in values.items():
        found[name] = float(value)
    return found


def measure_device(
    path: Path, setting: Setting, metrics: Sequence[Metric], context: Context
) -> dict[str, float]:
    """Time an exported file on the study's device, in turns with the reference net where one is
    asked for.

    Times do not depend on weights: files of one graph are timed once on a machine, so that rungs
    cost less, and noise does not tell equal models apart.
    """
    device, task = setting.device, setting.task
    needed = any("reference_net" in setting.registry.metric(name).needs for name in setting.metrics)
    if needed:
        files = {"own": path, "reference": task.reference_net()}
    else:
        files = {"own": path}

    def make(_: Path) -> dict[str, Tensor]:
        runners = {}
        for name, file in files.items():
            runners[name] = OnnxModel(file, device.threads, device.provider)
        calls = {}
        for name, runner in runners.items():
            calls[name] = _call(runner, task.latency_example(runner, device.input))
        timed = timed_in_turns(calls)
        result: dict[str, Tensor] = {}
        for name, found in timed.items():
            result[name] = torch.tensor(astuple(found), dtype=torch.float64)
        return result

    parts = {
        "graphs": {name: graph_digest(file) for name, file in files.items()},
        "device": asdict(device),
        "machine": node(),
        "onnxruntime": onnxruntime.__version__,
    }
    kept = context.cache.get(LATENCY, parts, make, context.observer.stop_requested)
    timed = {}
    for name, found in kept.items():
        timed[name] = _latency(found.tolist())
    result: dict[str, float] = {}
    for metric in metrics:
        result[metric.name] = metric.function()(
            timed["own"], timed["reference"] if "reference_net" in metric.needs else None
        )
    return result


def _call(runner: Runner, example: Array | Feed) -> Callable[[], object]:
    """Return one forward pass of a file, ready to be timed."""
    if isinstance(example, Mapping):
        return functools.partial(runner.run, example)
    return functools.partial(runner, example)


def _latency(kept: Sequence[float]) -> Latency:
    median, fastest, p90, runs = kept
    return Latency(median, fastest, p90, int(runs))
