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
from automl_sr.training.phases import Timetable
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
        learnt = {}
        for name, parameter in run.model.named_parameters():
            if not parameter.requires_grad:
                continue
            grad = parameter.grad
            moved = grad is not None and bool(grad.any())
            learnt[name] = moved or self.learnt.get(name, False)
        # Anew, not added to: a model that was pruned or has grown has other parameters.
        self.learnt = learnt

    def end(self, run: Run) -> None:
        """Keep everything that the run is now."""
        self.weights = run.evaluation_state()
        self.snapshot = run.capture().tensors


class StopInEveryPhase(Silent):
    """Asks a run to stop two steps into each of its phases, as Ctrl-C would.

    It goes along through all attempts.
    """

    def __init__(self, table: Timetable) -> None:
        spans = (*table.spans, *table.tail_spans(table.trunk_steps))
        self.stops = set()
        for span in spans:
            into = min(2, span.steps)
            self.stops.add(span.start + into)
        self.step = 0

    def stop_requested(self) -> bool:
        """Count one step more, and say whether it is one of those."""
        self.step += 1  # of all attempts: a run goes on where it stopped
        return self.step in self.stops


class Killed(BaseException):
    """Stands for what nothing can be done about: no technique may be able to catch it."""


class StopThenKill(Silent):
    """Asks work to stop the first time, and ends it without asking the second time.

    Then it leaves the work alone.
    """

    def __init__(self) -> None:
        self.asked = 0

    def stop_requested(self) -> bool:
        """Count how often it was asked. Raises Killed the second time."""
        self.asked += 1
        if self.asked == 2:
            raise Killed
        return self.asked == 1


def overrides(cls: type[Technique], *names: str) -> bool:
    """Return whether a technique has a stage method of its own among these."""

    def own(name: str) -> bool:
        return getattr(cls, name) is not getattr(Technique, name)

    return any(own(name) for name in names)


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Require the same names and the same bits."""
    assert found.keys() == wanted.keys()
    other = []
    for name, value in wanted.items():
        if not torch.equal(found[name], value):
            other.append(name)
    assert other == []


def cost_of(finished: TrainedModel) -> dict[str, float]:
    """Return parameters, multiply-adds and bytes of a shipped model."""
    assert finished.onnx is not None
    module = finished.module
    example = as_inputs(finished.task.cost_example(module))
    return {
        "params": float(count_params(module)),
        "macs": float(count_macs(module, *example)),
        "size_bytes": float(finished.onnx.stat().st_size),
    }


@functools.cache
def heavy_imports_of(module: str) -> list[str]:
    """Import a module in a fresh Python and name the heavy libraries that came along.

    A technique that is declared in the test module itself cannot show this, so the test is skipped
    there.
    """
    _, _, own_name = module.rpartition(".")
    if "pytest" in vars(sys.modules[module]) or own_name.startswith("test_"):
        pytest.skip(
            f"{module} is a test module, which imports torch through pytest's fixtures anyway"
        )
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    # The same folders as here: a module under test need not be installed.
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(  # noqa: S603 - our own interpreter and a module name
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
