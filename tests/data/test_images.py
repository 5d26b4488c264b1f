"""Image files are read and written without losing anything, or the person is told which file cannot
be used and why.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageCms

from automl_sr.data import images
from automl_sr.data.images import Picture
from automl_sr.errors import DataError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION = 274


def noise(*shape: int, dtype: type = np.uint8, seed: int = 0) -> NDArray[np.generic]:
    return np.random.default_rng(seed).integers(
        0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True
    )


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 3, columns * 2, rows + columns], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_pixels_come_back_as_written(tmp_path: Path, suffix: str, channels: int) -> None:
    picture = Picture(noise(13, 17, channels))
    images.write(tmp_path / f"a{suffix}", picture)
    back = images.read(tmp_path / f"a{suffix}")
    expected = (
        images.to_rgb8(picture) if suffix == ".webp" else picture.pixels
    )  # WebP knows no grey
    np.testing.assert_array_equal(back.pixels, expected)
    assert back.alpha is None
    assert back.source == tmp_path / f"a{suffix}"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_16_bit_pixels_alpha_and_profile_come_back_as_written(
    tmp_path: Path, suffix: str, channels: int, with_alpha: bool
) -> None:
    alpha = noise(13, 17, dtype=np.uint16, seed=1) if with_alpha else None
    picture = Picture(noise(13, 17, channels, dtype=np.uint16), alpha, SRGB)
    images.write(tmp_path / f"a{suffix}", picture)
    back = images.read(tmp_path / f"a{suffix}")
    stored_as_rgb = suffix == ".tif" and channels == 1 and with_alpha
    np.testing.assert_array_equal(
        back.pixels, np.repeat(picture.pixels, 3, 2) if stored_as_rgb else picture.pixels
    )
    assert back.pixels.dtype == np.uint16
    assert back.icc == SRGB
    if with_alpha:
        np.testing.assert_array_equal(back.alpha, alpha)
    else:
        assert back.alpha is None


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_alpha_and_profile_are_kept(tmp_path: Path, suffix: str, channels: int) -> None:
    picture = Picture(noise(9, 8, channels), noise(9, 8, seed=2), SRGB)
    images.write(tmp_path / f"a{suffix}", picture)
    back = images.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(images.to_rgb8(back), images.to_rgb8(picture))
    np.testing.assert_array_equal(back.alpha, picture.alpha)
    assert back.icc == SRGB


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_stays_close_and_keeps_grey_and_profile(tmp_path: Path, channels: int) -> None:
    pixels = smooth(40, 48)[:, :, :channels]
    images.write(tmp_path / "a.jpg", Picture(pixels, icc=SRGB))
    back = images.read(tmp_path / "a.jpg")
    assert back.pixels.shape == pixels.shape
    assert np.abs(back.pixels.astype(int) - pixels).mean() < 2
    assert back.icc == SRGB


@pytest.mark.parametrize(
    ("suffix", "picture", "word"),
    [
        (".jpg", Picture(noise(4, 4, 3), noise(4, 4)), "transparency"),
        (".bmp", Picture(noise(4, 4, 3), noise(4, 4)), "transparency"),
        (".bmp", Picture(noise(4, 4, 3), icc=SRGB), "profile"),
        (".jpg", Picture(noise(4, 4, 3, dtype=np.uint16)), "8 bits"),
        (".webp", Picture(noise(4, 4, 3, dtype=np.uint16)), "8 bits"),
        (".gif", Picture(noise(4, 4, 3)), "suffix"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_not_dropped(
    tmp_path: Path, suffix: str, picture: Picture, word: str
) -> None:
    with pytest.raises(DataError, match=word):
        images.write(tmp_path / f"a{suffix}", picture)
    assert list(tmp_path.iterdir()) == []


def test_palette_images_become_rgb_with_their_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(smooth(20, 20)).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    palette.save(tmp_path / "plain.png")
    palette.save(tmp_path / "clear.png", transparency=0)
    np.testing.assert_array_equal(
        images.read(tmp_path / "plain.png").pixels, np.array(palette.convert("RGB"))
    )
    clear = images.read(tmp_path / "clear.png")
    np.testing.assert_array_equal(clear.alpha, np.where(np.array(palette) == 0, 0, 255))


@pytest.mark.parametrize("mode", ["1", "CMYK", "LA"])
def test_other_modes_are_read(tmp_path: Path, mode: str) -> None:
    Image.fromarray(smooth(20, 22)).convert(mode).save(tmp_path / "a.tif")
    back = images.read(tmp_path / "a.tif")
    assert back.pixels.shape == (20, 22, 3 if mode == "CMYK" else 1)
    assert (back.alpha is not None) == (mode == "LA")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_orientation_is_applied(
    tmp_path: Path, orientation: int, deep: bool, suffix: str
) -> None:
    shown = smooth(10, 14)
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1),
    }[orientation]  # fmt: skip
    stored = np.ascontiguousarray(undo(shown))
    path = tmp_path / f"a{suffix}"
    if deep:
        images.write(path, Picture(stored.astype(np.uint16) * 257))
        _tag_orientation(path, orientation)
    else:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(stored).save(path, exif=exif)
    np.testing.assert_array_equal(images.to_rgb8(images.read(path)), shown)
    assert images.probe(path) == (10, 14)


def test_a_photograph_of_a_turned_camera_keeps_its_profile(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    shown = smooth(40, 56)
    Image.fromarray(np.rot90(shown)).save(
        tmp_path / "a.jpg", quality=95, subsampling=0, exif=exif, icc_profile=SRGB
    )
    back = images.read(tmp_path / "a.jpg")
    assert back.pixels.shape == shown.shape
    assert np.abs(back.pixels.astype(int) - shown).mean() < 2
    assert back.icc == SRGB
    assert images.probe(tmp_path / "a.jpg") == (40, 56)


def _tag_orientation(path: Path, orientation: int) -> None:
    """Put an orientation into a 16-bit file: an eXIf chunk after the PNG header, or a tag of the
    TIFF directory.
    """
    import struct
    import zlib

    content = path.read_bytes()
    if path.suffix == ".png":
        body = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(
            ">HHIHHI", ORIENTATION, 3, 1, orientation, 0, 0
        )
        chunk = (
            struct.pack(">I", len(body))
            + b"eXIf"
            + body
            + struct.pack(">I", zlib.crc32(b"eXIf" + body))
        )
        path.write_bytes(content[:33] + chunk + content[33:])
        return
    # Replace a tag that readers may do without (PlanarConfiguration, 284 = 1) by Orientation; tags
    # must stay sorted.
    count = struct.unpack_from("<H", content, 8)[0]
    entries = [content[10 + 12 * i : 22 + 12 * i] for i in range(count)]
    entries = [e for e in entries if struct.unpack_from("<H", e)[0] != 284]
    entries.append(struct.pack("<HHIHH", ORIENTATION, 3, 1, orientation, 0))
    entries.sort(key=lambda e: struct.unpack_from("<H", e)[0])
    path.write_bytes(content[:10] + b"".join(entries) + content[10 + 12 * count :])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9])
def test_a_cut_off_file_is_named_with_the_reason(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    images.write(path, Picture(noise(64, 64, 3)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=f"cut{suffix}"):
        images.read(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_cut_off_16_bit_file_is_named(
    tmp_path: Path, suffix: str, share: float, channels: int
) -> None:
    path = tmp_path / f"cut{suffix}"
    images.write(path, Picture(noise(64, 64, channels, dtype=np.uint16)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=f"cut{suffix}"):
        images.read(path)


@given(
    st.binary(max_size=64),
    st.integers(0, 200),
    st.sampled_from([".png", ".jpg", ".webp", ".tif", ".bmp"]),
)
def test_damaged_bytes_never_raise_anything_but_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, place: int, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    images.write(path, Picture(noise(12, 12, 3)))
    content = path.read_bytes()
    path.write_bytes(content[:place] + junk + content[place + len(junk) :])
    try:
        read_or_named = images.read(path).pixels.ndim == 3
    except DataError as error:
        read_or_named = str(path) in str(error)
    assert read_or_named


def test_missing_files_text_files_and_32_bit_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    for name in ("missing.png", "text.png", "float.tif"):
        with pytest.raises(DataError, match=name):
            images.read(tmp_path / name)


def test_an_image_that_claims_to_be_huge_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.write(tmp_path / "a.png", Picture(noise(20, 20, 3)))
    monkeypatch.setattr(images, "PIXEL_LIMIT", 399)
    with pytest.raises(DataError, match="limit of 399"):
        images.read(tmp_path / "a.png")
    with pytest.raises(DataError, match="limit of 399"):
        images.probe(tmp_path / "a.png")


@given(arrays(np.uint16, (3, 4, 1)))
def test_16_bit_is_rounded_to_the_nearest_8_bit_value(pixels: NDArray[np.uint16]) -> None:
    expected = np.floor(pixels / 65535 * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(images.to_rgb8(Picture(pixels)), np.repeat(expected, 3, axis=2))


def test_alpha_is_left_out_of_rgb8() -> None:
    pixels = noise(3, 3, 3)
    np.testing.assert_array_equal(
        images.to_rgb8(Picture(pixels, np.zeros((3, 3), np.uint8))), pixels
    )


def test_images_are_found_in_natural_order(tmp_path: Path) -> None:
    for name in (
        "img_10.png",
        "img_2.PNG",
        "b.jpeg",
        "A.webp",
        "notes.txt",
        ".hidden.png",
        "1.tif",
    ):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.find_images(tmp_path)] == [
        "1.tif", "A.webp", "b.jpeg", "img_2.PNG", "img_10.png",
    ]  # fmt: skip
    with pytest.raises(DataError, match="nowhere"):
        images.find_images(tmp_path / "nowhere")


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", Picture(noise(4, 4, 3)))
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(DataError):
        images.write(tmp_path / "a.png" / "a.png", Picture(noise(4, 4, 3)))
    images.write(tmp_path / "a.png", Picture(noise(4, 4, 3)))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
