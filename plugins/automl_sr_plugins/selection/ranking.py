"""Which samples to keep, given a score for each: pure functions on arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def count_of(share: float, total: int) -> int:
    """Return how many of `total` samples a share is: the nearest number, halves rounded up."""
    return min(total, math.floor(share * total + 0.5))


def hardest_first(scores: NDArray[Any]) -> Indices:
    """Order samples from the highest score to the lowest; equal ones keep their order."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable").astype(np.int64)


def hardest(scores: NDArray[Any], kept: int, dropped: int = 0) -> Indices:
    """Keep `kept` samples after the `dropped` hardest, in falling order of score.

    Refined core-set of Moser et al., ICANN 2024; with nothing dropped it is their DES. Where fewer
    are left than asked for, all that are left.
    """
    return hardest_first(scores)[dropped : dropped + kept]


def easiest(scores: NDArray[Any], kept: int) -> Indices:
    """Keep the `kept` samples with the lowest scores, in rising order (ASC of Moser et al., ICANN
    2024).
    """
    return hardest_first(scores)[::-1][:kept]


def capped(order: Indices, sources: NDArray[Any], kept: int, most: float) -> Indices:
    """Take `kept` samples in this order, but at most the share `most` of any source image's
    samples.

    Sub-images overlap, so the hardest ones come in near-duplicates. Where the cap leaves too few,
    the rest is filled up in order. `sources` holds the source of every sample, `order` is a
    permutation or a part of one.
    """
    own = np.asarray(sources)[order]
    _, inverse, sizes = np.unique(np.asarray(sources), return_inverse=True, return_counts=True)
    limit = np.maximum(1, np.ceil(most * sizes)).astype(np.int64)[inverse][order]
    first = _place_within(own) < limit
    ranked = np.concatenate([order[first], order[~first]])
    return ranked[:kept]


def shares_of(sizes: NDArray[Any], kept: int) -> Indices:
    """Divide `kept` among groups in proportion to their sizes, by largest remainders; sums to
    `kept` exactly.

    `kept` is at most the sum of the sizes, and no group gets more than it has.
    """
    exact = kept * np.asarray(sizes, dtype=np.float64) / max(1, int(np.sum(sizes)))
    parts = np.floor(exact).astype(np.int64)
    for group in hardest_first(exact - parts)[: kept - int(parts.sum())]:
        parts[group] += 1
    return parts


def varied(scores: NDArray[Any], groups: NDArray[Any], kept: int) -> Indices:
    """Keep `kept` samples, from every group its share, highest scores first."""
    names, sizes = np.unique(np.asarray(groups), return_counts=True)
    order = hardest_first(scores)
    parts = shares_of(sizes, kept)
    picked = []
    for name, part in zip(names, parts, strict=True):
        picked.append(order[np.asarray(groups)[order] == name][:part])
    if picked:
        return np.concatenate(picked)
    return order[:0]


def _place_within(groups: NDArray[Any]) -> Indices:
    """Say for each position how many earlier positions belong to the same group."""
    by_group = np.argsort(groups, kind="stable")
    ordered = groups[by_group]
    if len(ordered):
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    else:
        starts = np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.r_[starts, len(ordered)])
    places = np.empty(len(ordered), dtype=np.int64)
    places[by_group] = np.arange(len(ordered)) - np.repeat(starts, lengths)
    return places
