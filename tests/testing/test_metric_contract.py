"""Core's own metrics keep the contract of metrics."""

from __future__ import annotations

from automl_sr.plugin.metric import BUILTIN_METRICS
from automl_sr.tasks.image_sr.metrics import IMAGE_METRICS
from automl_sr.testing import MetricContract


class TestBuiltin(MetricContract):
    metric = (*IMAGE_METRICS, *BUILTIN_METRICS)
