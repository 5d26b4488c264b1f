"""What only a GPU shows: the memory that the gate expects, and a trial that finds too little of
it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from photographs import write_photographs

from automl_sr.evaluation.cost import training_bytes
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import installed
from automl_sr.testing.tiny import TinyTrial, tiny_samples, tiny_task
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
ROOT = Path(__file__).parents[2]
NETS: dict[str, dict[str, Any]] = {
    "fsrcnn": {"d": 56, "s": 12, "m": 4},
    "msrresnet": {"width": 64, "blocks": 8},
    "espcn": {"width": 64},
}
STUDY = """
name: tight
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y, params]
budget: {{trials: 2, steps: 8}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{fsrcnn: {{}}}}
  recipe: {{batch: 1024, patch: 48, lr: [1.0e-3, 4.0e-3]}}
"""
TIGHT = """
import sys, torch
torch.cuda.set_per_process_memory_fraction(0.005)
from automl_sr.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETS)
def test_training_takes_about_the_memory_that_the_gate_expects(
    name: str, precision: Any, tmp_path: Path
) -> None:
    """Too low an estimate lets trials fail, too high a one refuses good plans."""
    registry = installed()
    net = registry.technique("architecture", name)(**NETS[name])
    recipe = Recipe(batch=64, patch=48, precision=precision)
    trial = TinyTrial(registry, tiny_task(), tiny_samples(), (net,), 12, tmp_path, recipe, "cuda")
    blueprint = net.blueprint(trial.task, trial.context(net))
    model = build(blueprint, registry)
    example = trial.task.training_example(model, batch=64, patch=48)
    expected = training_bytes(model, example, half=precision == "bf16")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run = Run.start(trial.setup(), blueprint)
    for _ in range(3):
        run.advance()
    taken = torch.cuda.max_memory_allocated() - before
    print(f"{name} {precision}: {expected / 2**20:.0f} MiB expected, {taken / 2**20:.0f} MiB taken")
    assert 0.6 < taken / expected < 1.4


def test_a_trial_without_enough_memory_fails_with_a_sentence(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(folder=write_photographs(tmp_path / "photographs")))
    store = f"sqlite:///{tmp_path}/store.db"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (".", "plugins")),
    }
    where = [
        "--store",
        store,
        "--artifacts",
        str(tmp_path / "artifacts"),
        "--device",
        "cuda",
        "--quiet",
    ]
    searched = subprocess.run(
        [sys.executable, "-c", TIGHT, "search", str(study), *where],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in searched.stderr, searched.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "automl_sr", "trials", "tight", "--store", store, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    trials = json.loads(listed.stdout)["trials"]
    assert [trial["state"] for trial in trials] == ["failed", "failed"]
    assert all(
        "memory" in trial["reason"] and "smaller batch" in trial["reason"] for trial in trials
    ), trials
