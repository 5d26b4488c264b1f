"""What it saves that trials share core-sets and helper models, and whether their results stay the
same to the last bit.

    python tests/benchmarks/cache.py [--study studies/core-sets.yaml] [--rounds 1] [--trials N]

Searches the study with an empty cache and without one, in turns, each time in a process and a
folder of its own, and compares every trial: plan, state, values, learning curve, and the sha256 of
its files. Fails where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
for part in ("", "plugins"):
    sys.path.insert(0, str(ROOT / part))

Found = dict[str, Any]


def searched(study: Path, folder: Path, trials: int | None, *, caching: bool) -> Found:
    """Search a study in this process, and give the seconds and all results."""
    from automl_sr.plugin.registry import installed
    from automl_sr.search.engine import Options, search
    from automl_sr.study.spec import load_study

    registry = installed()
    loaded = load_study(study, registry)
    store = f"sqlite:///{folder}/store.db"
    began = time.perf_counter()
    options = Options(store, str(folder / "artifacts"), trials, device="cpu", no_cache=not caching)
    end = search(loaded, registry, options)
    seconds = time.perf_counter() - began
    if end.error is not None:
        raise end.error
    return {"seconds": seconds, **results(store, loaded.spec.name)}


def results(store: str, name: str) -> Found:
    """Give what must be the same, and what was shared."""
    from automl_sr.store.reading import Reader

    reader = Reader.open(store)
    study = reader.study(name)
    trials = reader.trials(study)
    same = [
        {
            "state": trial.state,
            "plan": trial.params,
            "values": dict(trial.values),
            "curve": [
                [p.phase, p.step, p.loss, p.rate, dict(p.values)] for p in reader.curve(trial)
            ],
            "files": {kind: file.sha256 for kind, file in trial.artifacts.items()},
        }
        for trial in trials
    ]
    return {
        "results": same,
        "shared": [dict(trial.shared) for trial in trials],
        "select": [trial.stage_seconds.get("select", 0.0) for trial in trials],
    }


def in_a_process(study: Path, trials: int | None, *, caching: bool) -> Found:
    """Search in a process of its own, so that nothing is warm but the disk."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--study", str(study), "--child", folder]
        command += ["--caching"] * caching + ([] if trials is None else ["--trials", str(trials)])
        own = {
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": f"{folder}/user",
        }  # what studies share is cold too
        done = subprocess.run(
            command, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True, check=True
        )
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def told(found: Found, *, caching: bool) -> str:
    """Say what one search took, and what was made and reused in it."""
    entries = [entry for trial in found["shared"] for entry in trial.values()]
    reused = [entry["seconds"] for entry in entries if entry["reused"]]
    return (
        f"{'with' if caching else 'without'} cache: {found['seconds']:.1f} s, of which selection "
        f"{sum(found['select']):.1f} s; {len(entries) - len(reused)} results made, "
        f"{len(reused)} reused, which saved {sum(reused):.1f} s"
    )


def differing(one: Found, other: Found) -> list[str]:
    """Name what differs between two searches."""
    if len(one["results"]) != len(other["results"]):
        return ["the number of trials"]
    pairs = enumerate(zip(one["results"], other["results"], strict=True))
    return [f"trial {number}: {key}" for number, (a, b) in pairs for key in a if a[key] != b[key]]


def compare(study: Path, rounds: int, trials: int | None) -> int:
    """Search in turns, and print times, their ratio, and what differs."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    first: Found | None = None
    different: list[str] = []
    for number in range(rounds):
        for caching in (True, False) if number % 2 == 0 else (False, True):
            found = in_a_process(study, trials, caching=caching)
            print(told(found, caching=caching), flush=True)
            seconds[caching].append(found["seconds"])
            first = first or found
            different += differing(first, found)
    ratio = statistics.median(seconds[False]) / statistics.median(seconds[True])
    assert first is not None
    trained = first["results"]
    points, files = (sum(len(trial[part]) for trial in trained) for part in ("curve", "files"))
    print(
        f"{study.name}, {len(trained)} trials: {ratio:.2f} times as fast with the cache (medians of"
        f" {rounds})"
    )
    same = f"identical: all plans and values, {points} points of curves, {files} files"
    print(f"different: {', '.join(different)}" if different else same)
    return 1 if different else 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--study", type=Path, default=ROOT / "studies" / "core-sets.yaml")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--caching", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is None:
        return compare(asked.study, asked.rounds, asked.trials)
    print(json.dumps(searched(asked.study, asked.child, asked.trials, caching=asked.caching)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
