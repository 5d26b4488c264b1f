"""Measures of a trained model and of what training it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from automl_sr.errors import DataError

if TYPE_CHECKING:
    from automl_sr.training.run import TrainedModel

TRAINING = ("select", "train", "branch")
"""Stages in which a trial chooses its data and trains."""


def params_nonzero(trained: TrainedModel, seconds: Mapping[str, float]) -> float:
    """Measure of the metric `params_nonzero`."""
    count = 0
    for value in trained.module.parameters():
        count += int(value.count_nonzero())
    return float(count)


def train_seconds(trained: TrainedModel, seconds: Mapping[str, float]) -> float:
    """Measure of the metric `train_seconds`."""
    total = 0.0
    for stage in TRAINING:
        total += seconds.get(stage, 0.0)
    return total


def data_bytes(trained: TrainedModel, seconds: Mapping[str, float]) -> float:
    """Measure of the metric `data_bytes`. Raises DataError for samples that do not tell."""
    count = getattr(trained.data, "nbytes", None)
    if count is None:
        kind = type(trained.data).__name__
        raise DataError(
            f"The samples of this task ({kind}) do not tell their bytes: they have no `nbytes`."
        )
    return float(count)
