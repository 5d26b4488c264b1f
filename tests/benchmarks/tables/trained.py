"""One model of a table: a study of one trial, exported, and measured as it was exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from table import Settings, exported_quality, searched

ALL_IMAGES = ("T91", "BSDS200", "General100", "photos2k")
SETS = ("Set5", "Set14")
"""What a model is measured on where its settings say nothing else."""
MEASURED = ("params", "size_bytes", "params_nonzero")


def study(settings: Mapping[str, Any], seed: int) -> str:
    """Return the text of the study that trains one model; YAML reads JSON.

    settings: `architecture`, `recipe`, `steps` and `train`; `slots` are techniques of other slots,
    `scale` and `color` are x2 and luma where they are not given.
    """
    content = {
        "name": "table",
        "task": {
            "kind": "image-sr",
            "scale": settings.get("scale", 2),
            "train": settings["train"],
            "valid": "5%",
            "color": settings.get("color", "y"),
        },
        "objectives": ["psnr_y", *MEASURED],
        "budget": {"trials": 1, "steps": settings["steps"]},
        "search": {"sampler": "random", "scheduler": "none", "seed": seed},
        "space": {
            "selection": "none",
            "quantization": "none",
            **settings.get("slots", {}),
            "architecture": settings["architecture"],
            "recipe": settings["recipe"],
        },
    }
    return json.dumps(content)


def measure(settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Train, export and measure one model."""
    trial = searched(study(settings, seed), folder)
    seconds = trial["stage_seconds"]["train"] + trial["stage_seconds"].get("branch", 0.0)
    # What is made once for all trials of a study, such as a teacher, is no time of this model's.
    for entry in trial["shared"].values():
        if not entry["reused"]:
            seconds -= entry["seconds"]
    quality = exported_quality(
        folder,
        settings.get("sets", SETS),
        scale=settings.get("scale", 2),
        rgb=settings.get("color") == "rgb",
    )
    values = {name: trial["values"][name] for name in MEASURED}
    return {
        **quality,
        **values,
        "valid": trial["values"]["psnr_y"],
        "steps_per_s": round(settings["steps"] / seconds, 2),
    }
