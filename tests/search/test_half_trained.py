"""A trial that an older version left half-trained goes on from its checkpoint, and is refined
afterwards.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from automl_sr import __version__
from automl_sr.plugin.registry import installed
from automl_sr.search.engine import Options, search
from automl_sr.search.environment import plugin_versions
from automl_sr.search.refine.choice import Request
from automl_sr.search.refine.refiner import refine
from automl_sr.store.reading import Reader
from automl_sr.study.spec import load_study

LEFT = Path(__file__).parent / "half_trained"
STUDY = LEFT / "study.yaml"


def options(folder: Path) -> Options:
    return Options(
        store=f"sqlite:///{folder}/store.db", artifacts=str(folder / "artifacts"), device="cpu"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that was left, as if this version's plugins had begun it, gone on with to its
    end.
    """
    copy = tmp_path_factory.mktemp("half") / "left"
    shutil.copytree(LEFT, copy)
    with sqlite3.connect(copy / "store.db") as database:
        [(text,)] = database.execute("SELECT environment FROM automl_sr_studies").fetchall()
        environment = json.loads(text)
        environment |= {"automl-sr": __version__, "plugins": plugin_versions(installed())}
        database.execute("UPDATE automl_sr_studies SET environment = ?", [json.dumps(environment)])
    database.close()
    end = search(load_study(STUDY, installed()), installed(), options(copy))
    assert end.error is None
    return copy


def trial_of(folder: Path) -> tuple[Any, Any, Any]:
    reader = Reader.open(f"sqlite:///{folder}/store.db")
    study = reader.study("half")
    trial = reader.trial(study, 0)
    found = (trial, reader.curve(trial), reader.rungs(study))
    reader.close()
    return found


def test_it_ends_as_a_trial_does_that_was_never_left(folder: Path, tmp_path: Path) -> None:
    """Half of it was trained on another processor, which rounds otherwise: there alone bits would
    be equal.
    """
    search(load_study(STUDY, installed()), installed(), options(tmp_path))
    old, old_curve, old_rungs = trial_of(folder)
    new, new_curve, new_rungs = trial_of(tmp_path)
    assert (old.state, old.fence, new.fence) == ("complete", 2, 1)
    assert old.fingerprint == new.fingerprint
    assert dict(old.values) == pytest.approx(dict(new.values), rel=1e-4)
    assert [(point.phase, point.step) for point in old_curve] == [
        (p.phase, p.step) for p in new_curve
    ]
    assert [point.loss for point in old_curve] == pytest.approx(
        [p.loss for p in new_curve], rel=1e-2
    )
    assert [(rung.rung, rung.step) for rung in old_rungs] == [(r.rung, r.step) for r in new_rungs]


def test_it_goes_on_from_its_checkpoint_and_its_seconds_are_kept(folder: Path) -> None:
    trial, _, _ = trial_of(folder)
    assert set(trial.stage_seconds) == {"select", "train", "branch", "export", "evaluate"}, (
        "no fork"
    )
    lines = (folder / "artifacts").rglob("seconds.json")
    assert not list(lines), "the folder of a trial that has ended is gone"


def test_it_can_be_refined(folder: Path) -> None:
    end = refine("half", installed(), options(folder), Request((0,), None, 40, 1))
    assert end.error is None
    [row] = end.summary["refinements"]
    assert row["state"] == "complete"
    assert row["values"]["psnr_y"] > 20
