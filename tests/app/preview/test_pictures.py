"""Uploads are limited before they are decoded, and pictures are measured as `automl-sr evaluate`
measures.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from automl_sr.app.preview import pictures
from automl_sr.app.preview.pictures import as_original, chosen, decoded, listed, sets_of, to_upscale
from automl_sr.data.catalog import ImageSet
from automl_sr.data.high_bit_depth import encode_png16, encode_tiff16
from automl_sr.data.images import Picture, to_rgb8
from automl_sr.errors import DataError, UseError
from automl_sr.tasks.image_sr.resize import downscale, upscale
from automl_sr.tasks.image_sr.task import ImageSR

MUCH = 1 << 20


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG of a few hundred bytes that claims to be huge."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow refuses to decode any pixel."""

    def load(image: Any) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


@pytest.mark.parametrize(("width", "height"), [(4001, 4000), (40_000, 40_000)])
@pytest.mark.usefixtures("undecoded")
def test_a_bomb_is_refused_before_anything_is_decoded(
    width: int, height: int, tmp_path: Path
) -> None:
    path = bomb(tmp_path / "bomb.png", width, height)
    with pytest.raises(DataError, match=r"bomb\.png") as refused:
        decoded(path, MUCH)
    assert str(tmp_path) not in str(refused.value)


def test_a_file_with_too_many_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(30, 30)).save(path)
    with pytest.raises(DataError, match=r"a\.png has .* bytes, more than the 100 "):
        decoded(path, 100)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"],
)
def test_what_is_no_image_is_refused_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "<b>x.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^<b>x\.png is ") as refused:
        decoded(path, MUCH)
    assert str(tmp_path) not in str(refused.value)


def test_grey_stays_grey_and_transparency_is_left_out_with_a_word(tmp_path: Path) -> None:
    grey = noise(30, 40, 1)
    Image.fromarray(np.concatenate([grey, noise(30, 40, 1, 1)], axis=2)).save(tmp_path / "grey.png")
    picture, notes = decoded(tmp_path / "grey.png", MUCH)
    assert (picture.pixels == grey).all()
    assert picture.alpha is None
    assert notes == ("Its transparency is left out here.",)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("encode", [encode_png16, encode_tiff16])
def test_sixteen_bits_are_read_by_pillow_alone(
    encode: Any, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV saw an upload"))
    deep = np.random.default_rng(channels).integers(0, 65536, (30, 40, channels)).astype(np.uint16)
    path = tmp_path / ("a.png" if encode is encode_png16 else "a.tif")
    path.write_bytes(encode(deep, None))
    picture, _ = decoded(path, MUCH)
    assert picture.pixels.dtype == np.uint8
    colours = deep[:, :, :1] if channels < 3 else deep[:, :, :3]
    assert np.abs(to_rgb8(picture).astype(int) - to_rgb8(Picture(colours)).astype(int)).max() <= 1


def test_a_turned_photograph_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(30, 40)).save(tmp_path / "a.png", exif=exif)
    assert decoded(tmp_path / "a.png", MUCH)[0].pixels.shape == (40, 30, 3)


def test_an_original_is_made_small_as_training_does() -> None:
    pixels = noise(41, 51)
    subject = as_original("a", Picture(pixels), 2, "cut")
    assert subject.original is not None
    assert (subject.original == pixels[:40, :50]).all()
    assert (subject.lr == downscale(pixels[:40, :50], 2)).all()
    assert subject.size == (40, 50)


@pytest.mark.parametrize(("make", "side"), [(as_original, 23), (to_upscale, 7)])
def test_tiny_pictures_are_refused(make: Any, side: int) -> None:
    with pytest.raises(DataError, match=f"a has 50x{side} pixels"):
        make("a", Picture(noise(side, 50)), 2, "cut")


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (30, 900)])
@pytest.mark.parametrize("fit", ["cut", "reduce"])
def test_results_are_kept_within_the_limit_and_it_is_said(
    shape: tuple[int, int], fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "OUTPUT_PIXELS", 10_000)
    pixels = noise(*shape)
    for subject in (
        to_upscale("a", Picture(pixels), 2, fit),
        as_original("a", Picture(pixels), 2, fit),
    ):
        height, width = subject.size
        assert 7_000 < height * width <= 10_000
        assert len(subject.notes) == 1
        assert ("middle" if fit == "cut" else "reduced") in subject.notes[0]


def test_the_middle_of_a_large_image_of_a_set_keeps_its_own_small_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "OUTPUT_PIXELS", 1600)
    hr, lr = noise(60, 80), noise(30, 40, seed=1)
    for path, pixels in ((tmp_path / "a.png", hr), (tmp_path / "ax2.png", lr)):
        Image.fromarray(pixels).save(path)
    found = ImageSet("own", (tmp_path / "a.png",), {2: (tmp_path / "ax2.png",)})
    subject = chosen([found], "0/0", 2, "cut")
    assert subject.original is not None
    assert subject.size == (40, 40)
    assert (subject.lr == lr[5:25, 10:30]).all()
    assert (subject.original == hr[10:50, 20:60]).all()
    assert "those of what you see" in subject.notes[-1]


def test_images_of_a_set_are_chosen_by_a_key_that_is_no_path() -> None:
    task = ImageSR(train="photos-train", valid="photos-valid")
    sets = sets_of(task, "valid", 0)
    assert listed(sets) == [("chelsea", "0/0"), ("coffee", "0/1")]
    assert chosen(sets, "0/1", 2, "cut").name == "coffee"
    for key in ("0/2", "1/0", "/etc/passwd", "../0/0", None, 0, ["0/0"], {"path": "/etc/passwd"}):
        with pytest.raises(UseError, match="not in the study's sets"):
            chosen(sets, key, 2, "cut")


def test_sets_that_are_not_there_are_named() -> None:
    with pytest.raises(UseError, match="names no test sets"):
        sets_of(ImageSR(train="photos-train"), "test", 0)
    with pytest.raises(DataError, match="'Set99'"):
        sets_of(ImageSR(train="photos-train", test="Set99"), "test", 0)


def test_a_share_of_the_training_images_is_what_the_search_validates_on() -> None:
    task = ImageSR(train="photos", valid="30%")
    (found,) = sets_of(task, "valid", 3)
    assert len(found.hr) == 3
    assert (found.name, upscale(chosen([found], "0/0", 2, "cut").lr, 2).ndim) == ("valid", 3)
