"""The drawing in the panel of a trial: made once, and a sentence where there is none."""

from __future__ import annotations

import hashlib
from pathlib import Path
from xml.etree import ElementTree

import onnx_files
from app_records import SCRIPT, trial

from automl_sr.app.tabs.net_drawing import NetDrawings
from automl_sr.store.records import ArtifactRecord, TrialRecord


def with_file(path: Path) -> TrialRecord:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    record = ArtifactRecord("onnx", str(path), digest, len(content))
    return trial(7, artifacts={"onnx": record})


def test_it_is_folded_and_drawn_once(tmp_path: Path) -> None:
    path = onnx_files.small_net(tmp_path / "model.onnx")
    drawings, found = NetDrawings(), with_file(path)
    made = drawings.of(found)
    root = ElementTree.fromstring(made)
    assert root.tag == "details"
    assert root.findtext("summary") == "Drawing of the net: 2 layers, 4 parameters"
    path.unlink()
    assert drawings.of(found) is made


def test_a_trial_without_a_model_has_none() -> None:
    assert NetDrawings().of(trial(7, "failed", artifacts={})) == ""


def test_what_cannot_be_drawn_is_a_sentence(tmp_path: Path) -> None:
    damaged = tmp_path / "<b>.onnx"
    damaged.write_text("no net")
    found = with_file(damaged)
    made = NetDrawings().of(found)
    assert made.startswith("<p>The net cannot be drawn: ")
    assert "&lt;b&gt;.onnx cannot be read as ONNX." in made
    damaged.unlink()
    assert "<p>The net cannot be drawn: " in NetDrawings().of(found)


def test_nothing_in_a_file_is_markup(tmp_path: Path) -> None:
    path = onnx_files.write_net(tmp_path / "model.onnx", body="y = Conv(x, w)")
    import onnx

    model = onnx.load(path)
    model.graph.node[0].op_type = SCRIPT
    path.write_bytes(model.SerializeToString())
    made = NetDrawings().of(with_file(path))
    assert "<script" not in made
    assert "&lt;script&gt;" in made
