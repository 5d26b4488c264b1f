"""Quality against bytes: one trained net in every form in which its weights can be stored.

    OMP_NUM_THREADS=1 AUTOML_SR_DATA=... python tests/benchmarks/tables/compressed.py [--print]

EDSR with 8 blocks of 32 channels is trained once for each seed; every row is `automl-sr compress`
with its techniques on that model. Training behind it (rounding, merged channels) takes 2,000 steps;
the row `longer` trains as much without either, so that what more training gives is seen.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablation import changed
from table import CACHE, Row, Settings, arguments, main, said, searched
from trained import ALL_IMAGES, study

PATH = Path(__file__).parent / "compressed.json"
SETS = ("Set5", "Set14")
COLUMNS = {"Set5": 3, "Set14": 3, "size_bytes": 0, "params": 0, "latency_ms": 1}
BASE = changed(
    architecture={"edsr": {"width": 32, "blocks": 8, "tail": "lite", "reparam": "none"}},
    steps=8000,
)
BASE["slots"] = {"pruning": "none"}
TRAINED = 2000


def integers(kind: str, bits: int, ends: int = 8) -> list[str]:
    """Return the options that store weights as integers, those of first and last layer in 8."""
    name = f"quantization.{kind}"
    return [
        "--quantization",
        kind,
        "--set",
        f"{name}.body_bits=[{bits}]",
        "--set",
        f"{name}.first_bits={ends}",
        "--set",
        f"{name}.last_bits={ends}",
    ]


def codebook(entries: int, block: int) -> list[str]:
    """Return the options that store weights from a codebook."""
    return [
        "--quantization",
        "vector",
        "--set",
        f"quantization.vector.entries={entries}",
        "--set",
        f"quantization.vector.block={block}",
    ]


def int8(kind: str, *, skips: str = "int8") -> list[str]:
    """Return the options that run the net in int8, all layers."""
    name = f"quantization.{kind}"
    return [
        "--quantization",
        kind,
        "--set",
        f"{name}.keep_float=none",
        "--set",
        f"{name}.skips={skips}",
    ]


MERGED = ["--pruning", "similarity", "--set", "pruning.similarity.largest=0.6"]
SCHEMES: dict[str, tuple[Sequence[str], int]] = {
    "float16": (["--quantization", "float16"], 0),
    "integer 8": (integers("integer", 8), 0),
    "integer 6": (integers("integer", 6), 0),
    "integer 4": (integers("integer", 4), 0),
    "integer 3": (integers("integer", 3), 0),
    "fixed point 8": (integers("fixed_point", 8), 0),
    "fixed point 6": (integers("fixed_point", 6), 0),
    "fixed point 4": (integers("fixed_point", 4), 0),
    "codebook of 16": (codebook(16, 1), 0),
    "codebook of 64": (codebook(64, 1), 0),
    "codebook of 256 fours": (codebook(256, 4), 0),
    "int8": (int8("int8_ptq"), 0),
    "int8, skips in float": (int8("int8_ptq", skips="float"), 0),
    "longer, int8": (["--teacher", "none", *int8("int8_ptq")], TRAINED),
    "int8 trained": (int8("int8_qat"), TRAINED),
    "int8 trained, skips in float": (int8("int8_qat", skips="float"), TRAINED),
    "merged": (MERGED, TRAINED),
    "merged, integer 8": ([*MERGED, *integers("integer", 8)], TRAINED),
    "merged, integer 4": ([*MERGED, *integers("integer", 4)], TRAINED),
}


def rows() -> list[Row]:
    """Return the net as it is trained, and every form of it."""
    found = [Row("float", {"base": BASE, "options": [], "steps": 0})]
    for name, (options, steps) in SCHEMES.items():
        found.append(Row(name, {"base": BASE, "options": list(options), "steps": steps}))
    return found


def base_model(settings: Settings, seed: int, folder: Path) -> Path:
    """Return the folder of the exported base; it is trained once and kept with its content."""
    text = json.dumps([settings, seed], sort_keys=True)
    kept = CACHE / f"base-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not kept.exists():
        searched(study(settings, seed), folder)
        said("export", "table", "0", "-o", "base", folder=folder)
        shutil.move(folder / "base", kept)
    return kept


def measure(settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Compress the base, and measure what came of it; with no options, the base itself."""
    model = base_model(settings["base"], seed, folder)
    values: dict[str, float] = {}
    if settings["options"]:
        data: list[str] = []
        for name in ALL_IMAGES:
            data += ["--data", name]
        steps = str(settings["steps"])
        asked = [*settings["options"], *data, "--steps", steps, "--seed", str(seed), "--json"]
        text = said("compress", str(model), "-o", "new", *asked, folder=folder)
        found: dict[str, Any] = json.loads(text)
        model = folder / "new"
        for name in ("size_bytes", "params", "latency_ms"):
            values[name] = found["after"][name]
            values[f"{name} before"] = found["before"][name]
    else:
        values["size_bytes"] = (model / "model.onnx").stat().st_size
    for name in SETS:
        text = said("evaluate", str(model / "model.onnx"), "--data", name, "--json", folder=folder)
        values[name] = round(float(json.loads(text)["psnr_y"]), 4)
    return values


if __name__ == "__main__":
    main(rows(), arguments(__doc__ or "", 3), PATH, measure, COLUMNS, "float")
