"""Processor time of a training step with a pruning, relative to plain training.

Usage, from the checkout: python tests/benchmarks/pruning_steps.py [--turns 6]

All runs go on in turns, five steps each, on one thread; the ratio is that of the medians. The net
is an EDSR of 4 blocks with 32 channels, the batch 8 patches of 24 px.
"""

from __future__ import annotations

import argparse
import statistics
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
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.run import Run
from automl_sr_plugins.reference import EDSR
from automl_sr_plugins.unstructured_pruning import NM, DUPru, Shrink, UPru

NET = EDSR(width=32, blocks=4)
PRUNINGS: dict[str, Technique | None] = {
    "plain": None,
    "upru": UPru(),
    "dupru": DUPru(),
    "nm, while it learns N": NM(mode="learnt", m=32, budget=0.06),
    "shrink, while it shrinks": Shrink(),
}
STEPS = 5


def begun(technique: Technique | None, precision: str, folder: Path) -> Run:
    """Begin a trial, in the phase that is to be measured."""
    members: list[Technique] = [NET]
    if technique is not None:
        members.append(technique)
    techniques = in_pipeline_order(members)
    recipe = tiny_recipe().model_copy(update={"batch": 8, "patch": 24, "precision": precision})
    registry = contract_registry([type(item) for item in techniques])
    trial = TinyTrial(registry, tiny_task(), tiny_samples(), techniques, 10_000, folder, recipe)
    trial = replace(trial, precision=precision)
    run = Run.start(trial.setup(), NET.blueprint(trial.task, trial.context(NET)))
    if isinstance(technique, NM):
        learning = trial.timetable().spans[1]
        run.step = learning.start
        run._enter(learning)
    return run


def main() -> None:
    """Print a line for each number format and pruning."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for precision in ("fp32", "bf16"):
        with tempfile.TemporaryDirectory() as folder:
            runs = {}
            for name, technique in PRUNINGS.items():
                runs[name] = begun(technique, precision, Path(folder) / name)
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(options.turns + 1):
                for name, run in runs.items():
                    start = time.process_time()
                    for _ in range(STEPS):
                        run.advance()
                    seconds[name].append(time.process_time() - start)
            plain = statistics.median(seconds["plain"][1:])
            for name, found in seconds.items():
                ratio = statistics.median(found[1:]) / plain
                print(f"{precision} {name}: {ratio:.2f} of {1000 * plain / STEPS:.0f} ms")


if __name__ == "__main__":
    main()
