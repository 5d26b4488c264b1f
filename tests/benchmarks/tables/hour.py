"""The best small x2 nets that an hour on this machine gives, from a cold start.

    AUTOML_SR_DATA=... python tests/benchmarks/tables/hour.py [--only "at most 25,000"] [--print]

`search` with studies/small-x2.yaml, then `refine` of its best model, one after the other in a store
of their own with an empty cache: the clock runs from the first command to the end of the second
one. What `refine` has exported is then measured on sets that neither of them has seen. Nothing else
may run beside it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import yaml
from table import ROOT, Row, Settings, arguments, main, said

PATH = Path(__file__).parent / "hour.json"
STUDY = ROOT / "studies" / "small-x2.yaml"
REFINE_MINUTES = 42.0
SETS = ("Set5", "Set14", "BSD100")
COLUMNS = {"Set5": 2, "Set14": 2, "BSD100": 2, "params": 0, "steps": 0, "minutes": 1}


def rows() -> list[Row]:
    """Return a row for each limit of parameters."""
    found = []
    for limit in (25_000, 10_000):
        study: dict[str, Any] = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
        study["constraints"] = {"params": {"max": limit}}
        settings = {"study": study, "refine_minutes": REFINE_MINUTES}
        found.append(Row(f"at most {limit:,}", settings))
    return found


def measure(settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Search and refine for an hour, and measure what came of it."""
    study = settings["study"]
    study = {**study, "search": {**study["search"], "seed": seed}}
    name = study["name"]
    (folder / "study.yaml").write_text(json.dumps(study), encoding="utf-8")
    # What other studies have cached, of images and of latencies, is not there at a cold start.
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")

    begun = time.monotonic()
    said("search", "study.yaml", "-q", folder=folder)
    minutes = f"{settings['refine_minutes']:g}"
    text = said("refine", name, "--top", "1", "--minutes", minutes, "--json", folder=folder)
    spent = time.monotonic() - begun

    [refined] = json.loads(text)["refinements"]
    number = str(refined["number"])
    said("export", name, number, "--refined", "-o", "model", folder=folder)
    trials = json.loads(said("trials", name, "--json", folder=folder))["trials"]
    values = {
        "params": refined["values"]["params"],
        "steps": refined["steps"],
        "trials": len(trials),
        "minutes": round(spent / 60, 2),
        "searched valid": refined["search_values"]["psnr_y"],
        "valid": refined["values"]["psnr_y"],
    }
    for images in SETS:
        text = said("evaluate", "model/model.onnx", "--data", images, "--json", folder=folder)
        values[images] = round(float(json.loads(text)["psnr_y"]), 4)
    return values


if __name__ == "__main__":
    main(rows(), arguments(__doc__ or "", 1), PATH, measure, COLUMNS)
