"""How many steps fit into a time: a trial's training goes on for a moment, and is thrown away."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from automl_sr.errors import CheckpointError
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.run import Run, continued
from automl_sr.trial.setup import make_context, make_setup, training_data

if TYPE_CHECKING:
    from automl_sr.space.plan import TrialPlan
    from automl_sr.trial.types import Setting

WARM_STEPS = 20
"""The first steps choose kernels and fill caches."""
SECONDS = 3.0
MOST_STEPS = 1000


def steps_per_second(plan: TrialPlan, setting: Setting, base: Path, scratch: Path) -> float:
    """Return how fast a plan's model trains here and now, from the checkpoint in a folder.

    Raises CheckpointError, PluginError, and whatever a technique raises.
    """
    snapshot = Checkpoints(base).latest()
    if snapshot is None:
        raise CheckpointError("The checkpoint of the search is damaged.")
    context = make_context(plan, setting, scratch)
    setup = make_setup(plan, setting, context, training_data(plan, setting))
    run = Run.go_on(continued(setup, snapshot, _enough(setting.steps)), snapshot)
    for _ in range(WARM_STEPS):
        run.advance()
    run.check_finite()  # which waits for a GPU

    begun = time.perf_counter()
    steps = 0
    while steps < MOST_STEPS and time.perf_counter() - begun < SECONDS:
        run.advance()
        steps += 1
    run.check_finite()
    return steps / (time.perf_counter() - begun)


def _enough(steps: int) -> int:
    """Return steps of which none of those that are timed lies in the tail."""
    return 100 * (steps + WARM_STEPS + MOST_STEPS)
