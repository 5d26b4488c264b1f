"""The command line with the task of `sequence_denoising` installed: `python sequence_world.py
KILL_AT ARGUMENTS...`.

It kills itself when a trial's learning curve reaches the step KILL_AT (-1: never).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import sequence_denoising

from automl_sr.plugin import registry
from automl_sr.plugin.registry import Registry, discover
from automl_sr.training import loop
from automl_sr.training.run import Run

ROOT = Path(__file__).parents[2]
CODE = os.pathsep.join(str(ROOT / part) for part in (".", "plugins", "tests/support"))
STUDY = """
name: sequences
task: {kind: denoise-sequence, test: [photos-valid]}
objectives: [psnr_frames, params]
observe: [flicker, latency_ms]
device: {input: [16, 16]}
budget: {trials: 2, steps: 120}
search: {sampler: random, scheduler: {kind: pareto-asha, first: 30, rungs: 2, reduction: 2}, threads: 1}
space:
  architecture: {remembering: {width: [2, 4]}}
  recipe: {batch: 4, lr: 0.003, precision: fp32}
"""


def command(place: Path, *arguments: object, kill_at: int = -1) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, in the world of the task, with the store of a
    folder.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("AUTOML_SR_")
    }
    return subprocess.run(
        [sys.executable, __file__, str(kill_at), *map(str, arguments)],
        env={**environment, "PYTHONPATH": CODE, "AUTOML_SR_STORE": store_of(place)},
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
    )


def search(place: Path, kill_at: int = -1) -> subprocess.CompletedProcess[str]:
    """Search the study in a folder."""
    place.mkdir(exist_ok=True)
    (place / "study.yaml").write_text(STUDY)
    return command(place, "search", "study.yaml", "--quiet", "--device", "cpu", kill_at=kill_at)


def store_of(place: Path) -> str:
    """Return the address of the store in a folder."""
    return f"sqlite:///{place}/store.db"


def sequence_registry() -> Registry:
    """Return what is installed, and the task."""
    return discover(plugins=[sequence_denoising])


def kill_at(step: int) -> None:
    """Kill this process in the training of a trial, just after this step, with a checkpoint of the
    one before.
    """
    loop.CHECKPOINT_SECONDS = 0.0
    advance = Run.advance

    def deadly(run: Run) -> None:
        advance(run)
        if run.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Run.advance = deadly  # type: ignore[method-assign]


def main(arguments: list[str]) -> Any:
    """Run a command in this world."""
    found = sequence_registry()
    registry.installed = lambda: found  # type: ignore[assignment]
    if int(arguments[0]) >= 0:
        kill_at(int(arguments[0]))
    from automl_sr.cli.main import main as command

    return command(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
