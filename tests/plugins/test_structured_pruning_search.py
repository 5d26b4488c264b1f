"""A net that is cut, searched and refined: what the gate counts is what ships."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest
from photographs import write_photographs
from safetensors.torch import load_file

from automl_sr.plugin.registry import installed
from automl_sr.search.engine import Options, search
from automl_sr.search.refine.choice import Request
from automl_sr.search.refine.refiner import refine
from automl_sr.search.workers.worker import ExhaustedError
from automl_sr.store.reading import Reader
from automl_sr.store.refinements import refinements
from automl_sr.study.spec import LoadedStudy, parse_study

pytestmark = pytest.mark.ci

STUDY = """
name: cut
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y, params]
observe: [macs, size_bytes]
constraints: {{params: {{max: {most}}}}}
budget: {{trials: 1, steps: 40}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{edsr: {{width: 8, blocks: 1, tail: lite, reparam: {reparam}}}}}
  pruning: {{l1: {{ratio: 0.5}}}}
  recipe: {{batch: 2, patch: 12, ema: 0.9, precision: fp32}}
"""
CUT = (4 * 9 + 4) + 3 * (4 * 4 * 9 + 4) + (4 * 4 * 9 + 4)
"""Parameters of the net with half of its channels."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("images"))


def options_in(place: Path) -> Options:
    return Options(
        store=f"sqlite:///{place}/store.db", artifacts=str(place / "artifacts"), device="cpu"
    )


def study_of(photographs: Path, most: int, reparam: str = "none") -> LoadedStudy:
    text = STUDY.format(folder=photographs, most=most, reparam=reparam)
    return parse_study(text, "study.yaml", installed())


def weights_in(path: str) -> int:
    """Count what the layers of an exported file hold; the bicubic kernel is no weight."""
    count = 0
    for stored in onnx.load(path).graph.initializer:
        if stored.name.endswith((".weight", ".bias")):
            count += math.prod(stored.dims)
    return count


@pytest.mark.parametrize("reparam", ["none", "edge"])
def test_what_ships_is_cut_and_counted_so_everywhere(
    reparam: str, photographs: Path, tmp_path: Path
) -> None:
    options = options_in(tmp_path)
    assert search(study_of(photographs, CUT, reparam), installed(), options).error is None
    assert refine("cut", installed(), options, Request(steps=30)).error is None
    reader = Reader.open(options.store)
    study = reader.study("cut")
    [trial], [refined] = reader.trials(study), refinements(reader, study)
    reader.close()
    assert trial.costs["params"] == CUT, "at the gate"
    found: Any
    for found in (trial, refined):
        assert found.values["params"] == CUT
        assert found.values["macs"] == trial.costs["macs"]
        assert weights_in(found.artifacts["onnx"].url) == CUT
        shipped = load_file(found.artifacts["weights"].url)
        assert shipped["body.0.conv1.weight"].shape == (4, 4, 3, 3)
        blueprint = onnx.load(found.artifacts["onnx"].url).metadata_props
        [stored] = [entry.value for entry in blueprint if entry.key == "blueprint"]
        assert "structured_pruning.cut" in [name for name, _ in json.loads(stored)["edits"]]


def test_a_net_that_is_too_large_when_it_is_cut_is_rejected_untrained(
    photographs: Path, tmp_path: Path
) -> None:
    end = search(study_of(photographs, CUT - 1), installed(), options_in(tmp_path))
    assert isinstance(end.error, ExhaustedError)
    reader = Reader.open(options_in(tmp_path).store)
    trial, *_ = reader.trials(reader.study("cut"))
    reader.close()
    assert trial.state == "infeasible"
    assert f"params would be {CUT}" in str(trial.reason)
