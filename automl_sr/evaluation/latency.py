"""Latency of shipped models.

They are timed in turns with a fixed reference net, by one process of the host at a time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

LATENCY = "latency"
"""Name of the shared result that keeps a graph's times."""
STEADY = 0.1
"""The medians of the two halves of a steady round differ by this share at most."""
RESOLUTION_MS = 0.02
"""Differences below this say nothing about the machine."""


@dataclass(frozen=True)
class Latency:
    """Times of single forward passes in ms, and how many were taken."""

    median_ms: float
    fastest_ms: float
    p90_ms: float
    runs: int


def timed_in_turns(
    calls: Mapping[str, Callable[[], Any]],
    warmup: int = 2,
    runs: int = 20,
    rounds: int = 4,
) -> dict[str, Latency]:
    """Time calls in turns: A B, B A, A B, ...

    What slows the machine down for a while then slows all of them. Waits for other processes of
    this host that measure.
    """
    with measuring_lock():
        best = _round(calls, warmup, runs)
        # A machine whose load changes meanwhile slows some calls and not others: where the two
        # halves of a round disagree, it is repeated, and of `rounds` that all do, the steadiest
        # one counts.
        for _ in range(1, rounds):
            if _unsteady(best) <= STEADY:
                break
            again = _round(calls, 0, runs)
            best = min(best, again, key=_unsteady)

    summaries: dict[str, Latency] = {}
    for name, values in best.items():
        summaries[name] = _summary(values)
    return summaries


def latency_ms(own: Latency, reference: Latency | None) -> float:
    """Measure of the metric `latency_ms`."""
    return own.median_ms


def latency_ratio(own: Latency, reference: Latency) -> float:
    """Measure of the metric `latency_ratio`."""
    return own.median_ms / reference.median_ms


def measuring_lock() -> FileLock:
    """Return the lock under which anything on this host measures time."""
    # Writable for all: users and studies share it.
    place = Path(tempfile.gettempdir()) / "automl-sr-measuring.lock"
    return FileLock(place, mode=0o666)


def cache_folder() -> Path:
    """Return the user's cache folder of automl-sr (XDG_CACHE_HOME, or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "automl-sr"


def _round(
    calls: Mapping[str, Callable[[], Any]],
    warmup: int,
    runs: int,
) -> dict[str, list[float]]:
    """Return the times of each call in ms."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for turn in range(warmup + runs):
        for name in order:
            start = time.perf_counter()
            calls[name]()
            elapsed = time.perf_counter() - start
            if turn >= warmup:
                times[name].append(elapsed * 1000)
        # The other way round: each call comes first as often as it comes last.
        order.reverse()
    return times


def _unsteady(times: Mapping[str, list[float]]) -> float:
    """Say by which share the halves of a round differ, for the call for which they differ most."""
    worst = 0.0
    for values in times.values():
        half = len(values) // 2
        if half == 0:
            continue
        first = float(np.median(values[:half]))
        second = float(np.median(values[half:]))
        difference = abs(first - second) - RESOLUTION_MS
        worst = max(worst, difference / min(first, second))
    return worst


def _summary(values: list[float]) -> Latency:
    return Latency(
        median_ms=float(np.median(values)),
        fastest_ms=min(values),
        p90_ms=float(np.percentile(values, 90)),
        runs=len(values),
    )
