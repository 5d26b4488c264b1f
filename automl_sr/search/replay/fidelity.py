"""How well the order of models at a rung foretells that at the end.

It is measured by Kendall's tau-b, over all and inside cost classes. Across classes of cost any
measure of size gets a high tau; inside them it shows what a rung knows besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from automl_sr.search.replay.table import Row, RungRow, Table

Numbers = NDArray[np.float64]

CLASSES = 3
COST = "params"
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


def agreement(table: Table) -> list[dict[str, Any]]:
    """Return tau between each rung and the end, for objectives that training changes.

    Each has its 95 % bootstrap interval.
    """
    rungs: set[int] = set()
    for row in table.complete:
        for rung in row.rungs:
            rungs.add(rung.rung)

    found: list[dict[str, Any]] = []
    for number in sorted(rungs):
        rows, reached = _at_rung(table, number)
        for objective in table.objectives:
            # What is timed changes between rung and end as well, but by noise alone.
            if objective.level == "device":
                continue
            name = objective.name
            then = np.array([rung.values[name] for rung in reached])
            end = np.array([row.values[name] for row in rows])
            # What training does not change (parameters) agrees with itself.
            if (then == end).all():
                continue

            entry: dict[str, Any] = {
                "objective": name,
                "rung": number,
                "step": max(rung.step for rung in reached),
                "rows": len(rows),
            }
            entry.update(interval(then, end))
            entry["inside"] = _inside_classes(rows, then, end)
            found.append(entry)
    return found


def _at_rung(table: Table, number: int) -> tuple[list[Row], list[RungRow]]:
    """Return the complete rows that have a rung, and what they were there."""
    rows: list[Row] = []
    reached: list[RungRow] = []
    for row in table.complete:
        for rung in row.rungs:
            if rung.rung == number:
                rows.append(row)
                reached.append(rung)
    return rows, reached


def _inside_classes(
    rows: list[Row],
    then: Numbers,
    end: Numbers,
) -> dict[str, Any]:
    """Return tau inside classes of cost: their average, then each."""
    parts: list[tuple[Numbers, Numbers]] = []
    classes: list[dict[str, Any]] = []
    for members in cost_classes(rows):
        early = then[members]
        late = end[members]
        parts.append((early, late))

        entry: dict[str, Any] = {}
        entry.update(_span([rows[index] for index in members]))
        entry["rows"] = len(members)
        entry.update(interval(early, late))
        classes.append(entry)

    found: dict[str, Any] = {"cost": None}
    if classes:
        found["cost"] = COST
    found.update(_pooled(parts))
    found["classes"] = classes
    return found


def tau(x: Numbers, y: Numbers) -> float:
    """Return Kendall's tau-b, which allows for ties; NaN where all are equal."""
    from scipy.stats import kendalltau

    result = kendalltau(x, y, variant="b")
    return float(result.statistic)


def interval(x: Numbers, y: Numbers) -> dict[str, float | None]:
    """Return tau with the interval over rows that are drawn again."""
    weights = _weights(len(x), seed=0)
    draws = taus(x, y, weights)
    return _summary(tau(x, y), draws)


def taus(x: Numbers, y: Numbers, weights: Numbers) -> Numbers:
    """Return tau-b of many draws of the same rows at once: [r].

    `weights` [r, n] says how often each row was drawn.
    """
    of_x = np.sign(x[:, None] - x[None])
    of_y = np.sign(y[:, None] - y[None])

    def count(pairs: Numbers) -> Numbers:
        of_rows = (weights @ pairs) * weights
        found: Numbers = of_rows.sum(axis=1)
        return found

    # Where all rows of a draw are equal, nothing is ordered: 0 / 0, NaN as in SciPy.
    with np.errstate(invalid="ignore", divide="ignore"):
        agreeing = count(of_x * of_y)
        untied = count(of_x**2) * count(of_y**2)
        found: Numbers = agreeing / np.sqrt(untied)
    return found


def cost_classes(rows: list[Row]) -> list[NDArray[np.int64]]:
    """Divide rows into thirds by their parameters, each the positions of its rows.

    There are none where parameters are not known or hardly differ.
    """
    known: list[float] = []
    for row in rows:
        cost = _cost(row)
        if cost is None:
            return []
        known.append(cost)
    if len(set(known)) < CLASSES:
        return []

    costs = np.asarray(known)
    shares = np.arange(1, CLASSES) / CLASSES
    edges = np.quantile(costs, shares)
    number = np.searchsorted(edges, costs, side="left")
    found: list[NDArray[np.int64]] = []
    for index in range(CLASSES):
        members = np.flatnonzero(number == index)
        # A single row has no order.
        if len(members) > 1:
            found.append(members)
    return found


def _cost(row: Row) -> float | None:
    return row.costs.get(COST, row.values.get(COST))


def _pooled(parts: list[tuple[Numbers, Numbers]]) -> dict[str, float | None]:
    """Average tau over classes; each class is drawn again by itself."""
    if not parts:
        return _summary(np.nan, np.empty(0))
    values: list[float] = []
    draws: list[Numbers] = []
    for seed, (x, y) in enumerate(parts):
        weights = _weights(len(x), seed)
        values.append(tau(x, y))
        draws.append(taus(x, y, weights))
    mean = float(np.mean(values))
    means = np.mean(draws, axis=0)
    return _summary(mean, means)


def _summary(value: float, draws: Numbers) -> dict[str, float | None]:
    """Return a value and the ends of its interval, None for each that is not known."""
    draws = draws[np.isfinite(draws)]
    low = high = np.nan
    if len(draws):
        low, high = np.percentile(draws, INTERVAL)
    return {"tau": _finite(value), "low": _finite(low), "high": _finite(high)}


def _finite(number: float) -> float | None:
    # JSON has no NaN.
    if np.isfinite(number):
        return float(number)
    return None


def _weights(rows: int, seed: int) -> Numbers:
    """Draw how often each row is drawn, with replacement. [r, n]."""
    rng = np.random.default_rng(seed)
    even = np.full(rows, 1 / rows)
    drawn = rng.multinomial(rows, even, size=RESAMPLES)
    return drawn.astype(np.float64)


def _span(rows: list[Row]) -> dict[str, float]:
    costs: list[float] = []
    for row in rows:
        costs.append(_cost(row) or 0.0)
    return {"from": min(costs), "to": max(costs)}
