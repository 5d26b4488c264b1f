"""A finished model in a folder, as `automl-sr export` writes it."""

from __future__ import annotations

from pathlib import Path

import torch

from automl_sr.files import save_tensors
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.plugin.registry import installed
from automl_sr.testing.tiny import tiny_task
from automl_sr.trial.ship import export_module

FSRCNN = {"d": 12, "s": 8, "m": 1, "skip": "none"}


def write_model(folder: Path, *, color: str = "y") -> Path:
    """Write an FSRCNN with drawn weights for x2, and give the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    task = tiny_task(color="rgb" if color == "rgb" else "y")
    blueprint = Blueprint("reference.fsrcnn", {**FSRCNN, **task.dims()})
    torch.manual_seed(0)
    module = build(blueprint, installed()).eval()
    metadata = export_module(module, blueprint, task, folder / "model.onnx")
    save_tensors(folder / "model.safetensors", module.state_dict(), metadata)
    return folder
