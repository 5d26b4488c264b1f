"""A study read in Python: plain objects that agree with what the commands print, and nothing is
written.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from search_world import find, load

import automl_sr
from automl_sr.errors import PluginError, StoreError, UseError
from automl_sr.plugin.registry import installed
from automl_sr.search.output import TrialRow
from automl_sr.search.results import front_of
from automl_sr.store.reading import Reader


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of a study that has complete, infeasible and failed trials."""
    from app_world import search_small

    return search_small(tmp_path_factory.mktemp("study")).store


def test_trials_are_those_that_the_commands_list(url: str) -> None:
    reader = Reader.open(url)
    listed = [TrialRow.of(record).model_dump() for record in reader.trials(reader.study("small"))]
    reader.close()
    with automl_sr.open_study(url, "small") as study:
        found = study.trials()
    assert [trial.number for trial in found] == [row["number"] for row in listed]
    assert [trial.values for trial in found] == [row["values"] for row in listed]
    assert [trial.plan for trial in found] == [row["plan"] for row in listed]
    complete = next(trial for trial in found if trial.state == "complete")
    assert Path(complete.files["onnx"]).suffix == ".onnx"
    assert complete.costs["params"] > 0


def test_one_state_can_be_asked_for_and_a_wrong_one_is_told(url: str) -> None:
    with automl_sr.open_study(url, "small") as study:
        assert {trial.state for trial in study.trials("infeasible")} == {"infeasible"}
        with pytest.raises(UseError, match="Unknown state 'done'"):
            study.trials("done")


def test_the_front_is_that_of_the_search(url: str) -> None:
    reader = Reader.open(url)
    record = reader.study("small")
    expected = front_of(record, reader.trials(record), installed().metrics)
    reader.close()
    with automl_sr.open_study(url, "small") as study:
        assert [trial.number for trial in study.front()] == [trial.number for trial in expected]
        assert study.objectives == record.objectives


def test_a_front_whose_objectives_are_not_installed_says_so(tmp_path: Path) -> None:
    find(load(trials=2), tmp_path)
    with automl_sr.open_study(f"sqlite:///{tmp_path}/store.db", "world") as study:
        assert study.trials()
        with pytest.raises(PluginError, match="score"):
            study.front()


def test_a_curve_has_its_points_in_order(url: str) -> None:
    with automl_sr.open_study(url, "small") as study:
        points = study.curve(study.trials("complete")[0].number)
    assert points
    trunk = [point.step for point in points if point.phase == points[0].phase]
    assert trunk == sorted(trunk)
    with (
        automl_sr.open_study(url, "small") as study,
        pytest.raises(StoreError, match="no trial 999"),
    ):
        study.curve(999)


def test_a_frame_has_a_row_for_each_trial_and_a_column_for_each_name(url: str) -> None:
    with automl_sr.open_study(url, "small") as study:
        frame, trials = study.frame(), study.trials()
    assert list(frame.index) == [trial.number for trial in trials]
    assert {"state", "value.psnr_y", "cost.params", "plan.architecture"} <= set(frame.columns)
    for trial in trials:
        value = frame.loc[trial.number, "value.psnr_y"]
        known = trial.values.get("psnr_y")
        assert pandas.isna(value) if known is None else value == known


def test_names_that_are_not_there_are_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no study 'smal'"):
        automl_sr.open_study(url, "smal")
    with pytest.raises(StoreError):
        automl_sr.open_study(f"sqlite:///{tmp_path}/nothing.db", "small")
    assert not (tmp_path / "nothing.db").exists()


def test_importing_the_package_loads_no_database() -> None:
    code = "import automl_sr, sys; sys.exit('sqlalchemy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
