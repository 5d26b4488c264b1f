"""Sets are found by name, by path and by layout; a wrong name gets the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from folders import shipped_sets

from automl_sr.data import images
from automl_sr.data.catalog import PHOTOS_TRAIN, PHOTOS_VALID, Catalog, ImageSet
from automl_sr.errors import DataError


def put(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        images.write(folder / name, images.Picture(np.zeros((4, 4, 3), np.uint8)))


def test_a_set_with_hr_and_shipped_lr(tmp_path: Path) -> None:
    put(tmp_path / "Five" / "HR", "b.png", "a.png")
    put(tmp_path / "Five" / "LRbicx2", "ax2.png", "bx2.png")
    put(tmp_path / "Five" / "LRbicx4", "ax4.png")  # incomplete: not offered
    found = Catalog((tmp_path,)).find("Five")
    assert found.name == "Five"
    assert [path.name for path in found.hr] == ["a.png", "b.png"]
    assert {scale: [path.name for path in files] for scale, files in found.lr.items()} == {
        2: ["ax2.png", "bx2.png"]
    }


def test_other_layouts_of_the_field(tmp_path: Path) -> None:
    put(tmp_path / "basicsr" / "GTmod12", "a.png")
    put(tmp_path / "basicsr" / "LRbicx4", "a.png")
    put(tmp_path / "div2k" / "HR", "0001.png")
    put(tmp_path / "div2k" / "LR_bicubic" / "X3", "0001x3.png")
    put(tmp_path / "plain", "a.png", "b.png")
    catalog = Catalog((tmp_path,))
    assert list(catalog.find("basicsr").lr) == [4]
    assert list(catalog.find("div2k").lr) == [3]
    assert len(catalog.find("plain").hr) == 2
    assert set(catalog.names()) >= {"basicsr", "div2k", "plain"}


def test_a_path_is_a_set_too_and_nested_sets_are_found_by_name(tmp_path: Path) -> None:
    put(tmp_path / "Vid4" / "city", "001.png")
    assert Catalog().find(tmp_path / "Vid4" / "city").name == "city"
    assert Catalog((tmp_path,)).find("Vid4/city").name == "Vid4/city"


def test_the_first_folder_wins(tmp_path: Path) -> None:
    put(tmp_path / "one" / "set", "a.png")
    put(tmp_path / "two" / "set", "a.png", "b.png")
    assert len(Catalog((tmp_path / "one", tmp_path / "two")).find("set").hr) == 1
    assert len(Catalog((tmp_path / "missing", tmp_path / "two")).find("set").hr) == 2


def test_a_wrong_name_gets_the_nearest_one_and_the_variable(tmp_path: Path) -> None:
    put(tmp_path / "General100", "a.png")
    with pytest.raises(DataError, match=r"'Genral100'.*'General100'.*AUTOML_SR_DATA"):
        Catalog((tmp_path,)).find("Genral100")


def test_folders_without_images_are_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" not in Catalog((tmp_path,)).names()
    with pytest.raises(DataError, match="holds no images"):
        Catalog().find(tmp_path / "empty")
    with pytest.raises(DataError, match="no folder"):
        ImageSet.from_folder(tmp_path / "missing")


def test_folders_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AUTOML_SR_DATA", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")])
    )
    assert Catalog.from_environment().folders == (tmp_path / "a", tmp_path / "b")
    monkeypatch.delenv("AUTOML_SR_DATA")
    assert Catalog.from_environment().folders == (Path("data"),)


def test_photographs_come_along_in_disjoint_sets() -> None:
    catalog = Catalog()
    train, valid, both = (catalog.find(name) for name in ("photos-train", "photos-valid", "photos"))
    assert {path.name for path in train.hr} == set(PHOTOS_TRAIN)
    assert {path.name for path in valid.hr} == set(PHOTOS_VALID) == {"chelsea.png", "coffee.png"}
    assert {*train.hr, *valid.hr} == set(both.hr)
    assert not {*train.hr} & {*valid.hr}
    assert all(min(images.to_rgb8(images.read(path)).shape[:2]) >= 300 for path in both.hr)
    assert catalog.names() == ["photos", "photos-train", "photos-valid"]


def test_finding_the_photographs_does_not_import_scikit_image() -> None:
    code = (
        "import sys; from automl_sr.data.catalog import Catalog; Catalog().find('photos');"
        "print(sorted({'skimage', 'torch', 'cv2', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.strip() == "[]"


def test_the_shipped_sets_have_every_scale() -> None:
    for name, count in (("Set5", 5), ("Set14", 14)):
        found = Catalog((shipped_sets(),)).find(name)
        assert len(found.hr) == count
        assert {scale: len(files) for scale, files in found.lr.items()} == {
            2: count,
            3: count,
            4: count,
        }
