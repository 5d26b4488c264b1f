"""Made-up tables for replays: learning curves that cross, a cost objective, a conditional space."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from scipy.stats import qmc

from automl_sr.search.optuna.samplers import at_share
from automl_sr.search.replay.choosers import ROW, Domain
from automl_sr.search.replay.simulation import Combination, Simulation
from automl_sr.search.replay.table import FORMAT, Table

SPACE: dict[str, BaseDistribution] = {
    "architecture": CategoricalDistribution(("plain", "deep", "wide")),
    "architecture.deep.blocks": IntDistribution(1, 8),
    "architecture.wide.width": IntDistribution(8, 64, log=True),
    "loss": CategoricalDistribution(("l1", "l2")),
    "recipe.lr": FloatDistribution(1e-4, 1e-2, log=True),
    "recipe.batch": CategoricalDistribution((8, 16, 32)),
    "selection.keep": FloatDistribution(0.25, 1.0, step=0.05),
}
RUNGS = (50, 150)
STEPS = 450
JUDGING = 0.5
"""Seconds that a branch takes, whatever the model."""


def params_of(shares: np.ndarray) -> dict[str, Any]:
    """Draw a configuration: the first coordinate chooses the branch."""
    drawn = {
        name: at_share(item, float(share))
        for (name, item), share in zip(SPACE.items(), shares, strict=True)
    }
    return {
        name: value
        for name, value in drawn.items()
        if name.count(".") < 2 or name.startswith(f"architecture.{drawn['architecture']}.")
    }


def quality(params: dict[str, Any], step: int, noise: float) -> tuple[float, float]:
    """Give quality and cost: bigger is better in the end and slower to learn, so that curves
    cross.
    """
    size = {
        "plain": 1.0,
        "deep": 0.5 * params.get("architecture.deep.blocks", 0),
        "wide": params.get("architecture.wide.width", 0) / 10,
    }[params["architecture"]]
    off = abs(np.log10(params["recipe.lr"]) + 2.7)
    end = (
        30
        + 1.2 * np.log(1 + size)
        - 0.6 * off**2
        - 0.2 * (params["loss"] == "l2")
        + 0.3 * params["selection.keep"]
    )
    return float(end - (1 + 0.8 * size) * (step / 10) ** -0.5 + noise), 1000 * (1 + size) ** 1.5


def rows(count: int, *, seed: int = 0, noise: float = 0.05) -> list[dict[str, Any]]:
    """Draw configurations by Sobol and let them learn."""
    rng = np.random.default_rng(seed)
    shares = qmc.Sobol(len(SPACE), rng=rng).random(2 ** int(np.ceil(np.log2(count))))[:count]
    found = []
    for number, share in enumerate(shares):
        params = params_of(share)
        cost = quality(params, STEPS, 0)[1]
        pace = 0.02 + cost / 1e6
        values = {
            step: {"psnr": quality(params, step, rng.normal(0, noise))[0], "params": cost}
            for step in (*RUNGS, STEPS)
        }
        found.append(
            {
                "number": number,
                "state": "complete",
                "fingerprint": f"{number:064x}",
                "params": params,
                "rungs": [
                    {
                        "rung": index,
                        "step": step,
                        "values": values[step],
                        "seconds": pace * step + (index + 1) * JUDGING,
                        "judging": JUDGING,
                    }
                    for index, step in enumerate(RUNGS)
                ],
                "values": values[STEPS],
                "costs": {"params": cost},
                "seconds": pace * STEPS + (len(RUNGS) + 1) * JUDGING,
            }
        )
    return found


def table_data(rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Put rows into a table."""
    complete = [row["values"] for row in rows if row["state"] == "complete"]
    return {
        "format": FORMAT,
        "made_by": "test",
        "study": "made-up",
        "sampler": "qmc",
        "objectives": [
            {"name": "psnr", "direction": "maximize", "level": "quality", "log": False},
            {"name": "params", "direction": "minimize", "level": "blueprint", "log": True},
        ],
        "constraints": {},
        "steps": STEPS,
        "reduction": 3,
        "seed": 0,
        "without_model": {"psnr": 27.0},
        "reference": {"psnr": 27.0, "params": 60_000.0},
        "ideal": {
            "psnr": max((value["psnr"] for value in complete), default=1.0),
            "params": min((value["params"] for value in complete), default=1.0),
        },
        "threads": 1,
        "environment": {"python": "3"},
        "space": {"format": 1, "slots": []},
        "distributions": {
            name: json.loads(distribution_to_json(item)) for name, item in SPACE.items()
        },
        "rows": rows,
        **fields,
    }


def made_up(count: int = 60, *, seed: int = 0, noise: float = 0.05, **fields: Any) -> Table:
    """Make a table up."""
    return Table.model_validate(table_data(rows(count, seed=seed, noise=noise), **fields))


def study_of(table: Table, sampler: str, scheduler: str = "none", **fields: Any) -> Simulation:
    """Simulate one study to its end."""
    limits: dict[str, Any] = {"seed": 0, "seconds": math.inf, **fields}
    simulation = Simulation(table, Domain(table), Combination(sampler, scheduler), **limits)
    simulation.run()
    return simulation


def tried(simulation: Simulation) -> list[int]:
    """The rows in the order in which they were tried."""
    return [trial.user_attrs[ROW] for trial in simulation.study.kept]


def small(rows: list[dict[str, Any]], **fields: Any) -> Table:
    """Make a table of given rows."""
    return Table.model_validate(table_data(rows, **fields))


def plain_row(
    number: int, end: float, cost: float, *, then: float | None = None, **fields: Any
) -> dict[str, Any]:
    """A row that takes 2 s until its only rung, 1 s of it for judging, and 10 s until the end."""
    return {
        "number": number,
        "state": "complete",
        "fingerprint": str(number),
        "params": {},
        "rungs": [
            {
                "rung": 0,
                "step": 50,
                "values": {"psnr": end - 1 if then is None else then, "params": cost},
                "seconds": 2.0,
                "judging": 1.0,
            }
        ],
        "values": {"psnr": end, "params": cost},
        "costs": {"params": cost},
        "seconds": 10.0,
        **fields,
    }
