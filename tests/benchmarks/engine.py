"""What the engine costs: ms per trial of ask, gate, store and tell, above plain Optuna asking the
same parameters.

    python tests/benchmarks/engine.py [--trials 100] [--sampler tpe] [--profile]

The space is everything that is installed, and the gate builds the real nets. Both run in the same
process on SQLite files with the same settings (WAL, BEGIN IMMEDIATE); trials train nothing, but
leave a file and a point of a curve. Wall-clock time counts what the disk takes; processor time
holds on a busy machine.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
for part in ("", "plugins", "tests/support"):
    sys.path.insert(0, str(ROOT / part))

import optuna  # noqa: E402 - the checkout has to be on the path first

from automl_sr.plugin.registry import installed  # noqa: E402
from automl_sr.search.engine import Options, search  # noqa: E402
from automl_sr.search.optuna.samplers import make_sampler  # noqa: E402
from automl_sr.search.workers.callbacks import SearchCallback  # noqa: E402
from automl_sr.space.search_space import SearchSpace  # noqa: E402
from automl_sr.store.database import open_engine, optuna_storage  # noqa: E402
from automl_sr.study.spec import LoadedStudy, parse_study  # noqa: E402
from automl_sr.trial.types import Outcome, Point  # noqa: E402

STUDY = """
name: engine
task: {{kind: image-sr, scale: 2, train: photos-train, valid: photos-valid}}
objectives: [psnr_y, params]
budget: {{trials: {trials}, steps: 100}}
search: {{sampler: {sampler}, scheduler: none, threads: 1}}
"""


class Spent(NamedTuple):
    """Medians over trials, in ms."""

    wall: float
    processor: float


class Stopwatch(SearchCallback):
    """Notes when each trial ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def finished(self, number: int, result: Any, seconds: float) -> None:
        self.ends.append(clocks())


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def load(sampler: str, trials: int) -> LoadedStudy:
    return parse_study(STUDY.format(sampler=sampler, trials=trials), "engine.yaml", installed())


def made_up(plan: Any) -> list[float]:
    """Give values without training; equal plans have equal ones."""
    return [30 + int(plan.fingerprint[:4], 16) / 1e4, float(1 + int(plan.fingerprint[4:8], 16))]


def run_fast(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    """Give made-up values at once, with one point and one file."""
    observer.stage("train")
    observer.point(Point(1, setting.steps, "train", 0.5, 1e-3, 100.0))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.onnx"
    file.write_text(plan.fingerprint)
    return Outcome(
        "complete", dict(zip(("psnr_y", "params"), made_up(plan), strict=True)), {"onnx": file}, {}
    )


def plain_optuna(
    folder: Path, space: SearchSpace, sampler: str, trials: int, asked: list[int]
) -> Spent:
    """Ask, suggest and tell, with nothing around it."""
    storage = optuna_storage(open_engine(f"sqlite:///{folder}/plain.db", write=True))
    study = optuna.create_study(
        storage=storage,
        sampler=make_sampler(sampler, 0, space.parameters()),
        directions=["maximize", "minimize"],
    )
    ends = [clocks()]
    for _ in range(trials):
        trial = study.ask()
        plan = space.suggest(trial)
        study.tell(trial, made_up(plan))
        asked.append(len(trial.params))
        ends.append(clocks())
    return milliseconds(ends)


def engine(folder: Path, sampler: str, trials: int) -> Spent:
    """Run a study whose trials give their values at once."""
    watch = Stopwatch()
    options = Options(store=f"sqlite:///{folder}/engine.db", artifacts=str(folder / "artifacts"))
    search(load(sampler, trials + 1), installed(), options, run=run_fast, callback=watch)
    return milliseconds(watch.ends)


def milliseconds(ends: list[tuple[float, float]]) -> Spent:
    wall, processor = zip(
        *[(1000 * (b[0] - a[0]), 1000 * (b[1] - a[1])) for a, b in itertools.pairwise(ends)],
        strict=True,
    )
    return Spent(statistics.median(wall), statistics.median(processor))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = load(asked.sampler, asked.trials).spec
        space = SearchSpace.resolve(spec.space, spec.task.kind, installed())
        dimensions: list[int] = []
        base = plain_optuna(folder, space, asked.sampler, asked.trials, dimensions)
        profile = cProfile.Profile()
        if asked.profile:
            profile.enable()
        ours = engine(folder, asked.sampler, asked.trials)
        profile.disable()
    print(
        f"{asked.sampler}, {statistics.mean(dimensions):.1f} of {len(space.parameters())}"
        f" parameters asked by a trial, {asked.trials} trials, median ms per trial:"
    )
    print(f"  {'':13}   wall  processor")
    above = Spent(ours.wall - base.wall, ours.processor - base.processor)
    for label, found in (("plain Optuna", base), ("engine", ours), ("above", above)):
        print(f"  {label:13} {found.wall:6.1f} {found.processor:10.1f}")
    if asked.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
