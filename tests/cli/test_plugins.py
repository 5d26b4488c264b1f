"""`automl-sr plugins`: what is installed, and what is unavailable and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
import space_toys

from automl_sr.cli.main import main
from automl_sr.plugin.registry import discover


class Broken:
    name = "nas"
    value = "nas_plugin"

    def load(self) -> Any:
        raise ImportError("No module named 'nni'")


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = discover(
        [Broken()], plugins=[space_toys.plugin(space_toys.TECHNIQUES, [space_toys.ToyTask])]
    )
    monkeypatch.setattr("automl_sr.plugin.registry.installed", lambda: registry)


def test_techniques_are_listed_by_slot_with_plugin_version_and_title(
    toys: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["slot", "technique", "plugin", "version", "what", "it", "does"]
    assert lines[1].split(maxsplit=4)[:3] == ["selection", "none", "toys"]
    assert lines[1].rstrip().endswith("Train on everything.")
    assert "tasks: image-sr" in lines


def test_what_is_unavailable_is_listed_with_its_reason(
    toys: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split(maxsplit=2) == [
        "nas",
        "nas",
        "ImportError: No module named 'nni'",
    ]


def test_what_a_study_has_to_name_is_marked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Dear(space_toys.Fsrcnn):
        """A large network."""

        name = "dear"
        baseline = False
        asked_only = True

    registry = space_toys.registry([*space_toys.TECHNIQUES, Dear])
    monkeypatch.setattr("automl_sr.plugin.registry.installed", lambda: registry)
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if "(only if named)" in line] == ["dear"]


def test_json_holds_everything(toys: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    packed = next(row for row in data["techniques"] if row["name"] == "packed")
    assert packed == {
        "slot": "quantization", "name": "packed", "version": "1", "baseline": False,
        "asked_only": False,
        "title": "Ship sparse weights, packed.",
        "fields": [], "tasks": ["image-sr"], "provides": [], "requires": ["sparse_weights"], "conflicts": [],
        "plugin": "toys", "distribution": "", "distribution_version": "",
    }  # fmt: skip
    assert data["unavailable"] == [
        {"plugin": "nas", "what": "nas", "reason": "ImportError: No module named 'nni'"}
    ]
    assert data["tasks"] == ["image-sr"]
    assert "psnr_y" in data["metrics"]


def test_what_comes_along_is_all_available(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"recipe", "none", "fsrcnn"} <= {row["name"] for row in data["techniques"]}
    assert [row for row in data["unavailable"] if "nni" not in row["reason"]] == []
