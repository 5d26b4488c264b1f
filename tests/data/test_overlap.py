"""Images shared by two sets are found, identical and near-duplicate ones apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folders import shipped_sets
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from automl_sr.data import images, overlap
from automl_sr.data.catalog import Catalog, ImageSet
from automl_sr.data.images import Picture
from automl_sr.data.overlap import ImageMark, content_overlap, duplicates_within, near_duplicates


def photo(name: str) -> Path:
    return next(path for path in Catalog().find("photos").hr if path.stem == name)


def names(pairs: list[tuple[Path, Path]]) -> list[tuple[str, str]]:
    return [(first.name, second.name) for first, second in pairs]


def test_the_same_pixels_are_found_in_another_format_and_under_another_name(tmp_path: Path) -> None:
    pixels = images.read(photo("coffee")).pixels
    images.write(tmp_path / "other.bmp", Picture(pixels))
    images.write(tmp_path / "half.png", Picture(pixels[:200]))
    assert names(
        content_overlap(
            ImageSet("a", (photo("coffee"), photo("chelsea"))), ImageSet.from_folder(tmp_path)
        )
    ) == [("coffee.png", "other.bmp")]


def test_a_resized_and_compressed_copy_is_a_near_duplicate_and_another_photograph_is_not(
    tmp_path: Path,
) -> None:
    with Image.open(photo("coffee")) as original:
        original.resize((300, 200), Image.Resampling.LANCZOS).save(
            tmp_path / "copy.jpg", quality=40
        )
    found = near_duplicates(
        ImageSet("a", (photo("coffee"), photo("chelsea"))), ImageSet.from_folder(tmp_path)
    )
    assert [(match.first.name, match.second.name) for match in found] == [
        ("coffee.png", "copy.jpg")
    ]
    assert 0 <= found[0].distance <= overlap.NEAR


def test_identical_images_are_not_reported_as_near_duplicates() -> None:
    one = ImageSet("a", (photo("coffee"),))
    assert names(content_overlap(one, one)) == [("coffee.png", "coffee.png")]
    assert near_duplicates(one, one) == []


def test_training_and_validation_photographs_do_not_overlap() -> None:
    train, valid = Catalog().find("photos-train"), Catalog().find("photos-valid")
    assert content_overlap(train, valid) == []
    assert near_duplicates(train, valid) == []


def test_known_overlaps_of_the_standard_sets() -> None:
    catalog = Catalog((shipped_sets(),))
    set5, set14 = catalog.find("Set5"), catalog.find("Set14")
    assert content_overlap(set5, set14) == []
    assert [(match.first.stem, match.second.stem) for match in near_duplicates(set14, set5)] == [
        ("face", "head")
    ]
    if "T91" not in catalog.names():
        pytest.skip("T91 is not in the data folder")
    same, near = duplicates_within(overlap.marks(catalog.find("T91")))
    assert names(same) == [("t36.png", "t65.png")]
    assert near == []


def test_unreadable_files_do_not_stop_a_comparison(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", Picture(np.zeros((16, 16, 3), np.uint8)))
    (tmp_path / "b.png").write_text("no image")
    found = ImageSet.from_folder(tmp_path)
    assert names(content_overlap(found, found)) == [("a.png", "a.png")]


bits = st.lists(st.binary(min_size=32, max_size=32), max_size=6)


@given(bits, bits, st.integers(0, 256))
def test_distances_are_numbers_of_differing_bits(
    left: list[bytes], right: list[bytes], limit: int
) -> None:
    def made(side: str, values: list[bytes]) -> list[ImageMark]:
        return [
            ImageMark(Path(f"{side}{i}"), f"{side}{i}", np.frombuffer(value, np.uint8))
            for i, value in enumerate(values)
        ]

    found = {
        (match.first, match.second): match.distance
        for match in overlap.alike(made("a", left), made("b", right), limit)
    }
    expected = {
        (Path(f"a{i}"), Path(f"b{j}")): distance
        for i, x in enumerate(left)
        for j, y in enumerate(right)
        if (distance := (int.from_bytes(x) ^ int.from_bytes(y)).bit_count()) <= limit
    }
    assert found == expected


def test_blocks_of_rows_give_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = [
        ImageMark(Path(str(i)), str(i), rng.integers(0, 256, 32, dtype=np.uint8)) for i in range(9)
    ]
    whole = overlap.alike(values, values, 120)
    monkeypatch.setattr(overlap, "_BYTES_AT_ONCE", 600)
    assert overlap.alike(values, values, 120) == whole
    assert len(whole) > 0
