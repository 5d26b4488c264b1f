"""The score by which the NTIRE challenge on efficient super-resolution ranks nets.

    0.7 exp(2 t / t0) + 0.15 exp(2 F / F0) + 0.15 exp(2 P / P0)

with runtime t, FLOPs F and parameters P relative to those of a baseline, the smaller the better,
for nets whose PSNR does not fall below the baseline's by more than 0.03 dB (Ren et al., "The Tenth
NTIRE 2025 Efficient Super-Resolution Challenge Report", CVPR workshops 2025, arXiv:2504.10686:
26.90 dB are asked where the baseline has 26.93). The baseline scores exp(2) = 7.389. The
challenge's baseline is EFDN at x4; here it is trial 0, the plain plan of the study.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.presentation.stored_models import StoredModels
    from automl_sr.store.records import TrialRecord
    from automl_sr.study.spec import StudySpec

SOURCE = (
    "Ren et al., The Tenth NTIRE 2025 Efficient Super-Resolution Challenge Report, arXiv:2504.10686"
)
FORMULA = "0.7 exp(2 t/t0) + 0.15 exp(2 F/F0) + 0.15 exp(2 P/P0)"
WEIGHTS = {"runtime": 0.7, "macs": 0.15, "params": 0.15}
SLACK = 0.03
"""By how many dB the challenge's floor lies below its baseline."""
RUNTIMES = ("latency_ratio", "latency_ms")
"""What tells the runtime, the more reliable first."""
QUALITIES = ("psnr_rgb", "psnr_y")
BASELINE = 0


def score(ratios: dict[str, float]) -> float:
    """Return the score of a net from what it takes relative to the baseline.

    `ratios` are those of runtime, multiply-adds and parameters.
    """
    total = 0.0
    for name, weight in WEIGHTS.items():
        total += weight * math.exp(2 * ratios[name])
    return total


def efficiency(
    spec: StudySpec,
    trials: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    models: StoredModels,
    registry: Registry,
) -> dict[str, Any]:
    """Return the scores of the front. Raises AutomlSRError where files or plugins are missing."""
    baseline = _baseline(trials)
    if not front or baseline is None:
        return {"reason": f"Trial {BASELINE}, which is the baseline, has no stored model."}
    runtime = _first(RUNTIMES, baseline)
    if runtime is None:
        return {"reason": f"The study measures no runtime ({' or '.join(RUNTIMES)})."}
    quality = _first(QUALITIES, baseline)
    floor = None
    if quality is not None:
        floor = baseline.values[quality] - SLACK

    own = {**_counts(spec, baseline, models, registry), "runtime": baseline.values[runtime]}
    rows = []
    for trial in front:
        costs = {**_counts(spec, trial, models, registry), "runtime": trial.values[runtime]}
        ratios = {name: costs[name] / own[name] for name in WEIGHTS}
        passes = None
        if quality is not None and floor is not None:
            passes = trial.values[quality] >= floor
        row = {
            "number": trial.number,
            **costs,
            "ratios": ratios,
            "score": score(ratios),
            "passes": passes,
        }
        rows.append(row)
    # Who falls below the floor is not ranked by the challenge: it stands last here.
    rows.sort(key=lambda row: (row["passes"] is False, row["score"]))
    return {
        "formula": FORMULA,
        "source": SOURCE,
        "baseline": {"number": baseline.number, **own},
        "runtime": runtime,
        "quality": quality,
        "floor": floor,
        "rows": rows,
    }


def _baseline(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    for trial in trials:
        if trial.number == BASELINE and "onnx" in trial.artifacts:
            return trial
    return None


def _first(names: Sequence[str], trial: TrialRecord) -> str | None:
    """Return the first of these metrics that was measured."""
    for name in names:
        if name in trial.values:
            return name
    return None


def _counts(
    spec: StudySpec,
    trial: TrialRecord,
    models: StoredModels,
    registry: Registry,
) -> dict[str, float]:
    """Return parameters and multiply-adds of a model as it shipped."""
    import torch

    from automl_sr.compression.onnx_file import load_onnx
    from automl_sr.errors import DataError
    from automl_sr.evaluation.cost import macs, params
    from automl_sr.plugin.blueprint import Blueprint, build
    from automl_sr.plugin.task import as_inputs

    metadata = {}
    for entry in load_onnx(models.path(trial)).metadata_props:
        metadata[entry.key] = entry.value
    if "blueprint" not in metadata:
        raise DataError(f"The file of trial {trial.number} does not say how its model is built.")
    # From the blueprint, on the meta device: nothing is computed, and recurrent and attention
    # layers, which are counted only there, count as well.
    blueprint = Blueprint.from_json(json.loads(metadata["blueprint"]))
    with torch.device("meta"):
        model = build(blueprint, registry)
    example = as_inputs(spec.task.cost_example(model))
    return {"params": params(model, example), "macs": macs(model, example)}
