"""Training steps a second, and seconds of a trial besides them, of this checkout and an older
commit, in turns.

Usage: python tests/benchmarks/before_after.py COMMIT [--pairs 6] [--steps 400] [--nets fsrcnn espcn
msrresnet]

Each turn searches two trials of a net with the command line of one checkout, in a process of its
own, and counts the second: the first one imports and warms up what others find ready. Who goes
first changes from pair to pair. It prints the median of the pairs' ratios (now / before; above 1 is
faster for steps, slower for the rest) and their range. Both sides use the
environment that runs this script.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
name: turn
task: {{kind: image-sr, scale: 2, train: photos-train, valid: photos-valid}}
objectives: [psnr_y, params]
budget: {{trials: 2, steps: {steps}}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  selection: none
  architecture: {{{net}: {{}}}}
  quantization: none
  recipe: {{lr: [1.0e-3, 2.0e-3]}}
"""


def checked_out(commit: str, folder: Path) -> Path:
    """Write the files of a commit into a folder."""
    command = ["git", "-C", str(ROOT), "archive", commit]
    made = subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    # Plugins are found by the entry points of the checkout that comes first on the path.
    described = [sys.executable, "-c", "import setuptools; setuptools.setup()", "egg_info"]
    subprocess.run(described, cwd=folder, check=True, capture_output=True)
    return folder


def turn(checkout: Path, net: str, steps: int) -> tuple[float, float]:
    """Search two trials; return the second one's steps a second, and its seconds at gate and store."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "turn.yaml").write_text(STUDY.format(net=net, steps=steps))
        environment = {
            **os.environ,
            "PYTHONPATH": f"{checkout}:{checkout / 'plugins'}",
            "AUTOML_SR_STORE": f"sqlite:///{folder}/store.db",
            "AUTOML_SR_ARTIFACTS": str(folder / "artifacts"),
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        program = [
            sys.executable,
            "-c",
            "from automl_sr.cli.main import main; raise SystemExit(main())",
        ]
        for arguments in (["search", "turn.yaml", "-q"], ["show", "turn", "1", "--json"]):
            done = subprocess.run(
                [*program, *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"{checkout}: {' '.join(arguments)}\n{done.stderr}")
        found = json.loads(done.stdout)
    stages = found["stage_seconds"]
    return steps / (stages["train"] + stages.get("branch", 0) + stages.get("fork", 0)), found[
        "seconds"
    ] - sum(stages.values())


def main() -> None:
    """Take turns and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("commit")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--nets", nargs="*", default=["fsrcnn", "espcn", "msrresnet"])
    asked = parser.parse_args()
    print("| net | steps/s before | now | ratio (range) | other seconds before | now | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        before = checked_out(asked.commit, Path(scratch))
        for net in asked.nets:
            pairs = []
            for number in range(asked.pairs):
                order = (before, ROOT) if number % 2 == 0 else (ROOT, before)
                found = {checkout: turn(checkout, net, asked.steps) for checkout in order}
                pairs.append((found[before], found[ROOT]))
            rates = [now[0] / then[0] for then, now in pairs]
            rest = [now[1] / then[1] for then, now in pairs]
            cells = [
                net,
                f"{statistics.median(then[0] for then, _ in pairs):.1f}",
                f"{statistics.median(now[0] for _, now in pairs):.1f}",
                f"{statistics.median(rates):.3f} ({min(rates):.3f} to {max(rates):.3f})",
                f"{statistics.median(then[1] for then, _ in pairs):.2f}",
                f"{statistics.median(now[1] for _, now in pairs):.2f}",
                f"{statistics.median(rest):.2f}",
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
