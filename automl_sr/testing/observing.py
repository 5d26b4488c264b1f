"""What contracts look at: gradients, interruptions, costs, imports."""

# ruff: noqa: S101 - tests assert, also those that are inherited
from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from automl_sr.evaluation.cost import count_macs, count_params
from automl_sr.plugin.task import as_inputs
from automl_sr.plugin.technique import Technique
from automl_sr.training.loop import Silent
from automl_sr.training.run import Run, TrainedModel

HEAVY = ("torch", "onnx", "onnxruntime", "nni", "pytorch_lightning", "gradio", "sklearn", "skimage")


class Trace:
    """What was seen of a run: which parameters ever had a gradient, and how it ended."""

    def __init__(self) -> None:
        self.learnt: dict[str, bool] = {}
        self.weights: dict[str, Tensor] = {}
        self.snapshot: dict[str, Tensor] = {}

    def look(self, run: Run) -> None:
        """Take note of the gradients of the last step."""
        found = {}
        for name, parameter in run.model.named_parameters():
            if parameter.requires_grad:
                grad = parameter.grad
                found[name] = self.learnt.get(name, False) or bool(grad is not None and grad.any())
        self.learnt = found

    def end(self, run: Run) -> None:
        """Keep everything that the run is now."""
        self.weights = run.evaluation_state()
        self.snapshot = run.capture().tensors


class StopAfter(Silent):
    """Asks a run to stop after some steps, as Ctrl-C would."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def stop_requested(self) -> bool:
        """Say so once the steps are done."""
        self.left -= 1
        return self.left == 0


def overrides(cls: type[Technique], *names: str) -> bool:
    """Whether a technique has a stage method of its own among these."""
    return any(getattr(cls, name) is not getattr(Technique, name) for name in names)


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Require the same names and the same bits."""
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def cost_of(finished: TrainedModel) -> dict[str, float]:
    """Give parameters, multiply-adds and bytes of a shipped model."""
    assert finished.onnx is not None
    example = as_inputs(finished.task.cost_example(finished.module))
    return {
        "params": float(count_params(finished.module)),
        "macs": float(count_macs(finished.module, *example)),
        "size_bytes": float(finished.onnx.stat().st_size),
    }


@functools.cache
def heavy_imports_of(module: str) -> list[str]:
    """Import a module in a fresh Python and name the heavy libraries that came along.

    A technique that is declared in the test module itself cannot show this, so the test is skipped there.
    """
    if "pytest" in vars(sys.modules[module]) or module.rpartition(".")[2].startswith("test_"):
        pytest.skip(f"{module} is a test module, which imports torch through pytest's fixtures anyway")
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(  # noqa: S603 - our own interpreter and a module name
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
