"""Many simulated studies, and what they say: hypervolume over time, ranks, and the time to reach
the best rival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automl_sr.errors import UseError
from automl_sr.search.replay.choosers import Domain, sampler_of
from automl_sr.search.replay.simulation import OPTUNA_MEDIAN, Combination, Simulation, Trace

if TYPE_CHECKING:
    from automl_sr.search.replay.table import Table

Numbers = NDArray[np.float64]

RIVALS = ("none", OPTUNA_MEDIAN)
POINTS = 201
"""Times at which curves are compared."""
SHARE = 0.125
"""A simulated study takes so much of the time of the whole table: early stopping tries three to
five times as many rows as fit, and what is left has to remain a draw from the space."""
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


def combinations(samplers: Sequence[str], schedulers: Sequence[str]) -> list[Combination]:
    """Pair samplers with schedulers; `sampler+scheduler` among the samplers stands for itself
    alone.

    Leaves out what Optuna does not have: its pruner for several objectives. Raises UseError.
    """
    named = []
    for name in samplers:
        if "+" in name:
            named.append(Combination(*name.split("+", 1)))
    pairs = []
    for name in samplers:
        if "+" not in name:
            for scheduler in schedulers:
                pairs.append(Combination(name, scheduler))
    found = list(dict.fromkeys([*named, *pairs]))
    for item in found:
        item.check()
    possible = [item for item in found if item.possible]
    if not possible:
        hint = f"{OPTUNA_MEDIAN} works for a single objective, as in optuna-tpe-first."
        raise UseError(
            "There is nothing to compare.", hint if found else "Give --samplers and --schedulers."
        )
    return possible


@dataclass(frozen=True)
class Studies:
    """All simulated studies of one combination: hypervolume at the common times, a row for each
    seed.
    """

    combination: Combination
    curves: Numbers
    tried: float
    complete: float


@dataclass(frozen=True)
class Comparison:
    """What was simulated, on which clock."""

    table: Table
    seconds: float
    workers: int
    times: Numbers
    studies: tuple[Studies, ...]

    @property
    def rival(self) -> Studies | None:
        """The best of what Optuna has without us, no early stopping or its own: the one to reach.

        It has the largest median hypervolume at the end, or, where that is equal, the largest on
        the way.
        """
        plain = []
        for item in self.studies:
            if item.combination.scheduler in RIVALS:
                plain.append(item)
        medians = []
        for item in plain:
            medians.append(np.median(item.curves, axis=0))
        ranked = sorted(
            zip(medians, plain, strict=True), key=lambda pair: (-pair[0][-1], -pair[0].sum())
        )
        if ranked:
            return ranked[0][1]
        return None

    def to_json(self) -> dict[str, Any]:
        """Write what scripts read."""
        rival = self.rival
        ranks = self.mean_ranks()
        if rival is None:
            reached = {}
        else:
            reached = {item.combination.name: self.reach(item, rival) for item in self.studies}
        return {
            "seconds": self.seconds,
            "workers": self.workers,
            "seeds": len(self.studies[0].curves),
            "best_rival": rival.combination.name if rival else None,
            "target": float(np.median(rival.curves[:, -1])) if rival else None,
            "combinations": [
                {
                    "name": item.combination.name,
                    "sampler": item.combination.sampler,
                    "scheduler": item.combination.scheduler,
                    "hypervolume": _named(float(line[0]) for line in band(item.curves[:, -1:])),
                    "mean_rank": float(ranks[index, -1]),
                    "to_target": reached.get(item.combination.name),
                    "tried": item.tried,
                    "complete": item.complete,
                }
                for index, item in enumerate(self.studies)
            ],
            "curves": {
                "seconds": self.times.tolist(),
                **{
                    item.combination.name: {
                        **_named(line.tolist() for line in band(item.curves)),
                        "mean_rank": ranks[index].tolist(),
                    }
                    for index, item in enumerate(self.studies)
                },
            },
        }

    def mean_ranks(self) -> Numbers:
        """Rank the combinations by hypervolume at each time, 1 being best, and average over seeds.
        [m, t].
        """
        from scipy.stats import rankdata

        ranks: Numbers = rankdata(-np.stack([item.curves for item in self.studies]), axis=0).mean(
            axis=1
        )
        return ranks

    def reach(self, item: Studies, rival: Studies) -> dict[str, Any]:
        """Say when the median over seeds reaches what the rival's has at its end, and after which
        share of its time.

        The interval is that over seeds drawn again, for both. None where the target is not reached.
        """
        draws = _draws(len(item.curves))
        own, theirs = (np.median(part.curves[draws], axis=1) for part in (item, rival))
        shares = []
        for mine, other in zip(own, theirs, strict=True):
            shares.append(_first(mine, other[-1]) / _first(other, other[-1]))
        target = np.median(rival.curves, axis=0)
        at = _first(np.median(item.curves, axis=0), target[-1])
        share = at / _first(target, target[-1])
        low, high = np.percentile(shares, INTERVAL, method="nearest")
        return {
            "seconds": _finite(at * self.seconds / (POINTS - 1)),
            "share": _finite(share),
            "low": _finite(low),
            "high": _finite(high),
        }


def compare(
    table: Table,
    asked: Sequence[Combination],
    *,
    seeds: int,
    seconds: float | None = None,
    workers: int = 1,
    tell: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Simulate every combination with every seed; `tell` gets how many of how many are done."""
    if seconds is None:
        limit = SHARE * table.seconds / workers
    else:
        limit = seconds
    times = np.linspace(0.0, limit, POINTS)
    domain = Domain(table)
    for item in asked:
        sampler_of(item.sampler).make(
            table, domain, np.random.default_rng(0)
        )  # before the first minute is spent
    studies = []
    for done, item in enumerate(asked):
        traces: list[Trace] = []
        for seed in range(seeds):
            simulation = Simulation(table, domain, item, seed=seed, seconds=limit, workers=workers)
            traces.append(simulation.run())
            if tell is not None:
                tell(done * seeds + seed + 1, len(asked) * seeds)
        studies.append(
            Studies(
                item,
                np.stack([trace.at(times) for trace in traces]),
                float(np.median([trace.tried for trace in traces])),
                float(np.median([trace.complete for trace in traces])),
            )
        )
    return Comparison(table, limit, workers, times, tuple(studies))


def band(curves: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return the median over seeds and its 95 % bootstrap interval, at each time."""
    medians = np.median(curves[_draws(len(curves))], axis=1)
    low, high = np.percentile(medians, INTERVAL, axis=0)
    return np.median(curves, axis=0), low, high


def _named(found: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(("median", "low", "high"), found, strict=True))


def _draws(seeds: int) -> NDArray[np.int64]:
    """Draw seeds with replacement; the same draws for every combination, so that differences are
    kept. [r, s].
    """
    return np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))


def _first(curve: Numbers, target: float) -> float:
    """Return the position at which a rising curve first reaches a target, at least 1; infinity
    where it does not.
    """
    position = int(np.searchsorted(curve, target - 1e-12))
    if position < len(curve):
        return float(max(position, 1))
    return math.inf


def _finite(value: float) -> float | None:
    if math.isfinite(value):
        return float(value)
    return None
