"""How well the order of models at a rung foretells that at the end: Kendall's tau-b, over all and
inside cost classes.

Across classes of cost any measure of size gets a high tau; inside them it shows what a rung knows
besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from automl_sr.search.replay.table import Row, Table

Numbers = NDArray[np.float64]

CLASSES = 3
COST = "params"
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


def agreement(table: Table) -> list[dict[str, Any]]:
    """Return tau between each rung and the end with 95 % bootstrap intervals, for objectives that
    training changes.

    What is timed changes as well, but by noise alone.
    """
    found = []
    for rung in sorted({rung.rung for row in table.complete for rung in row.rungs}):
        rows = []
        for row in table.complete:
            if any(item.rung == rung for item in row.rungs):
                rows.append(row)
        for name in [
            objective.name for objective in table.objectives if objective.level != "device"
        ]:
            then = np.array(
                [next(item for item in row.rungs if item.rung == rung).values[name] for row in rows]
            )
            end = np.array([row.values[name] for row in rows])
            if (then == end).all():
                continue
            step = max(item.step for row in rows for item in row.rungs if item.rung == rung)
            classes = cost_classes(rows)
            inside = []
            for part in classes:
                inside.append(interval(then[part], end[part]))
            pooled = _pooled([(then[part], end[part]) for part in classes])
            found.append(
                {
                    "objective": name,
                    "rung": rung,
                    "step": step,
                    "rows": len(rows),
                    **interval(then, end),
                    "inside": {
                        "cost": COST if classes else None,
                        **pooled,
                        "classes": [
                            {**_span([rows[index] for index in part]), "rows": len(part), **values}
                            for part, values in zip(classes, inside, strict=True)
                        ],
                    },
                }
            )
    return found


def tau(x: Numbers, y: Numbers) -> float:
    """Return Kendall's tau-b, which allows for ties; NaN where all are equal."""
    from scipy.stats import kendalltau

    return float(kendalltau(x, y, variant="b").statistic)


def interval(x: Numbers, y: Numbers) -> dict[str, float | None]:
    """Return tau with the interval over rows that are drawn again."""
    return _summary(tau(x, y), taus(x, y, _weights(len(x), 0)))


def taus(x: Numbers, y: Numbers, weights: Numbers) -> Numbers:
    """Return tau-b of many draws of the same rows at once: how often each row was drawn. [r, n] ->
    [r].
    """
    signs = []
    for values in (x, y):
        signs.append(np.sign(values[:, None] - values[None]))

    def count(pairs: Numbers) -> Numbers:
        found: Numbers = ((weights @ pairs) * weights).sum(axis=1)
        return found

    with np.errstate(invalid="ignore", divide="ignore"):
        found: Numbers = count(signs[0] * signs[1]) / np.sqrt(
            count(signs[0] ** 2) * count(signs[1] ** 2)
        )
    return found


def cost_classes(rows: list[Row]) -> list[NDArray[np.int64]]:
    """Divide rows into thirds by their parameters; nothing where these are not known or hardly
    differ.
    """
    costs = []
    for row in rows:
        costs.append(row.costs.get(COST, row.values.get(COST)))
    known = []
    for cost in costs:
        if cost is not None:
            known.append(cost)
    if len(known) < len(rows) or len(set(known)) < CLASSES:
        return []
    edges = np.quantile(known, [(index + 1) / CLASSES for index in range(CLASSES - 1)])
    number = np.searchsorted(edges, np.asarray(known), side="left")
    found: list[NDArray[np.int64]] = []
    for index in range(CLASSES):
        if len(part := np.flatnonzero(number == index)) > 1:
            found.append(part)
    return found


def _pooled(parts: list[tuple[Numbers, Numbers]]) -> dict[str, float | None]:
    """Average tau over classes; each class is drawn again by itself."""
    if not parts:
        return _summary(np.nan, np.empty(0))
    draws = []
    for seed, (x, y) in enumerate(parts):
        draws.append(taus(x, y, _weights(len(x), seed)))
    return _summary(float(np.mean([tau(x, y) for x, y in parts])), np.mean(draws, axis=0))


def _summary(value: float, draws: Numbers) -> dict[str, float | None]:
    draws = draws[np.isfinite(draws)]
    low, high = np.percentile(draws, INTERVAL) if len(draws) else (np.nan, np.nan)
    found = {}
    for key, number in (("tau", value), ("low", low), ("high", high)):
        found[key] = float(number) if np.isfinite(number) else None
    return found


def _weights(rows: int, seed: int) -> Numbers:
    rng = np.random.default_rng(seed)
    return rng.multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES).astype(np.float64)


def _span(rows: list[Row]) -> dict[str, float]:
    costs = []
    for row in rows:
        costs.append(row.costs.get(COST, row.values.get(COST, 0.0)))
    return {"from": min(costs), "to": max(costs)}
