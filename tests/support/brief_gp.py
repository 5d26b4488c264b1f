"""A Gaussian process for tests: it begins after four trials, and takes a fifth of the time for each
proposal.
"""

from __future__ import annotations

from typing import Any

from optuna.samplers import GPSampler


class BriefGP(GPSampler):
    """Looks for its next point from two places instead of ten, and draws four trials at random
    instead of ten.

    What it sees and how it is seeded is ours and tested; how well it looks is Optuna's.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, n_startup_trials=4)
        self._n_local_search = 2
        self._n_preliminary_samples = 256
        self._n_qmc_samples_ehvi = 32
