"""The training loop.

It reads from top to bottom; everything that differs between techniques is inside the run.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

from automl_sr.errors import StopRequestedError
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.run import Run

if TYPE_CHECKING:
    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.training.run import Setup

CHECKPOINT_SECONDS = 20.0
CURVE_POINTS = 100
"""So many points a learning curve has, at steps that do not depend on how fast the training is."""


class Observer(Protocol):
    """Who watches a run: shows its progress, and may ask it to stop between two steps."""

    def progress(self, run: Run, images_per_second: float) -> None:
        """Take note of the run's position and last loss.

        It is called at the same steps whenever the run is repeated.
        """

    def saved(self) -> None:
        """Take note that a checkpoint was written."""

    def stop_requested(self) -> bool:
        """Say whether the run should checkpoint and stop."""


class Silent:
    """Watches nothing and never asks to stop."""

    def progress(self, run: Run, images_per_second: float) -> None:
        """Ignore the progress."""

    def saved(self) -> None:
        """Ignore the checkpoint."""

    def stop_requested(self) -> bool:
        """Never stop."""
        return False


def train(
    run: Run,
    until: int,
    observer: Observer,
    checkpoints: Checkpoints,
) -> None:
    """Train a run until this step.

    Raises StopRequestedError after a checkpoint when asked to stop, NotFiniteError on NaN.
    """
    saved = reported = time.monotonic()
    every = math.ceil(run.setup.timetable.steps / CURVE_POINTS)
    steps = 0
    while run.step < until:
        span = run.span
        run.advance()
        steps += 1
        now = time.monotonic()

        # Not in every step: reading the loss makes a GPU wait for all steps before.
        if run.step % every == 0 or run.step == until:
            run.check_finite()
            seconds = max(now - reported, 1e-9)
            observer.progress(run, steps * run.recipe.batch / seconds)
            reported = now
            steps = 0

        if observer.stop_requested():
            save(run, observer, checkpoints)
            raise StopRequestedError(f"Stopped at step {run.step}; the work up to here is kept.")

        # A phase that has begun is kept at once: its enter may have taken long, and a resume does
        # not repeat it.
        entered = run.span is not span
        if entered or now - saved >= CHECKPOINT_SECONDS:
            save(run, observer, checkpoints)
            saved = time.monotonic()


def save(
    run: Run,
    observer: Observer,
    checkpoints: Checkpoints,
) -> None:
    """Write a checkpoint, and say so."""
    checkpoints.save(run.capture())
    observer.saved()


def start_or_resume(
    setup: Setup,
    blueprint: Blueprint,
    checkpoints: Checkpoints,
) -> Run:
    """Go on from the newest checkpoint, or begin where there is none."""
    snapshot = checkpoints.latest()
    if snapshot is None:
        return Run.start(setup, blueprint)
    return Run.restore(setup, snapshot)


def finish_branch(
    trunk: Run,
    observer: Observer,
    checkpoints: Checkpoints,
) -> Run:
    """Copy the trunk and run the tail phases on the copy.

    A branch that was interrupted goes on.
    """
    snapshot = checkpoints.latest()
    if snapshot is None:
        branch = trunk.branch()
    else:
        branch = Run.restore(trunk.setup, snapshot)
    train(branch, branch.end, observer, checkpoints)
    branch.leave_tail()
    return branch
