"""A search that trains for real: killed in the middle, it ends bit for bit as one that was left
alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from photographs import write_photographs

from automl_sr.store.reading import Reader
from automl_sr.testing.tiny import DEVICE

ROOT = Path(__file__).parents[2]
STUDY = """
name: real
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y, params]
budget: {{trials: 1, steps: 200}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{fsrcnn: {{d: 16, s: 8, m: 1}}}}
  recipe: {{batch: 8, patch: 16, precision: fp32}}
"""
KILLED_AT = """
import os, signal, sys
from automl_sr.search.workers import reporter
from automl_sr.cli.main import main
from automl_sr.training import loop
loop.CHECKPOINT_SECONDS = 0.0
point = reporter.TrialReporter.point
def killing(self, at):
    point(self, at)
    if at.step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
reporter.TrialReporter.point = killing
sys.exit(main(sys.argv[1:]))
"""


def search(study: Path, place: Path, kill_at: int = -1) -> subprocess.CompletedProcess[str]:
    where = [
        "--store",
        f"sqlite:///{place}/store.db",
        "--artifacts",
        str(place / "artifacts"),
        "--device",
        DEVICE,
    ]
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "plugins"))
    return subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED_AT.format(step=kill_at),
            "search",
            str(study),
            *where,
            "--quiet",
        ],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def result(place: Path) -> tuple[Any, ...]:
    opened = Reader.open(f"sqlite:///{place}/store.db")
    trial = opened.trial(opened.study("real"), 0)
    curve = sorted((p.phase, p.step, p.loss) for p in opened.curve(trial))
    return (
        trial.state,
        trial.values,
        {kind: file.sha256 for kind, file in trial.artifacts.items()},
        curve,
    )


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_a_killed_trial_ends_bit_for_bit_as_one_left_alone(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(folder=write_photographs(tmp_path / "photographs")))
    whole = search(study, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert search(study, tmp_path / "parts", kill_at=190).returncode == -9, (
        "in the cool-down, on the fork"
    )
    again = search(study, tmp_path / "parts")
    assert again.returncode == 0, again.stderr
    assert result(tmp_path / "parts") == result(tmp_path / "whole")
    assert result(tmp_path / "whole")[0] == "complete"
