"""What results hang on besides the study file: versions, plugins, and the machine of this
worker.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING, Any

from automl_sr import __version__
from automl_sr.errors import UseError

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.trial.types import Setting

PACKAGES = (
    "torch",
    "numpy",
    "optuna",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "scipy",
    "scikit-image",
)
"""Distributions whose versions may change results."""


def environment(setting: Setting) -> dict[str, Any]:
    """Describe what the results hang on: versions, plugins, threads and devices."""
    import torch

    packages = {}
    for name in PACKAGES:
        version = _installed(name)
        if version:
            packages[name] = version

    gpu = None
    if setting.train_device == "cuda":
        gpu = torch.cuda.get_device_name()

    return {
        "automl-sr": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "plugins": plugin_versions(setting.registry),
        "threads": setting.threads,
        "train_device": setting.train_device,
        "gpu": gpu,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def plugin_versions(registry: Registry) -> dict[str, str]:
    """Return the distribution and version of every plugin."""
    found: dict[str, str] = {}
    for source in registry.sources.values():
        found[source.plugin] = f"{source.distribution} {source.version}".strip()
    return found


def training_device(asked: str) -> str:
    """Return the device on which training runs. Raises UseError for one that is not there."""
    import torch

    if asked not in ("auto", "cpu", "cuda"):
        raise UseError(f"Unknown device {asked!r}.", "Write auto, cpu or cuda.")
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UseError(
            "There is no CUDA device that torch can use.", "Write --device cpu or --device auto."
        )
    if there and asked != "cpu":
        return "cuda"
    return "cpu"


def cores() -> int:
    """Count the cores that this process may use."""
    # A container or a scheduler may give it fewer than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
