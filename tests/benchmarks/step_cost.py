"""Processor time of one training step of a tiny net, of this checkout and an older commit, in turns.

    python tests/benchmarks/step_cost.py COMMIT [--pairs 6]

The net is so small that what the engine does around it shows. Each turn is a process of its own,
which trains for 900 steps and counts the fastest 100; both train on one thread to the same weights
as long as training means the same. The ratio is now / before: below 1 is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from before_after import ROOT, checked_out

TURN = """
import tempfile, time
from pathlib import Path
import torch
from automl_sr.testing.tiny import (
    TinyNet, TinyTrial, contract_registry, tiny_recipe, tiny_samples, tiny_task
)
from automl_sr.training.run import Run

torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    registry = contract_registry(())
    parts = (tiny_task(), tiny_samples(), (TinyNet(),), 4000, Path(folder), tiny_recipe())
    trial = TinyTrial(registry, *parts)
    context = trial.context(trial.architecture)
    run = Run.start(trial.setup(), trial.architecture.blueprint(trial.task, context))
    seconds = []
    for _ in range(9):
        begun = time.process_time()
        for _ in range(100):
            run.advance()
        seconds.append(time.process_time() - begun)
    weights = sum(float(value.double().sum()) for value in run.evaluation_state().values())
    print(10 * min(seconds[1:]), repr(weights))
"""


def turn(checkout: Path) -> tuple[float, str]:
    """Return the milliseconds of a step, and what the weights add up to."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{checkout}:{checkout / 'plugins'}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", TURN]
    done = subprocess.run(
        command, cwd=checkout, env=environment, check=True, capture_output=True, text=True
    )
    milliseconds, weights = done.stdout.split()
    return float(milliseconds), weights


def main() -> None:
    """Take turns and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("commit")
    parser.add_argument("--pairs", type=int, default=6)
    asked = parser.parse_args()

    ratios = []
    weights = set()
    with tempfile.TemporaryDirectory() as scratch:
        before = checked_out(asked.commit, Path(scratch))
        for number in range(asked.pairs):
            order = (before, ROOT) if number % 2 == 0 else (ROOT, before)
            found = {checkout: turn(checkout) for checkout in order}
            ratios.append(found[ROOT][0] / found[before][0])
            weights |= {sums for _, sums in found.values()}
            print(f"{found[before][0]:.3f} ms before, {found[ROOT][0]:.3f} ms now", flush=True)
    print(f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"sums of the weights: {', '.join(sorted(weights))}")


if __name__ == "__main__":
    main()
