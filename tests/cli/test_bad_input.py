"""Bad input to `search`: one line that says what is wrong, exit code 2, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from automl_sr.cli.main import main
from automl_sr.errors import DataError
from automl_sr.tasks.image_sr.task import ImageSR

STUDY = """
name: bad-input
task: {kind: image-sr, scale: 2, train: [TRAIN], valid: [VALID], color: y}
objectives: [psnr_y]
budget: {trials: 1, steps: 40}
search: {scheduler: none, threads: 1}
space: {architecture: {espcn: {width: 8}}, recipe: {batch: 2, patch: 12}}
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two folders of small photographs-like images that differ."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 3), ("valid", 1)):
        (tmp_path / name).mkdir()
        for index in range(count):
            smooth = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize(
                (64, 48)
            )
            smooth.save(tmp_path / name / f"{index}.png")
    return tmp_path


def write_study(folder: Path, *changes: tuple[str, str]) -> Path:
    text = STUDY.replace("TRAIN", str(folder / "train")).replace("VALID", str(folder / "valid"))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def search(folder: Path, study: Path, *options: str) -> int:
    place = folder / "results"
    return main(
        [
            "search",
            str(study),
            "--store",
            f"sqlite:///{place}/db",
            "--artifacts",
            f"{place}/artifacts",
            "--json",
            *options,
        ]
    )


def refuse(folder: Path, study: Path, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    code = search(folder, study)
    printed = capsys.readouterr()
    assert code == 2, printed.err
    assert printed.out == ""
    (line,) = [line for line in printed.err.splitlines() if line]
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert not (folder / "results" / "artifacts").exists() or not any(
        (folder / "results" / "artifacts").iterdir()
    )
    assert not (folder / "results" / "db").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("budget: {", "budgets: {"), ["study.yaml:5", "budgets", "Did you mean 'budget'?"]),
        (
            ("{espcn: {width: 8}}", "{espncn: {}}"),
            ["study.yaml:7", "espncn", "Did you mean 'espcn'?"],
        ),
        (("width: 8", "width: [32, 16]"), ["study.yaml:7", "width", "32", "16"]),
        (("scale: 2", "scale: 5"), ["study.yaml:3", "scale", "5", "2"]),
        (("objectives: [psnr_y]", "objectives: [psnr]"), ["study.yaml:4", "psnr", "psnr_y"]),
    ],
    ids=["unknown key", "unknown technique", "empty range", "scale 5", "unknown metric"],
)
def test_a_study_file_that_is_wrong(
    images: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], words: list[str]
) -> None:
    refuse(images, write_study(images, change), capsys, *words)


def test_a_training_folder_without_images(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (images / "train").iterdir():
        path.unlink()
    (images / "train" / "notes.txt").write_text("no image")
    refuse(images, write_study(images), capsys, "train", "image")


def test_a_study_file_that_is_a_directory(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(images, images, capsys, str(images), "is a directory")


def test_a_validation_image_that_is_also_in_the_training_set(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.open(images / "train" / "1.png").save(images / "valid" / "other-name.bmp")
    refuse(images, write_study(images), capsys, "other-name", "training set")


def test_a_drawn_validation_image_is_not_trained_on_under_another_name(images: Path) -> None:
    for path in list((images / "train").iterdir()):
        Image.open(path).save(path.with_name(f"copy-of-{path.name}"))
    task = ImageSR(scale=2, train=str(images / "train"), valid="10%", color="y")
    found = task.load(0)
    assert len(found.valid) == 1
    assert len(found.train) == 6 - 2, "neither the image nor its copy"
    [note] = found.notes
    assert "left out of training" in note
    assert "has the pixels of the validation image" in note


def test_a_share_of_images_that_are_all_alike_leaves_none_to_train_on(images: Path) -> None:
    for path in (images / "train").iterdir():
        Image.open(images / "valid" / "0.png").save(path)
    task = ImageSR(scale=2, train=str(images / "train"), valid="10%", color="y")
    with pytest.raises(DataError, match="All training images are copies"):
        task.load(0)


def test_a_store_that_cannot_be_written(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        ["search", str(write_study(images)), "--store", "sqlite:////proc/automl-sr.db", "--json"]
    )
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert len(printed.err.strip().splitlines()) == 1
    assert "/proc/automl-sr.db" in printed.err


def test_a_store_that_is_no_database(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "db").write_bytes(b"just some text, which is no database at all" * 100)
    code = main(["search", str(write_study(images)), "--store", f"sqlite:///{images}/db"])
    assert code == 2
    assert f"{images}/db" in capsys.readouterr().err
    assert (images / "db").read_bytes().startswith(b"just some text")


@pytest.fixture
def truncated(images: Path) -> Path:
    path = images / "train" / "0.png"
    path.write_bytes(path.read_bytes()[:200])
    return path


def test_a_truncated_image_is_named_and_skipped_when_training(
    images: Path, truncated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(images, write_study(images)) == 0
    printed = capsys.readouterr()
    assert str(truncated) in printed.err
    assert json.loads(printed.out)["trials"]["complete"] == 1


def test_a_truncated_image_is_an_error_of_data_check(
    images: Path, truncated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(images / "train")]) == 1
    printed = capsys.readouterr()
    assert truncated.name in printed.out + printed.err


def test_a_near_duplicate_only_warns(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = Image.open(images / "train" / "1.png")
    picture.save(images / "valid" / "again.jpg", quality=90)
    assert search(images, write_study(images)) == 0
    assert "again" in capsys.readouterr().err


def test_a_flat_validation_image_is_left_out_and_said(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 48), (10, 20, 30)).save(images / "valid" / "flat.png")
    assert search(images, write_study(images)) == 0
    printed = capsys.readouterr()
    assert f"{images / 'valid' / 'flat.png'} is one flat colour" in printed.err
    assert 0 < json.loads(printed.out)["front"][0]["values"]["psnr_y"] < 100


def test_files_are_not_kept_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "study.yaml", "--artifacts", "memory://x"]) == 2
    assert "gone when the search ends" in capsys.readouterr().err
