"""The same minutes of joint search, for real: automl-sr against
`optuna.create_study(directions=...)` and `optimize`.

    AUTOML_SR_DATA=/path/to/sets python tests/benchmarks/rivals.py --minutes 20 --seeds 0 1 2 -o rivals.json

Both search the space of one study file with the same trainer, export and measurement, each with
half of the cores, at the same time, so that the machine is the same for both. Plain Optuna has its
own default sampler and settings, rejects plans that break a limit on parameters before it trains
them, and trains every other one to its end. Compared is the hypervolume over time inside a box that
is given beforehand: from bicubic's PSNR and --worst to --best.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
for part in ("", "plugins"):
    sys.path.insert(0, str(ROOT / part))

import optuna  # noqa: E402 - the checkout has to be on the path first

from automl_sr.plugin.registry import installed  # noqa: E402
from automl_sr.search.decide.gate import Gate  # noqa: E402
from automl_sr.search.engine import Options, open_study, search  # noqa: E402
from automl_sr.search.front import Box  # noqa: E402
from automl_sr.search.results import FINISHED, feasible  # noqa: E402
from automl_sr.store.reading import Reader  # noqa: E402
from automl_sr.study.spec import LoadedStudy, load_study, parse_study  # noqa: E402
from automl_sr.trial.run import run_trial  # noqa: E402

SIDES = ("automl-sr", "Optuna")
SHARES = 20
"""At so many moments the hypervolumes are compared."""
Ends = list[tuple[float, dict[str, float]]]
"""Seconds since the beginning and values of each model."""


class Quiet:
    """The observer of a trial that nobody stops early."""

    def __init__(self, until: float) -> None:
        self._until = until

    def stage(self, name: str) -> None:
        """Ignore the stage."""

    def point(self, point: Any) -> None:
        """Ignore the point."""

    def saved(self) -> None:
        """Ignore the checkpoint."""

    def stop_requested(self) -> bool:
        """Stop when the time is up."""
        return time.monotonic() > self._until

    def rung(self, index: int, step: int, values: Any, artifacts: Any) -> bool:
        """Go on."""
        return True


def load(file: Path, seed: int, minutes: float) -> LoadedStudy:
    """Read the study with another seed, and time alone as its budget."""
    loaded = load_study(file, installed())
    data = loaded.spec.to_json()
    data["search"] |= {"seed": seed, "threads": 1}
    data["budget"] |= {"trials": None, "minutes": minutes}
    return parse_study(json.dumps(data), str(file), installed())


def ours(loaded: LoadedStudy, folder: Path) -> Ends:
    """Search, and read when each trial ended from the store."""
    store = f"sqlite:///{folder}/ours.db"
    search(loaded, installed(), Options(store=store, artifacts=str(folder / "ours"), device="cpu"))
    opened = Reader.open(store)
    study = opened.study(loaded.spec.name)
    began = min(row.started or 0.0 for row in opened.trials(study))
    ended = [
        row
        for row in opened.trials(study, FINISHED)
        if row.finished and feasible(study, row.values)
    ]
    return [(float(row.finished or 0.0) - began, dict(row.values)) for row in ended]


def plain(loaded: LoadedStudy, folder: Path) -> Ends:
    """Let Optuna optimise the same objective; a study is opened only for its space, data and
    devices.
    """
    options = Options(
        store=f"sqlite:///{folder}/opened.db", artifacts=str(folder / "opened"), device="cpu"
    )
    opened = open_study(loaded, installed(), options)
    spec, metrics = loaded.spec, opened.objectives
    gate = Gate(opened.setting, spec.constraints, folder)
    found: Ends = []
    began = time.monotonic()
    until = began + 60 * float(spec.budget.minutes or 0)

    def objective(trial: optuna.Trial) -> Sequence[float]:
        plan = opened.space.suggest(trial)
        if gate.check(plan).reason is not None:
            raise optuna.TrialPruned
        outcome = run_trial(plan, opened.setting, Quiet(until), folder / f"trial-{trial.number}")
        found.append((time.monotonic() - began, dict(outcome.values)))
        return [outcome.values[metric.name] for metric in metrics]

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/plain.db", directions=[metric.direction for metric in metrics]
    )
    study.optimize(objective, timeout=until - time.monotonic(), catch=(Exception,))
    return found


def areas(ends: Ends, box: Box, seconds: float) -> list[float]:
    """Give the hypervolume at equal steps of time."""
    moments = [seconds * (index + 1) / SHARES for index in range(SHARES)]
    points = box.scaled([values for _, values in ends]) if ends else None
    return [
        0.0 if points is None else box.share(points[[at <= moment for at, _ in ends]])
        for moment in moments
    ]


def run_side(side: str, file: Path, seed: int, minutes: float, folder: Path) -> None:
    """Run one of the two in this process, and leave what it found in a file."""
    loaded = load(file, seed, minutes)
    ends = ours(loaded, folder) if side == SIDES[0] else plain(loaded, folder)
    (folder / f"{side}.json").write_text(json.dumps(ends))


def run_both(file: Path, seed: int, minutes: float, folder: Path) -> dict[str, Ends]:
    """Run both at the same time, each on its half of the cores."""
    cores = sorted(os.sched_getaffinity(0))
    halves = (
        [cores[: len(cores) // 2], cores[len(cores) // 2 :]] if len(cores) > 1 else [cores, cores]
    )
    processes = []
    for side, half in zip(
        SIDES, halves if seed % 2 else halves[::-1], strict=True
    ):  # cores may differ, so take turns
        asked = [
            str(file),
            "--minutes",
            str(minutes),
            "--seeds",
            str(seed),
            "--side",
            side,
            "--folder",
            str(folder),
        ]
        process = subprocess.Popen(
            [sys.executable, __file__, *asked], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        os.sched_setaffinity(process.pid, half)
        processes.append(process)
    if any(process.wait() for process in processes):
        raise SystemExit("one of the two failed")
    return {
        side: [(at, values) for at, values in json.loads((folder / f"{side}.json").read_text())]
        for side in SIDES
    }


def main() -> None:
    """Compare, and print one line for each seed and side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study", nargs="?", type=Path, default=ROOT / "studies" / "joint-x2.yaml")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--best", type=json.loads, default={"psnr_y": 36.5, "latency_ratio": 0.2})
    parser.add_argument(
        "--worst", type=json.loads, default={"psnr_y": 32.57, "latency_ratio": 10.0}
    )
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        run_side(asked.side, asked.study, asked.seeds[0], asked.minutes, asked.folder)
        return
    spec = load_study(asked.study, installed()).spec
    box = Box(tuple(installed().metric(name) for name in spec.objectives), asked.best, asked.worst)
    found: list[Mapping[str, Any]] = []
    print(
        f"{'seed':>4}  {'side':<10}  {'models':>6}  hypervolume at 10, 25, 50, 75 and 100 % of the"
        " time"
    )
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as folder:
            ends = run_both(asked.study, seed, asked.minutes, Path(folder))
        for side in SIDES:
            curve = areas(ends[side], box, 60 * asked.minutes)
            found.append({"seed": seed, "side": side, "models": ends[side], "hypervolume": curve})
            shown = "  ".join(
                f"{curve[round(share * SHARES) - 1]:.4f}" for share in (0.1, 0.25, 0.5, 0.75, 1.0)
            )
            print(f"{seed:>4}  {side:<10}  {len(ends[side]):>6}  {shown}", flush=True)
    if asked.output:
        asked.output.write_text(
            json.dumps({"best": asked.best, "worst": asked.worst, "runs": found}, indent=1)
        )


if __name__ == "__main__":
    main()
