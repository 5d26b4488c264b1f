"""What is downloaded: files as they were stored, under plain names; what is gone or altered is
said.
"""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import pytest
import search_world
from search_world import find, load, run_fast

from automl_sr.app.store_cache import StoreCache
from automl_sr.app.tabs.downloads import EVERYTHING, downloads_of
from automl_sr.app.tabs.export import (
    MOST_IMAGES,
    SEARCHED,
    described,
    file_name,
    model_words,
    models_of,
    reported,
)
from automl_sr.errors import TrialError
from automl_sr.plugin.registry import discover
from automl_sr.store.records import ArtifactRecord, StudyRecord, TrialRecord
from automl_sr.store.refinements import RefinementRecord
from automl_sr.trial.types import Outcome

REGISTRY = search_world.registry()
ALL = ["README.md", EVERYTHING, "model.onnx", "model.safetensors", "study.yaml"]
SCRIPT = "<script>alert('x')</script>"


def run(plan: Any, setting: Any, journal: Any, place: Path) -> Outcome:
    """Fail every other trial, else leave weights too."""
    if plan.params["architecture.line.width"] % 2:
        raise TrialError(f"no luck {SCRIPT}")
    outcome = run_fast(plan, setting, journal, place)
    (place / "model.safetensors").write_bytes(b"weights")
    return Outcome(
        "complete",
        outcome.values,
        {**outcome.artifacts, "weights": place / "model.safetensors"},
        {},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downloads")
    find(load(trials=4), folder, run)
    return folder


@pytest.fixture
def cache(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    made = StoreCache(f"sqlite:///{store}/store.db", REGISTRY)
    yield made
    made.close()


@pytest.fixture
def study(cache: StoreCache) -> StudyRecord:
    return cache.snapshot("world").study


@pytest.fixture
def trial(cache: StoreCache) -> TrialRecord:
    return cache.snapshot("world").trial(0)


def refinement(trial: TrialRecord, **fields: Any) -> RefinementRecord:
    given = {field.name: None for field in dataclasses.fields(RefinementRecord)}
    given |= {
        "id": 5,
        "number": trial.number,
        "steps": 4000,
        "seed": 2,
        "state": "complete",
        "seconds": 1.0,
    }
    given |= {"values": {"score": 31.0}, "tests": {}, "artifacts": trial.artifacts, **fields}
    return RefinementRecord(**given)  # type: ignore[arg-type]


def test_everything_of_a_trial_is_there_alone_and_in_one_archive(
    study: StudyRecord, trial: TrialRecord, tmp_path: Path
) -> None:
    downloads = downloads_of(study, trial, None, REGISTRY, tmp_path)
    assert sorted(downloads.files) == ALL
    assert downloads.problems == ()
    assert {name: path.name for name, path in downloads.files.items() if name != EVERYTHING} == {
        name: name for name in ALL if name != EVERYTHING
    }
    assert downloads.files["model.safetensors"].read_bytes() == b"weights"
    assert "name: world-trial-0" in downloads.study_file
    with zipfile.ZipFile(downloads.files[EVERYTHING]) as archive:
        assert sorted(archive.namelist()) == [
            f"world-trial-0/{name}" for name in ALL if name != EVERYTHING
        ]
        assert archive.read("world-trial-0/README.md").startswith(b"# world, trial 0")


def test_the_same_downloads_again_are_the_same_files(
    study: StudyRecord, trial: TrialRecord, tmp_path: Path
) -> None:
    first = downloads_of(study, trial, None, REGISTRY, tmp_path)
    assert downloads_of(study, trial, None, REGISTRY, tmp_path).files == first.files
    first.files["model.onnx"].unlink()  # Gradio removes what is old
    assert downloads_of(study, trial, None, REGISTRY, tmp_path).files["model.onnx"].is_file()


@pytest.mark.parametrize(
    ("change", "said"), [("altered", "its content has changed"), ("gone", "is gone")]
)
def test_a_file_that_is_gone_or_altered_is_said_and_the_others_are_given(
    study: StudyRecord, trial: TrialRecord, tmp_path: Path, change: str, said: str
) -> None:
    stored = Path(trial.artifacts["onnx"].url)
    content = stored.read_bytes()
    try:
        if change == "gone":
            stored.unlink()
        else:
            stored.write_bytes(b"something else")
        downloads = downloads_of(study, trial, None, REGISTRY, tmp_path)
    finally:
        stored.write_bytes(content)
    assert sorted(downloads.files) == [name for name in ALL if name != "model.onnx"]
    assert len(downloads.problems) == 1
    assert downloads.problems[0].startswith("model.onnx cannot be had: ")
    assert said in downloads.problems[0]


def test_a_place_that_nobody_knows_is_said(
    study: StudyRecord, trial: TrialRecord, tmp_path: Path
) -> None:
    far = {
        **trial.artifacts,
        "onnx": ArtifactRecord("onnx", "unknown-protocol://x/y", "../../../etc", 3),
    }
    downloads = downloads_of(
        study, dataclasses.replace(trial, artifacts=far), None, REGISTRY, tmp_path / "own"
    )
    assert "model.onnx" not in downloads.files
    assert downloads.problems[0].startswith("model.onnx cannot be had: ")
    assert [path.name for path in tmp_path.iterdir() if path.name != "uploads"] == ["own"]


def test_a_trial_without_a_model_still_has_its_study_file(
    cache: StoreCache, study: StudyRecord, tmp_path: Path
) -> None:
    shown = cache.snapshot("world")
    failed = next(trial for trial in shown.trials if trial.state == "failed")
    downloads = downloads_of(study, failed, None, REGISTRY, tmp_path)
    assert sorted(downloads.files) == ["study.yaml"]
    assert "is failed and left no model" in downloads.problems[0]
    said = described(shown, failed, downloads)
    assert "<script>" not in said
    assert "no luck &lt;script&gt;" in said


def test_without_the_plugins_the_model_is_still_given(
    study: StudyRecord, trial: TrialRecord, tmp_path: Path
) -> None:
    downloads = downloads_of(study, trial, None, discover(entry_points=()), tmp_path)
    assert "model.onnx" in downloads.files
    assert "study.yaml" not in downloads.files
    assert downloads.study_file == ""
    assert downloads.problems[0].startswith("There is no study file of this plan: ")


def test_a_refined_model_has_a_card_and_an_archive_of_its_own(
    study: StudyRecord, trial: TrialRecord, tmp_path: Path
) -> None:
    downloads = downloads_of(study, trial, refinement(trial), REGISTRY, tmp_path)
    assert downloads.files[EVERYTHING].name == "world-trial-0-refined-4000-2.zip"
    assert "trial 0, refined" in downloads.files["README.md"].read_text()


def test_models_trained_longer_are_offered_beside_that_of_the_search(
    cache: StoreCache, trial: TrialRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [refinement(trial), refinement(trial, id=6, state="failed")]
    monkeypatch.setattr("automl_sr.app.tabs.export.refinements", lambda *_: rows)
    found = models_of(cache, cache.snapshot("world"), trial)
    assert {key: model_words(refined) for key, refined in found.items()} == {
        SEARCHED: "as the search left it",
        "refined-5": "refined: 4,000 further steps, seed 2",
    }


@pytest.mark.parametrize(
    ("name", "expected"), [("tiny-x2", "tiny-x2"), ("../a/b", "___a_b"), ("a\nb.html", "a_b_html")]
)
def test_a_file_is_named_plainly(name: str, expected: str) -> None:
    assert file_name(name) == expected


def said_of(cache: StoreCache, name: Any, images: Any) -> list[str]:
    """Everything that is said while a report is made."""
    return [said for said, _ in reported(cache, name, images)]


def test_a_report_is_made_with_words_on_the_way(cache: StoreCache, tmp_path: Path) -> None:
    said = said_of(cache, "world", 0)
    assert "Waits for its turn" in said[0]
    assert any("Reading the study" in text for text in said)
    assert "The report is made." in said[-1]
    made = list((tmp_path / "uploads").rglob("world.html"))
    assert len(made) == 1
    assert made[0].read_text().startswith("<!DOCTYPE html>")
    assert SCRIPT not in made[0].read_text()


@pytest.mark.parametrize(
    ("name", "images", "message"),
    [
        (None, 3, "Choose a study above"),
        ("other", 3, "There is no study"),
        ("world", MOST_IMAGES + 1, f"A report shows 0 to {MOST_IMAGES} images."),
        ("world", -1, f"A report shows 0 to {MOST_IMAGES} images."),
        ("world", None, f"A report shows 0 to {MOST_IMAGES} images."),
        ("world", "three", f"A report shows 0 to {MOST_IMAGES} images."),
        ("world", 2.5, f"A report shows 0 to {MOST_IMAGES} images."),
        (["world"], 3, "no text"),
    ],
)
def test_a_report_that_cannot_be_made_is_one_sentence(
    cache: StoreCache, name: Any, images: Any, message: str
) -> None:
    said = said_of(cache, name, images)
    assert message in said[-1]
