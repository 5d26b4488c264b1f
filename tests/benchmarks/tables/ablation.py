"""What limits the quality of small x2 nets: one change at a time, with all else equal.

    OMP_NUM_THREADS=1 AUTOML_SR_DATA=... python tests/benchmarks/tables/ablation.py [--print]

Each run is one trial of a study (`automl-sr search`), exported, and measured as exported on sets
that it has not seen. Steps are equal in all rows but those that say otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from table import Row, arguments, main
from trained import ALL_IMAGES, measure

HERE = Path(__file__).parent
STEPS = 4000
BASE: dict[str, Any] = {
    "architecture": {"edsr": {"width": 16, "blocks": 3, "tail": "lite"}},
    "train": list(ALL_IMAGES),
    "steps": STEPS,
    "recipe": {
        "lr": 1e-3,
        "batch": 16,
        "patch": 32,
        "loss": "l1",
        "ema": 0.99,
        "cooldown": 0.1,
        "clip": 1.0,
        "beta2": 0.99,
    },
}


def changed(**others: Any) -> dict[str, Any]:
    """Return the base with other settings; recipes are merged field by field."""
    recipe = {**BASE["recipe"], **others.pop("recipe", {})}
    return {**BASE, **others, "recipe": recipe}


def with_recipe(**fields: Any) -> dict[str, Any]:
    """Return the base with other fields of the recipe."""
    return changed(recipe=fields)


def longer(**fields: Any) -> dict[str, Any]:
    """Return the base with four times the steps and other fields of the recipe."""
    return changed(steps=4 * STEPS, recipe=fields)


ROWS = [
    Row("base", BASE),
    Row("cooldown 0.5", with_recipe(cooldown=0.5)),
    Row("cooldown 0.9", with_recipe(cooldown=0.9)),
    Row("lr 2e-3", with_recipe(lr=2e-3)),
    Row("lr 4e-3", with_recipe(lr=4e-3)),
    Row("lr 2e-3, cooldown 0.5", with_recipe(lr=2e-3, cooldown=0.5)),
    Row("lr 4e-3, cooldown 0.5", with_recipe(lr=4e-3, cooldown=0.5)),
    Row("ema 0", with_recipe(ema=0.0)),
    Row("ema 0.999", with_recipe(ema=0.999)),
    Row("patch 24", with_recipe(patch=24)),
    Row("patch 48", with_recipe(patch=48)),
    Row("batch 8", with_recipe(batch=8)),
    Row("batch 32", with_recipe(batch=32)),
    Row("loss charbonnier", with_recipe(loss="charbonnier")),
    Row("loss mse", with_recipe(loss="mse")),
    Row("clip 0", with_recipe(clip=0.0)),
    Row("beta2 0.999", with_recipe(beta2=0.999)),
    Row("fp32", with_recipe(precision="fp32")),
    Row("T91 and BSDS200", changed(train=["T91", "BSDS200"])),
    Row("photos2k alone", changed(train=["photos2k"])),
    Row("steps x2", changed(steps=2 * STEPS)),
    Row("steps x4", changed(steps=4 * STEPS)),
    # As much time as "lr 2e-3" takes, about, in smaller steps.
    Row(
        "lr 2e-3, batch 8, steps x1.5",
        changed(steps=STEPS * 3 // 2, recipe={"lr": 2e-3, "batch": 8}),
    ),
    Row(
        "lr 2e-3, patch 24, steps x1.5",
        changed(steps=STEPS * 3 // 2, recipe={"lr": 2e-3, "patch": 24}),
    ),
    Row(
        "lr 2e-3, batch 8, patch 24, steps x2.5",
        changed(steps=STEPS * 5 // 2, recipe={"lr": 2e-3, "batch": 8, "patch": 24}),
    ),
    # What is best for a short training need not be for a long one, which `refine` is.
    Row("steps x4, lr 2e-3", longer(lr=2e-3)),
    Row("steps x4, lr 2e-3, cooldown 0.5", longer(lr=2e-3, cooldown=0.5)),
    Row("steps x4, lr 2e-3, cooldown 0.9", longer(lr=2e-3, cooldown=0.9)),
    Row("steps x4, lr 4e-3", longer(lr=4e-3)),
    Row("steps x4, lr 4e-3, cooldown 0.5", longer(lr=4e-3, cooldown=0.5)),
]
COLUMNS = {"Set5": 3, "Set14": 3, "params": 0, "steps_per_s": 1}


if __name__ == "__main__":
    main(ROWS, arguments(__doc__ or "", 3), HERE / "ablation.json", measure, COLUMNS, "base")
