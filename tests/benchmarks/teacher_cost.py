"""Processor time of a training step with a teacher, relative to one without, in turns.

    python tests/benchmarks/teacher_cost.py [--rounds 9] [--precision fp32]

Student: EDSR with 4 blocks of 16 channels; teacher: EDSR with 8 blocks of 32 channels, or the same
net. Batches of 16 patches of 32 x 32 pixels on luma, enlarged twice, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from automl_sr.plugin.registry import installed
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.testing.tiny import TinyTrial, in_pipeline_order, tiny_samples, tiny_task
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run

STEPS = 6


def teachers() -> dict[str, Technique]:
    """Return what is timed, by name."""
    kinds = installed().techniques[Slot.TEACHER]
    larger = installed().technique(Slot.ARCHITECTURE, "edsr")(width=32, blocks=8)
    first: dict[str, Any] = {"architecture": larger, "steps": 2}
    maps = kinds["features"]
    return {
        "none": kinds["none"](),
        "response": kinds["response"](**first),
        "features: affinity, pool 2": maps(pool=2, **first),
        "features: affinity, pool 4": maps(**first),
        "features: attention": maps(form="attention", **first),
        "features: projection": maps(form="projection", **first),
        "self": kinds["self"](steps=2),
    }


def begun(technique: Technique, folder: Path, precision: Any) -> Run:
    """Begin a run with a teacher that has hardly learnt anything."""
    student = installed().technique(Slot.ARCHITECTURE, "edsr")(width=16, blocks=4)
    trial = TinyTrial(
        registry=installed(),
        task=tiny_task(),
        data=tiny_samples(),
        techniques=in_pipeline_order([student, technique]),
        steps=100_000,
        folder=folder,
        recipe=Recipe(precision=precision),
        precision=precision,
    )
    blueprint = student.blueprint(trial.task, trial.context(student))
    return Run.start(trial.setup(), blueprint)


def seconds_of(run: Run) -> float:
    """Return what some steps take."""
    begin = time.process_time()
    for _ in range(STEPS):
        run.advance()
    return time.process_time() - begin


def main() -> None:
    """Take turns, and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args()
    torch.set_num_threads(1)

    runs: dict[str, Run] = {}
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, technique) in enumerate(teachers().items()):
            runs[name] = begun(technique, Path(scratch) / str(number), asked.precision)
            ratios[name] = []
            seconds_of(runs[name])
        for _ in range(asked.rounds):
            plain = seconds_of(runs["none"])
            for name, run in runs.items():
                ratios[name].append(seconds_of(run) / plain)

    print(f"number format: {runs['none'].precision.kind}")
    for name, found in ratios.items():
        middle = statistics.median(found)
        print(f"{name:28} {middle:.2f} ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()
