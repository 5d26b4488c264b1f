"""Processor time of a training step with the roundings of int8_qat, and of a plain one, in turns.

    python tests/benchmarks/quantized_steps.py

The default recipe on crops of photographs that scikit-image ships, one thread, in both number
formats. The ratio is that of the fastest steps: other processes make steps slower, none faster.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from automl_sr.plugin.technique import Technique
from automl_sr.testing.tiny import (
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.phases import Timetable
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run, Setup
from automl_sr_plugins.quantization import Int8QAT
from automl_sr_plugins.reference import EDSR, FSRCNN, MSRResNet

NETS = {
    "EDSR(32, 8)": EDSR(width=32, blocks=8),
    "FSRCNN": FSRCNN(),
    "MSRResNet": MSRResNet(),
}


def setup_of(net: Technique, technique: Int8QAT, precision: str, folder: Path) -> Setup:
    """Lay out a training that is plain at first; the phase of the technique lies in its trunk."""
    trial = TinyTrial(
        contract_registry([type(net), Int8QAT]),
        tiny_task(),
        tiny_samples(),
        in_pipeline_order([net, technique]),
        2000,
        folder,
        Recipe.model_validate({"precision": precision}),
    )
    setup = trial.setup()
    plain, rounded = trial.timetable().spans[0].phase, trial.timetable().tail[-1][0]
    trunk = [replace(plain, share=0.5), replace(rounded, share=0.5, tail=False)]
    return replace(setup, timetable=Timetable.of(trunk, 2000, 0.0))


def started(setup: Setup, net: Technique, phase: int) -> Run:
    """Begin a run in a phase."""
    run = Run.start(setup, net.blueprint(setup.task, setup.context))
    span = setup.timetable.spans[phase]
    run.step = span.start
    if phase:
        run._enter(span)
    return run


def ratio(net: Technique, technique: Int8QAT, precision: str, steps: int) -> float:
    """Return how many times as long a rounded step takes."""
    with tempfile.TemporaryDirectory() as folder:
        setup = setup_of(net, technique, precision, Path(folder))
        runs = [started(setup, net, phase) for phase in (0, 1)]
        seconds: list[list[float]] = [[], []]
        for number in range(steps + 3):
            for run, taken in zip(runs, seconds, strict=True):
                begun = time.process_time()
                run.advance()
                if number >= 3:  # the first ones make what later ones find
                    taken.append(time.process_time() - begun)
    plain, rounded = map(min, seconds)
    return rounded / plain


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name, net in NETS.items():
        for precision in ("bf16", "fp32"):
            found = ratio(net, Int8QAT(), precision, asked.steps)
            print(f"{name:12} {precision}: {found:.2f}")


if __name__ == "__main__":
    main()
