"""Which net of at most 25,000 parameters learns most, at x2 and on luma alone.

    OMP_NUM_THREADS=1 AUTOML_SR_DATA=... python tests/benchmarks/tables/small_nets.py [--print]

Each run is one trial of a study, exported, and measured as exported on sets that it has not seen.
All nets have the recipe of the ablation's base, at a rate that suits most of them.
"""

from __future__ import annotations

from pathlib import Path

from ablation import changed
from table import Row, arguments, main
from trained import measure

PATH = Path(__file__).parent / "small_nets.json"
COLUMNS = {"Set5": 3, "Set14": 3, "valid": 3, "params": 0, "steps_per_s": 1}
RATE = 2e-3
NETS = {
    "edsr 16 x 3": {"edsr": {"width": 16, "blocks": 3, "tail": "lite"}},
    "edsr 16 x 4": {"edsr": {"width": 16, "blocks": 4, "tail": "lite"}},
    "edsr 12 x 8": {"edsr": {"width": 12, "blocks": 8, "tail": "lite"}},
    "edsr 10 x 11": {"edsr": {"width": 10, "blocks": 11, "tail": "lite"}},
    "edsr 8 x 18": {"edsr": {"width": 8, "blocks": 18, "tail": "lite"}},
    "edsr 24 x 1": {"edsr": {"width": 24, "blocks": 1, "tail": "lite"}},
    "edsr 16 x 4, linear": {
        "edsr": {"width": 16, "blocks": 4, "tail": "lite", "reparam": "linear"}
    },
    "edsr 16 x 4, edge": {"edsr": {"width": 16, "blocks": 4, "tail": "lite", "reparam": "edge"}},
    "sesr 5 x 16, p 64": {"sesr": {"m": 5, "f": 16, "p": 64}},
    "sesr 9 x 16, p 64": {"sesr": {"m": 9, "f": 16, "p": 64}},
    "sesr 9 x 16, p 64, relu": {"sesr": {"m": 9, "f": 16, "p": 64, "activation": "relu"}},
    "sesr 16 x 12, p 48": {"sesr": {"m": 16, "f": 12, "p": 48}},
    "sesr 5 x 20, p 80": {"sesr": {"m": 5, "f": 20, "p": 80}},
    "ecbsr 9 x 16": {"ecbsr": {"m": 9, "c": 16}},
    "span 12, 4 blocks": {"span": {"width": 12, "blocks": 4}},
    "plainusr ultra 16": {"plainusr": {"kind": "ultra", "n": 16, "w2": 8}},
    "msrresnet 16 x 2": {"msrresnet": {"width": 16, "blocks": 2}},
    "fsrcnn 56, 12, 4": {"fsrcnn": {"d": 56, "s": 12, "m": 4}},
}


def rows() -> list[Row]:
    """Return a row for each net."""
    found = []
    for name, architecture in NETS.items():
        settings = changed(architecture=architecture, recipe={"lr": RATE})
        found.append(Row(name, settings))
    return found


if __name__ == "__main__":
    main(rows(), arguments(__doc__ or "", 3), PATH, measure, COLUMNS, "edsr 16 x 3")
