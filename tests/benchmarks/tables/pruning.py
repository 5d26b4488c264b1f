"""Single weights and filters pruned at equal non-zero parameters: the paper of DUPru in small.

    OMP_NUM_THREADS=1 AUTOML_SR_DATA=... python tests/benchmarks/tables/pruning.py [--print]

MSRResNet with 4 blocks of 24 channels on RGB, 6,000 steps in all: the dense net in one go, `upru`
and `dupru` in three rounds of 2,000, filters with what follows the cut. The sparsest round ships
(`keep: last`): the best by score may be the dense one. The first rows ask all with three seeds at
x2 and one at x4; then come the sparsities and the rates of the paper's figures 4 and 5, one seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from table import Row, Settings, arguments, main
from trained import ALL_IMAGES, measure

PATH = Path(__file__).parent / "pruning.json"
SETS = ("Set5", "Set14", "BSD100")
COLUMNS = {
    "Set5": 3,
    "Set5 rgb": 3,
    "Set14": 3,
    "BSD100": 3,
    "params_nonzero": 0,
    "size_bytes": 0,
    "steps_per_s": 1,
}
STEPS = 6000
ROUNDS = 3
SPARSITIES = (0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.7, 0.9)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
FILTERS = {0.08: 0.041, 0.5: 0.29}
"""Shares of the 24 channels that go where so many of the weights of the body do: 1 and 7."""
RECIPE = {"lr": 1e-3, "batch": 16, "patch": 24, "loss": "l1", "ema": 0.99}


def settings_of(pruning: dict[str, Any] | str, scale: int = 2) -> Settings:
    """Return what is trained with a pruning."""
    return {
        "architecture": {"msrresnet": {"width": 24, "blocks": 4}},
        "train": list(ALL_IMAGES),
        "steps": STEPS,
        "recipe": RECIPE,
        "scale": scale,
        "color": "rgb",
        "sets": list(SETS),
        "slots": {"pruning": pruning},
    }


def rate_for(sparsity: float, rounds: int = ROUNDS) -> float:
    """Return the share that each of `rounds - 1` prunings drops, so that this one is zero then."""
    return round(1 - (1 - sparsity) ** (1 / (rounds - 1)), 5)


def in_rounds(name: str, rate: float, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return a pruning of single weights whose last round ships."""
    return {name: {"rate": rate, "rounds": rounds, "scope": "layer", "rewind": 0, "keep": "last"}}


def compared(scale: int) -> list[Row]:
    """Return the dense net, and every pruning at two sparsities."""
    found = [Row(f"x{scale} dense", settings_of("none", scale))]
    for sparsity, ratio in FILTERS.items():
        prunings = {
            "upru": in_rounds("upru", rate_for(sparsity)),
            "dupru": in_rounds("dupru", rate_for(sparsity)),
            "l1": {"l1": {"ratio": ratio, "scope": "layer"}},
            "aligned": {"aligned": {"ratio": ratio}},
        }
        for name, pruning in prunings.items():
            found.append(Row(f"x{scale} {name} {sparsity:.0%}", settings_of(pruning, scale)))
    return found


def figures() -> list[Row]:
    """Return the rows of the paper's figures: by sparsity, and by rate at about 8 %."""
    found = []
    for name in ("upru", "dupru"):
        for sparsity in SPARSITIES:
            if sparsity in FILTERS:
                continue  # it stands among those that are compared
            pruning = in_rounds(name, rate_for(sparsity))
            found.append(Row(f"x2 {name} {sparsity:.0%}", settings_of(pruning)))
        for rate in RATES:
            pruning = in_rounds(name, rate)
            found.append(Row(f"x2 {name}, rate {rate:g}", settings_of(pruning)))
    return found


if __name__ == "__main__":
    asked = arguments(__doc__ or "", 3)
    main(compared(2), asked, PATH, measure, COLUMNS, "x2 dense")
    asked.seeds = min(asked.seeds, 1)
    main(compared(4), asked, PATH, measure, COLUMNS, "x4 dense")
    main([compared(2)[0], *figures()], asked, PATH, measure, COLUMNS, "x2 dense")
