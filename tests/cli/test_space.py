"""`automl-sr space`: the search space of a study file, for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import space_toys

from automl_sr.cli.main import main

STUDY = """\
name: toy
task: {kind: image-sr}
objectives: [psnr_y]
budget: {trials: 3}
space:
  selection: [none, loss]
  architecture: {fsrcnn: {width: [8, 30]}, cells: {}}
  pruning: {}
  quantization: {}
"""


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = space_toys.registry()
    monkeypatch.setattr("automl_sr.plugin.registry.installed", lambda: registry)


@pytest.fixture
def study(tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(STUDY)
    return str(path)


def test_the_tree_shows_conditions_and_the_number_of_choices(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["space", study]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert "    drop_hardest: 0 .. 0.1, if order is descending" in lines
    assert "    ops: (conv3 | conv5 | skip) x one for each of layers, at most 4" in lines
    assert "  packed  (requires sparse_weights)" in lines
    assert "  none  (trial 0)" in lines
    assert "teacher (not searched)" in lines
    assert lines[-1] == "12,375 discrete choices, and 2 continuous dimensions besides"
    assert (
        printed.err
        == "note: space.architecture.fsrcnn.width: in steps of 8, the range 8..30 ends at 24.\n"
    )


def test_json_holds_the_same(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", study, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (
        data["study"],
        data["task"],
        data["discrete_choices"],
        data["continuous_dimensions"],
    ) == (
        "toy",
        "image-sr",
        12375,
        2,
    )
    assert data["trial_0"] == {
        "selection": "none",
        "architecture": "fsrcnn",
        "architecture.fsrcnn.width": 24,
        "pruning": "none",
        "quantization[none|int8_ptq]": "none",
    }
    slots = {slot["name"]: slot for slot in data["slots"]}
    assert list(slots) == [
        "selection",
        "architecture",
        "teacher",
        "pruning",
        "quantization",
        "recipe",
    ]
    width = slots["architecture"]["children"][0]["children"][0]
    assert width == {
        "kind": "field", "name": "width", "searched": True,
        "detail": "8 .. 24, step 8", "parameter": "architecture.fsrcnn.width",
    }  # fmt: skip


def test_a_mistake_names_file_and_line(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(study).write_text(STUDY.replace("fsrcnn", "fsrcn"))
    assert main(["space", study]) == 2
    assert capsys.readouterr().err == (
        f"error: {study}:7: space.architecture.fsrcn: unknown technique 'fsrcn'."
        " Did you mean 'fsrcnn'? Installed: cells, edsr, fsrcnn.\n"
    )
