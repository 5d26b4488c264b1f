"""The report shows what became of the layers of the front's models, where something did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_worlds import collected
from search_world import find, load, registry, run_fast

from automl_sr.presentation import stored_layers as module
from automl_sr.presentation.stored_layers import stored_layers
from automl_sr.report.markdown import markdown
from automl_sr.report.page import page
from automl_sr.search.results import front_of
from automl_sr.store.reading import Reader
from automl_sr.trial.types import Outcome

ROW = {
    "name": "line",
    "kind": "linear",
    "parameters_before": 1000,
    "parameters": 500,
    "weights": 500,
    "zeros": 250,
    "sparsity": 0.5,
    "bits": 4.0,
    "bytes": 250,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("layers")

    def run(plan: Any, setting: Any, observer: Any, place: Path) -> Outcome:
        end = run_fast(plan, setting, observer, place)
        table = {"format": 1, "layers": [ROW], "other": {"parameters_before": 0, "parameters": 0}}
        (place / "layers.json").write_text(json.dumps(table))
        files = {**end.artifacts, "layers": place / "layers.json"}
        return Outcome("complete", end.values, files, end.seconds)

    find(load(trials=1), made, run)
    return made


def test_it_is_drawn_on_the_page_and_said_in_markdown(world: Path) -> None:
    report = collected(world)
    assert [row["number"] for row in report["layers"]["rows"]] == [0]
    drawn = page(report)
    assert 'id="layers"' in drawn
    assert "1000 → 500, 50 % zero, 4 bits" in drawn
    assert "line: 500 of 1,000, 50 % zero, 4 bits" in markdown(report)


def test_studies_without_such_files_have_no_such_section(report: dict[str, Any]) -> None:
    assert report["layers"]["rows"] == []
    assert 'id="layers"' not in page(report)


def test_a_file_that_is_gone_is_said(world: Path) -> None:
    opened = Reader.open(f"sqlite:///{world}/store.db")
    study = opened.study("world")
    [trial] = front_of(study, opened.trials(study), registry().metrics)
    opened.close()
    stored = Path(trial.artifacts["layers"].url)
    content = stored.read_bytes()
    first = stored_layers(trial)
    assert first is not None
    assert first["layers"] == [ROW]
    module._read.cache_clear()
    stored.unlink()
    try:
        assert "is gone" in markdown(collected(world))
    finally:
        stored.write_bytes(content)
