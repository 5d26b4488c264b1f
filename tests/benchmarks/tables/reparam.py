"""Nets that are trained wide against the same nets trained as they ship, at equal steps and time.

    OMP_NUM_THREADS=1 AUTOML_SR_DATA=... python tests/benchmarks/tables/reparam.py [--print]

Each run is one trial of a study, exported, and measured as exported on sets that it has not seen.
A row "in the time of" another one trains so many steps as take as long as that one's: the rates of
both are those of the rows with equal steps, of the same seed. Nothing else may run beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablation import changed
from in_time import measured_in_time, timed
from table import Row, arguments, main

PATH = Path(__file__).parent / "reparam.json"
COLUMNS = {"Set5": 3, "Set14": 3, "params": 0, "steps": 0, "steps_per_s": 1}
EDSR = {"width": 16, "blocks": 3, "tail": "lite"}
FSRCNN = {"d": 32, "s": 12, "m": 4}
PLAIN = {
    "edsr": {"edsr": {**EDSR, "reparam": "none"}},
    "fsrcnn": {"fsrcnn": {**FSRCNN, "reparam": "none"}},
}
WIDE = {
    "edsr, linear": ("edsr", {"edsr": {**EDSR, "reparam": "linear"}}),
    "edsr, edge": ("edsr", {"edsr": {**EDSR, "reparam": "edge"}}),
    "fsrcnn, linear": ("fsrcnn", {"fsrcnn": {**FSRCNN, "reparam": "linear"}}),
    "fsrcnn, edge": ("fsrcnn", {"fsrcnn": {**FSRCNN, "reparam": "edge"}}),
}
RATES = (1e-3, 2e-3)
"""A wide net wants another rate than a plain one: each is shown at two."""


def with_rate(architecture: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """Return the settings of the ablation's base with another net and another rate."""
    return changed(architecture=architecture, recipe={"lr": rate})


def rows() -> list[Row]:
    """Return all rows; what a row is measured by stands before it."""
    found = []
    for rate in RATES:
        for name, architecture in PLAIN.items():
            found.append(Row(f"{name}, lr {rate:g}", with_rate(architecture, rate)))
        for name, (plain, architecture) in WIDE.items():
            wide = with_rate(architecture, rate)
            as_long = timed(wide, with_rate(PLAIN[plain], rate))
            found.append(Row(f"{name}, lr {rate:g}", wide))
            found.append(Row(f"{name}, lr {rate:g}, in the time of {plain}", as_long))
    return found


if __name__ == "__main__":
    main(
        rows(), arguments(__doc__ or "", 3), PATH, measured_in_time(PATH), COLUMNS, "edsr, lr 0.001"
    )
