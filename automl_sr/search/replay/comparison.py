"""Many simulated studies, and what they say.

That is hypervolume over time, ranks, and the time to reach the best rival.
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
    """Pair samplers with schedulers; `sampler+scheduler` among the samplers stands for itself.

    Leaves out what Optuna does not have: its pruner for several objectives. Raises UseError.
    """
    named: list[Combination] = []
    pairs: list[Combination] = []
    for name in samplers:
        sampler, plus, scheduler = name.partition("+")
        if plus:
            named.append(Combination(sampler, scheduler))
            continue
        for scheduler in schedulers:
            pairs.append(Combination(sampler, scheduler))

    # Those named by hand come first: the order is that of lines, colours and legend.
    found = list(dict.fromkeys([*named, *pairs]))
    for item in found:
        item.check()
    possible = [item for item in found if item.possible]
    if possible:
        return possible
    hint = "Give --samplers and --schedulers."
    if found:
        hint = f"{OPTUNA_MEDIAN} works for a single objective, as in optuna-tpe-first."
    raise UseError("There is nothing to compare.", hint)


@dataclass(frozen=True)
class Studies:
    """All simulated studies of one combination.

    `curves` is the hypervolume at the common times, a row for each seed.
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
        best: Studies | None = None
        largest: tuple[float, float] | None = None
        for item in self.studies:
            if item.combination.scheduler not in RIVALS:
                continue
            median = np.median(item.curves, axis=0)
            size = (float(median[-1]), float(median.sum()))
            if largest is None or size > largest:
                best = item
                largest = size
        return best

    def to_json(self) -> dict[str, Any]:
        """Write what scripts read."""
        rival = self.rival
        best_rival: str | None = None
        target: float | None = None
        if rival is not None:
            best_rival = rival.combination.name
            target = float(np.median(rival.curves[:, -1]))

        ranks = self.mean_ranks()
        ends: list[dict[str, Any]] = []
        curves: dict[str, Any] = {"seconds": self.times.tolist()}
        for item, ranked in zip(self.studies, ranks, strict=True):
            ends.append(self._end(item, ranked, rival))
            curve: dict[str, Any] = _named(line.tolist() for line in band(item.curves))
            curve["mean_rank"] = ranked.tolist()
            curves[item.combination.name] = curve
        return {
            "seconds": self.seconds,
            "workers": self.workers,
            "seeds": len(self.studies[0].curves),
            "best_rival": best_rival,
            "target": target,
            "combinations": ends,
            "curves": curves,
        }

    def _end(
        self,
        item: Studies,
        ranks: Numbers,
        rival: Studies | None,
    ) -> dict[str, Any]:
        """Write what a combination has reached when the time is up."""
        to_target: dict[str, Any] | None = None
        if rival is not None:
            to_target = self.reach(item, rival)
        last = band(item.curves[:, -1:])
        return {
            "name": item.combination.name,
            "sampler": item.combination.sampler,
            "scheduler": item.combination.scheduler,
            "hypervolume": _named(float(line[0]) for line in last),
            "mean_rank": float(ranks[-1]),
            "to_target": to_target,
            "tried": item.tried,
            "complete": item.complete,
        }

    def mean_ranks(self) -> Numbers:
        """Rank the combinations by hypervolume at each time, and average over seeds: [m, t].

        1 is best, and ties share the mean of their ranks.
        """
        from scipy.stats import rankdata

        curves = np.stack([item.curves for item in self.studies])
        # SciPy gives rank 1 to the smallest.
        ranks: Numbers = rankdata(-curves, axis=0).mean(axis=1)
        return ranks

    def reach(self, item: Studies, rival: Studies) -> dict[str, Any]:
        """Say when the median over seeds reaches what the rival's has at its end.

        That is in seconds, and as a share of the time that the rival takes. The interval is that
        over seeds drawn again, for both. None where the target is not reached.
        """
        # The same seeds for both: they saw the same luck, so that it cancels out in the share.
        draws = _draws(len(item.curves))
        own = np.median(item.curves[draws], axis=1)
        theirs = np.median(rival.curves[draws], axis=1)
        shares: list[float] = []
        for mine, other in zip(own, theirs, strict=True):
            target = other[-1]
            shares.append(_first(mine, target) / _first(other, target))

        median = np.median(rival.curves, axis=0)
        at = _first(np.median(item.curves, axis=0), median[-1])
        share = at / _first(median, median[-1])
        # Shares may be infinite, between which nothing can be interpolated.
        low, high = np.percentile(
            shares,
            INTERVAL,
            method="nearest",
        )
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
    limit = seconds
    if limit is None:
        limit = SHARE * table.seconds / workers
    times = np.linspace(0.0, limit, POINTS)
    domain = Domain(table)
    # A sampler that does not suit the table says so now, and not after the minutes of others.
    for item in asked:
        sampler_of(item.sampler).make(
            table,
            domain,
            np.random.default_rng(0),
        )

    studies: list[Studies] = []
    for done, item in enumerate(asked):
        traces: list[Trace] = []
        for seed in range(seeds):
            simulation = Simulation(
                table,
                domain,
                item,
                seed=seed,
                seconds=limit,
                workers=workers,
            )
            traces.append(simulation.run())
            if tell is not None:
                tell(done * seeds + seed + 1, len(asked) * seeds)
        studies.append(_studies(item, traces, times))
    return Comparison(
        table,
        limit,
        workers,
        times,
        tuple(studies),
    )


def _studies(
    combination: Combination,
    traces: Sequence[Trace],
    times: Numbers,
) -> Studies:
    """Put the traces of all seeds on the common times."""
    curves = np.stack([trace.at(times) for trace in traces])
    tried = np.median([trace.tried for trace in traces])
    complete = np.median([trace.complete for trace in traces])
    return Studies(
        combination,
        curves,
        float(tried),
        float(complete),
    )


def band(curves: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return the median over seeds and its 95 % bootstrap interval, at each time."""
    draws = _draws(len(curves))
    medians = np.median(curves[draws], axis=1)
    low, high = np.percentile(medians, INTERVAL, axis=0)
    return np.median(curves, axis=0), low, high


def _named(found: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(("median", "low", "high"), found, strict=True))


def _draws(seeds: int) -> NDArray[np.int64]:
    """Draw seeds with replacement. [r, s].

    The draws are the same for every combination, so that differences are kept.
    """
    rng = np.random.default_rng(0)
    return rng.integers(seeds, size=(RESAMPLES, seeds))


def _first(curve: Numbers, target: float) -> float:
    """Return the position at which a rising curve first reaches a target, at least 1.

    It is infinite where the curve does not get there.
    """
    # Medians of the same values can differ by rounding.
    position = int(np.searchsorted(curve, target - 1e-12))
    if position < len(curve):
        return float(max(position, 1))
    return math.inf


def _finite(value: float) -> float | None:
    if math.isfinite(value):
        return float(value)
    return None
