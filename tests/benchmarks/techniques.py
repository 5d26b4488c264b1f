"""Train and measure techniques as a trial does, and print a table: the figures of the method cards.

    python tests/benchmarks/techniques.py reference
    python tests/benchmarks/techniques.py selection --seeds 3
    python tests/benchmarks/techniques.py unstructured_pruning --steps 5000 --seeds 3
    python tests/benchmarks/techniques.py quantization

The sets are found through AUTOML_SR_DATA. Times are those of this machine.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from automl_sr.plugin.registry import installed
from automl_sr.plugin.task import TaskData
from automl_sr.plugin.technique import Slot
from automl_sr.space.plan import TrialPlan
from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.training.run import TrainedModel
from automl_sr.trial.measure import measure
from automl_sr.trial.run import run_trial
from automl_sr.trial.setup import make_context
from automl_sr.trial.ship import ship
from automl_sr.trial.types import DeviceSpec, Setting

METRICS = (
    "psnr_y",
    "ssim_y",
    "params",
    "params_nonzero",
    "macs",
    "size_bytes",
    "latency_ms",
    "latency_ratio",
)
Row = dict[str, Any]

ROWS: dict[str, list[tuple[str, Row]]] = {
    "reference": [
        ("fsrcnn", {"architecture": {"technique": "fsrcnn"}}),
        ("fsrcnn skip none", {"architecture": {"technique": "fsrcnn", "skip": "none"}}),
        ("fsrcnn 56 12 4", {"architecture": {"technique": "fsrcnn", "d": 56, "s": 12, "m": 4}}),
        ("fsrcnn 24 8 1", {"architecture": {"technique": "fsrcnn", "d": 24, "s": 8, "m": 1}}),
        ("espcn", {"architecture": {"technique": "espcn"}}),
        ("espcn tanh", {"architecture": {"technique": "espcn", "activation": "tanh"}}),
        ("espcn skip none", {"architecture": {"technique": "espcn", "skip": "none"}}),
        ("srcnn", {"architecture": {"technique": "srcnn"}}),
        ("edsr", {"architecture": {"technique": "edsr"}}),
        ("edsr full", {"architecture": {"technique": "edsr", "tail": "full"}}),
        ("edsr 8x4", {"architecture": {"technique": "edsr", "width": 8}}),
        ("msrresnet", {"architecture": {"technique": "msrresnet"}}),
        ("msrresnet 8x4", {"architecture": {"technique": "msrresnet", "width": 8}}),
        ("idn", {"architecture": {"technique": "idn"}}),
        ("imdn", {"architecture": {"technique": "imdn"}}),
        ("drrn", {"architecture": {"technique": "drrn"}}),
        ("rdn", {"architecture": {"technique": "rdn"}}),
        ("swinir_light", {"architecture": {"technique": "swinir_light"}}),
    ],
    "selection": [
        ("none", {}),
        ("random 1", {"selection": {"technique": "random", "keep": 1.0}}),
        ("random 0.25", {"selection": {"technique": "random", "keep": 0.25}}),
        ("loss 0.25", {"selection": {"technique": "loss", "keep": 0.25}}),
        (
            "loss 0.25, hardest kept",
            {"selection": {"technique": "loss", "keep": 0.25, "drop_hardest": 0.0}},
        ),
        (
            "loss 0.25 ascending",
            {"selection": {"technique": "loss", "keep": 0.25, "order": "ascending"}},
        ),
        ("sobel 0.25", {"selection": {"technique": "sobel", "keep": 0.25}}),
    ],
}
PRUNED_NET: Row = {"technique": "edsr", "width": 32, "blocks": 4}
PRUNINGS: dict[str, Row] = {
    "none": {"technique": "none"},
    "upru 8 % in 4 rounds": {"technique": "upru", "rate": 0.0274, "rounds": 4, "keep": "last"},
    "dupru 8 % in 4 rounds": {"technique": "dupru", "rate": 0.0274, "rounds": 4, "keep": "last"},
    "upru 50 % in 4 rounds": {"technique": "upru", "rate": 0.2063, "rounds": 4, "keep": "last"},
    "dupru 50 % in 4 rounds": {"technique": "dupru", "rate": 0.2063, "rounds": 4, "keep": "last"},
    "upru 50 % at once": {"technique": "upru", "rate": 0.5, "rounds": 2, "keep": "last"},
    "upru 50 %, global": {
        "technique": "upru",
        "rate": 0.2063,
        "rounds": 4,
        "keep": "last",
        "scope": "global",
    },
    "nm 2 of 4": {"technique": "nm"},
    "nm 8 of 32": {"technique": "nm", "n": 8, "m": 32},
    "nm learnt, a quarter of 32": {"technique": "nm", "mode": "learnt", "m": 32, "budget": 0.25},
    "shrink 50 %": {"technique": "shrink"},
    "shrink 75 %": {"technique": "shrink", "sparsity": 0.75},
    "shrink 75 %, hard": {"technique": "shrink", "sparsity": 0.75, "factor": 0.0},
}
ROWS["unstructured_pruning"] = [
    (name, {"architecture": PRUNED_NET, "pruning": pruning}) for name, pruning in PRUNINGS.items()
]
BASE: Row = {"architecture": {"technique": "espcn"}}
QUANTIZED = ("fsrcnn", "espcn", "edsr")
FORMS: dict[str, Row | str] = {"float": "none"} | {
    f"{method} {ends}": {"technique": "int8_ptq", "method": method, "keep_float": ends}
    for method in ("minmax", "percentile", "entropy")
    for ends in ("none", "last", "first_last")
}


class Quiet:
    """Takes no notes."""

    def stage(self, name: str) -> None:
        """Ignore the stage."""

    def point(self, point: Any) -> None:
        """Ignore the point."""

    def saved(self) -> None:
        """Ignore the checkpoint."""

    def stop_requested(self) -> bool:
        """Never stop."""
        return False

    def rung(self, index: int, step: int, values: Any, artifacts: Any) -> bool:
        """Go on."""
        return True


def plan_of(row: Row) -> TrialPlan:
    registry = installed()
    techniques = {}
    for slot in Slot:
        wanted = row.get(slot.value)
        if wanted is None:
            cls = registry.baseline(slot)
            if cls is not None:
                techniques[slot] = cls()
            continue
        fields = {"technique": wanted} if isinstance(wanted, str) else dict(wanted)
        techniques[slot] = registry.technique(slot, fields.pop("technique"))(**fields)
    return TrialPlan.of(techniques, {})


def setting_of(task: ImageSR, data: TaskData, steps: int, seed: int) -> Setting:
    cache = Path(tempfile.gettempdir()) / "automl-sr-benchmark-cache"
    device = DeviceSpec()
    return Setting(
        installed(),
        task,
        data,
        METRICS,
        ("psnr_y",),
        steps,
        1,
        3,
        seed,
        "cpu",
        device,
        cache,
        threads=1,
    )


def show(name: str, values: Mapping[str, float], seconds: float) -> None:
    print(
        name,
        json.dumps({key: float(f"{value:.6g}") for key, value in values.items()}),
        f"{seconds:.0f}s",
        flush=True,
    )


def train_each(rows: list[tuple[str, Row]], settings: list[Setting]) -> None:
    """Train every row afresh, as trials of a study; other fields mean another training seed."""
    for name, row in rows:
        for setting in settings:
            begun = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                outcome = run_trial(plan_of({**BASE, **row}), setting, Quiet(), Path(folder))
            show(f"{name} (seed {setting.seed})", outcome.values, time.perf_counter() - begun)


def quantize_each(setting: Setting) -> None:
    """Train each net once and ship it in every form, so that only the eight bits differ."""
    for net in QUANTIZED:
        for form, quantization in FORMS.items():
            plan = plan_of({"architecture": net, "quantization": quantization})
            pipeline = [plan.techniques[slot] for slot in Slot if slot in plan.techniques]
            with tempfile.TemporaryDirectory() as folder:
                ctx = make_context(plan, setting, Path(folder))
                architecture = plan.techniques[Slot.ARCHITECTURE]
                module = ctx.fit(
                    architecture, setting.data.train, steps=setting.steps, key="benchmark"
                )
                blueprint = architecture.blueprint(setting.task, ctx)
                trained = TrainedModel(
                    module, blueprint, setting.task, setting.data.train, {}, Path(folder)
                )
                begun = time.perf_counter()
                shipped = ship(trained, pipeline, ctx)
                seconds = time.perf_counter() - begun
                show(f"{net} {form}", measure(shipped, pipeline, setting, ctx, {}), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=[*ROWS, "quantization"])
    parser.add_argument("--train", nargs="+", default=["T91"])
    parser.add_argument("--valid", nargs="+", default=["General100"])
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of row names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = ImageSR(scale=options.scale, train=options.train, valid=options.valid)
    data = task.load(0)
    show(
        "bicubic",
        task.reference(data, [installed().metric(name) for name in ("psnr_y", "ssim_y")]),
        0,
    )
    settings = [setting_of(task, data, options.steps, seed) for seed in range(options.seeds)]
    if options.family == "quantization":
        quantize_each(settings[0])
        return
    rows = ROWS[options.family]
    train_each(
        [row for row in rows if any(fnmatch.fnmatch(row[0], item) for item in options.only)],
        settings,
    )


if __name__ == "__main__":
    main()
