"""The tab Preview without a browser: what it offers, what it answers, and what the viewer gets."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from automl_sr.app.preview import viewer
from automl_sr.app.preview.pictures import as_original
from automl_sr.app.preview.upscaling import Result
from automl_sr.app.preview.viewer import Shown, safe_name
from automl_sr.app.store_cache import Snapshot, StoreCache
from automl_sr.app.tabs import preview
from automl_sr.app.tabs.preview import Wish, answered, images_of, offered_trials, picks_of, why_not
from automl_sr.app.trial_choices import RECENT
from automl_sr.data.images import Picture
from automl_sr.plugin.task import Task

TASK = {
    "kind": "image-sr",
    "scale": 2,
    "train": ["photos-train"],
    "valid": ["photos-valid"],
    "test": ["Set99"],
}


def study(task: dict[str, Any] | None = None) -> Snapshot:
    """A study with five trials, of which two are in the front and one left no model."""
    files = {"onnx": object()}
    rows = {
        number: SimpleNamespace(number=number, artifacts=files, values={}) for number in range(5)
    }
    rows[3].artifacts = {}

    def trial(number: int) -> Any:
        return rows[number]

    spec = {"task": task or TASK, "search": {"seed": 0}}
    made = SimpleNamespace(
        study=SimpleNamespace(spec=spec), trials=tuple(rows.values()), trial=trial
    )
    return cast(
        "Snapshot",
        SimpleNamespace(**vars(made), front=(rows[4], rows[1]), front_numbers=frozenset({1, 4})),
    )


def wish(**changes: Any) -> Wish:
    asked = {
        "study": "s",
        "origin": "valid",
        "image": "valid/0/0",
        "file": None,
        "use": "enlarge",
        "fit": "cut",
    }
    return Wish(**{**asked, "trials": [], **changes})


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Answers a wish, and gives the last words."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(preview, "snapshot", lambda cache, name: study())

    def ask(**changes: Any) -> str:
        *_, (_, words, _) = answered(cast("StoreCache", None), wish(**changes), threading.Event())
        return str(words)

    return ask


def test_the_front_is_offered_first_and_only_what_left_a_model() -> None:
    assert [trial.number for trial in offered_trials(study())] == [4, 1, 0, 2]


def test_of_thousands_the_front_the_newest_and_the_chosen_ones_are_offered() -> None:
    many = study()
    row = many.trials[0]
    many.trials = (
        *many.trials,
        *(SimpleNamespace(**{**vars(row), "number": number}) for number in range(5, 3000)),
    )
    found = [trial.number for trial in offered_trials(many, [17])]
    assert found == [4, 1, 17, *range(3000 - RECENT, 3000)]


@pytest.mark.parametrize(
    ("picked", "selected", "picks"),
    [
        ([], [], [4]),
        ([], [2], [2]),
        ([1], [2], [1, 2]),
        ([1, 2], [1], [1, 2]),
        ([9], [3], [4]),
        ([0, 1, 2, 4], [4], [0, 1, 2, 4]),
    ],
)
def test_the_selected_trial_joins_those_that_are_picked(
    picked: list[int], selected: list[int], picks: list[int]
) -> None:
    assert picks_of(offered_trials(study()), picked, selected) == picks


def test_what_was_chosen_of_a_set_stays_chosen() -> None:
    first, none = images_of(study(), "valid", None)
    assert none == ""
    assert first.value == "valid/0/0"
    assert "value" not in images_of(study(), "valid", "valid/0/1")[0].constructor_args
    assert images_of(study(), "example", "valid/0/1")[0].value == "example/0/0"


def test_sets_that_are_missing_are_named() -> None:
    offered, reason = images_of(study(), "test", None)
    assert offered.choices == []
    assert "'Set99'" in reason


def test_other_tasks_have_an_empty_state() -> None:
    class Mute(Task):
        kind = "mute"

    cache = cast("StoreCache", SimpleNamespace(registry=SimpleNamespace(tasks={"mute": Mute})))
    assert "'mute' have no pictures" in why_not(study({"kind": "mute"}), cache)
    assert "'video-sr' is not installed" in why_not(study({"kind": "video-sr"}), cache)
    assert why_not(study(), cache) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trials": [0, 1, 2, 4, 0, 7, 8]}, "At most 4 trials"),
        ({"trials": [3]}, "Trial 3 left no ONNX file"),
        ({"trials": ["../0"]}, "A trial is named by its number"),
        ({"origin": "/etc"}, "kind of picture is not known"),
        ({"origin": "test"}, "&#x27;Set99&#x27;"),
        ({"image": "valid/0/9"}, "not in the study&#x27;s sets"),
        ({"image": {"path": "/etc/passwd"}}, "not in the study&#x27;s sets"),
        ({"origin": "upload"}, "No picture has been uploaded"),
        ({"origin": "upload", "file": {"path": "/etc/passwd"}}, "No picture has been uploaded"),
        ({"origin": "upload", "file": "/etc/passwd"}, "not uploaded here"),
    ],
)
def test_a_wish_that_cannot_be_is_answered_in_a_sentence(
    changes: dict[str, Any], sentence: str, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "MOST_TRIALS", 4)
    assert sentence in said(**changes)


def test_a_picture_alone_is_shown_with_bicubic(said: Any, tmp_path: Path) -> None:
    assert "Done." in said()
    names = sorted(path.name for path in tmp_path.glob("preview-*/*"))
    assert names == ["chelsea-x2-bicubic.png", "chelsea-x2-original.png"]


def test_pictures_are_files_without_loss_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(viewer, "KEPT_RUNS", 2)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    subject = as_original("<i>a b", Picture(pixels), 2, "cut")
    for _ in range(4):
        shown = Shown(subject)
        shown.add(Result("original", "original", subject.original))
        shown.add(Result("7", "trial 7", error="gone <b>"))
    value = json.loads(shown.value())
    assert (value["width"], value["height"], value["reference"]) == (60, 40, "original")
    assert [pane.get("file") for pane in value["panes"]] == ["i-a-b-x2-original.png", None]
    assert value["panes"][1]["error"] == "gone <b>"
    assert (np.asarray(Image.open(shown.folder / "i-a-b-x2-original.png")) == pixels).all()
    assert len(list(tmp_path.glob("preview-*"))) == 3


@pytest.mark.parametrize(
    ("name", "safe"), [("../../x", "x"), ("Äé", "picture"), ("a" * 99, "a" * 60), ("b_1", "b_1")]
)
def test_names_of_files_are_plain(name: str, safe: str) -> None:
    assert safe_name(name) == safe
