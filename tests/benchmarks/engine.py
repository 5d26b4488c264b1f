"""What the engine costs: ms per trial of ask, gate, store and tell, above plain Optuna asking the same parameters.

    python tests/benchmarks/engine.py [--trials 100] [--sampler tpe] [--profile]

Both run in the same process on SQLite files with the same settings (WAL, BEGIN IMMEDIATE); trials train nothing, but
leave a file and a point of a curve. Wall-clock time counts what the disk takes; processor time holds on a busy machine.
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
for part in ("", "plugins", "tests"):
    sys.path.insert(0, str(ROOT / part))

import optuna  # noqa: E402 - the checkout has to be on the path first
from search_world import load, registry, run_fast  # noqa: E402

from automl_sr.search.engine import Options, search  # noqa: E402
from automl_sr.search.samplers import make_sampler  # noqa: E402
from automl_sr.search.watch import Nobody  # noqa: E402
from automl_sr.space import SearchSpace  # noqa: E402
from automl_sr.store.database import open_engine, optuna_storage  # noqa: E402


class Spent(NamedTuple):
    """Medians over trials, in ms."""

    wall: float
    processor: float


class Stopwatch(Nobody):
    """Notes when each trial ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def finished(self, number: int, result: Any, seconds: float) -> None:
        self.ends.append(clocks())


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def plain_optuna(folder: Path, space: SearchSpace, sampler: str, trials: int) -> Spent:
    """Ask, suggest and tell, with nothing around it."""
    storage = optuna_storage(open_engine(f"sqlite:///{folder}/plain.db", write=True))
    study = optuna.create_study(
        storage=storage, sampler=make_sampler(sampler, 0, space.parameters()), directions=["maximize", "minimize"]
    )
    ends = [clocks()]
    for _ in range(trials):
        trial = study.ask()
        plan = space.suggest(trial)
        study.tell(trial, [float(hash(plan.fingerprint) % 97), float(hash(plan.fingerprint) % 89)])
        ends.append(clocks())
    return milliseconds(ends)


def engine(folder: Path, sampler: str, trials: int) -> Spent:
    """Run a study whose trials give their values at once."""
    watch = Stopwatch()
    options = Options(store=f"sqlite:///{folder}/engine.db", artifacts=str(folder / "artifacts"))
    text = {"sampler": sampler, "trials": trials + 1, "more": "constraints: {params: {max: 1000000}}\n"}
    search(load(**text), registry(), options, run=run_fast, watcher=watch)
    return milliseconds(watch.ends)


def milliseconds(ends: list[tuple[float, float]]) -> Spent:
    wall, processor = zip(
        *[(1000 * (b[0] - a[0]), 1000 * (b[1] - a[1])) for a, b in itertools.pairwise(ends)], strict=True
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
        space = SearchSpace.resolve(load().spec, registry())
        base = plain_optuna(folder, space, asked.sampler, asked.trials)
        profile = cProfile.Profile()
        if asked.profile:
            profile.enable()
        ours = engine(folder, asked.sampler, asked.trials)
        profile.disable()
    print(f"{asked.sampler}, {len(space.parameters())} parameters, {asked.trials} trials, median ms per trial:")
    print(f"  {'':13}   wall  processor")
    above = Spent(ours.wall - base.wall, ours.processor - base.processor)
    for label, found in (("plain Optuna", base), ("engine", ours), ("above", above)):
        print(f"  {label:13} {found.wall:6.1f} {found.processor:10.1f}")
    if asked.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
