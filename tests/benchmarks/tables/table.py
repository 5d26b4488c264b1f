"""Tables of experiments that add up: what is missing is run, what is there is kept and printed.

Each finished run is one record in a JSON file beside the script that asks for it. It holds the
settings, the seed, the commit, the processor, the seconds and the values, so that a table can be
made over many sessions and machines, and anybody can see where each number comes from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "automl-sr-tables"
CLI = [sys.executable, "-c", "from automl_sr.cli.main import main; raise SystemExit(main())"]
Settings = Mapping[str, Any]
Measure = Callable[[Settings, int, Path], dict[str, float]]


@dataclass(frozen=True)
class Row:
    """One line of a table: its name, and the settings that are run with every seed."""

    name: str
    settings: Settings


class Results:
    """The finished runs in a JSON file; every one is written at once, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        if path.exists():
            self.records = json.loads(path.read_text(encoding="utf-8"))

    def of(self, settings: Settings, seed: int) -> dict[str, Any] | None:
        """Return the run with these settings and this seed, if it has finished."""
        for record in self.records:
            if record["settings"] == settings and record["seed"] == seed:
                return record
        return None

    def add(self, record: dict[str, Any]) -> None:
        """Append a run."""
        self.records.append(record)
        scratch = self.path.with_suffix(".partial")
        lines = ",\n".join(json.dumps(one, sort_keys=True) for one in self.records)
        scratch.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        scratch.replace(self.path)


def processor() -> str:
    """Return the processor's name and what decides how fast it multiplies."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    named: dict[str, str] = {}
    for line in info.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        named.setdefault(key.strip(), value.strip())
    flags = named.get("flags", "").split()
    fast = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_bf16") if flag in flags]
    return f"{named.get('model name', '?')} ({', '.join(fast)})"


def commit() -> str:
    """Return the commit that is checked out, marked where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run_missing(rows: Sequence[Row], seeds: int, results: Results, measure: Measure) -> None:
    """Run what is missing, all rows with the first seed first."""
    for seed in range(seeds):
        for row in rows:
            if results.of(row.settings, seed) is not None:
                continue
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="automl-sr-table-") as scratch:
                values = measure(row.settings, seed, Path(scratch))
            seconds = round(time.monotonic() - begun, 1)
            results.add(
                {
                    "settings": dict(row.settings),
                    "seed": seed,
                    "commit": commit(),
                    "processor": processor(),
                    "threads": int(os.environ.get("OMP_NUM_THREADS", "0")),
                    "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                    "seconds": seconds,
                    "values": values,
                }
            )
            print(f"{row.name}, seed {seed}: {values} ({seconds} s)", file=sys.stderr, flush=True)


def cell(values: Sequence[float], digits: int) -> str:
    """Return mean and standard deviation in words; a single value has none."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return f"{mean} (one seed)"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}"


def print_table(
    rows: Sequence[Row],
    seeds: int,
    results: Results,
    columns: Mapping[str, int],
    against: str | None = None,
) -> None:
    """Print a Markdown table: a row's values over its seeds, by metric with so many digits.

    `against` is the first metric of the row that the others are compared with, seed by seed.
    """
    titles = ["what", "seeds", *columns, "seconds"]
    if against is not None:
        titles.append(f"{next(iter(columns))} against {against}")
    print("| " + " | ".join(titles) + " |")
    print("|---" * len(titles) + "|")
    base = next((row for row in rows if row.name == against), None)
    for row in rows:
        found = _runs(row, seeds, results)
        cells = [row.name, str(len(found))]
        for metric, digits in columns.items():
            known = [record["values"].get(metric) for record in found.values()]
            cells.append(cell([value for value in known if value is not None], digits))
        cells.append(cell([record["seconds"] for record in found.values()], 0))
        if base is not None:
            metric = next(iter(columns))
            cells.append(_difference(found, _runs(base, seeds, results), metric))
        print("| " + " | ".join(cells) + " |")


def _runs(row: Row, seeds: int, results: Results) -> dict[int, dict[str, Any]]:
    found = {}
    for seed in range(seeds):
        record = results.of(row.settings, seed)
        if record is not None:
            found[seed] = record
    return found


def _difference(
    runs: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]], metric: str
) -> str:
    both = sorted(runs.keys() & base.keys())
    gains = [runs[seed]["values"][metric] - base[seed]["values"][metric] for seed in both]
    return cell(gains, 3)


def searched(study: str, folder: Path) -> dict[str, Any]:
    """Search a study in a store of its own; return `show --json` of its first trial.

    What trials share, such as a teacher, is shared by all tables: it is known by its content.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "cache").symlink_to(CACHE, target_is_directory=True)
    (folder / "study.yaml").write_text(study, encoding="utf-8")
    said("search", "study.yaml", "-q", folder=folder)
    found: dict[str, Any] = json.loads(said("show", "table", "0", "--json", folder=folder))
    if found["state"] != "complete":
        sys.exit(f"The trial has ended as {found['state']}:\n{json.dumps(found, indent=1)}")
    return found


def said(*arguments: str, folder: Path) -> str:
    """Return what a command prints, run in a folder with its own store."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
        "AUTOML_SR_STORE": f"sqlite:///{folder}/store.db",
        "AUTOML_SR_ARTIFACTS": str(folder / "artifacts"),
    }
    done = subprocess.run(
        [*CLI, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def exported_quality(
    folder: Path, sets: Iterable[str], *, scale: int = 2, rgb: bool = False
) -> dict[str, float]:
    """Return the psnr_y of the exported model of a study's first trial on each set.

    With `rgb` the psnr_rgb stands beside it, under the name of the set and `rgb`.
    """
    said("export", "table", "0", "-o", "model", folder=folder)
    values = {}
    for name in sets:
        asked = ("--data", name, "--scale", str(scale), "--json")
        found = json.loads(said("evaluate", "model/model.onnx", *asked, folder=folder))
        values[name] = round(float(found["psnr_y"]), 4)
        if rgb:
            values[f"{name} rgb"] = round(float(found["psnr_rgb"]), 4)
    return values


def arguments(doc: str, seeds: int) -> argparse.Namespace:
    """Read the options that all tables have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--only", nargs="*", help="names of rows to run; all rows are printed")
    parser.add_argument("--print", action="store_true", help="run nothing, print what is there")
    return parser.parse_args()


def main(
    rows: Sequence[Row],
    asked: argparse.Namespace,
    path: Path,
    measure: Measure,
    columns: Mapping[str, int],
    against: str | None = None,
) -> None:
    """Run what is missing, and print the table."""
    results = Results(path)
    if not asked.print:
        chosen = [row for row in rows if not asked.only or row.name in asked.only]
        run_missing(chosen, asked.seeds, results, measure)
    print_table(rows, asked.seeds, results, columns, against)
