"""Read and write image files without losing what they hold.

That may be grey, 16 bit, transparency, a colour profile or an orientation.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from automl_sr.data.high_bit_depth import encode_png16, encode_tiff16, tiff_upright
from automl_sr.errors import DataError
from automl_sr.files import write_atomically

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
PIXEL_LIMIT = 178_956_970
"""Most pixels an image may have: a small file can claim to be huge (decompression bomb).

Pillow's own hard limit.
"""

_DECODERS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
"""Pillow's names of what is read; its other decoders (one of them starts a program) see no file,
whatever is in it.
"""
_ORIENTATION_TAG = 274
_ON_ITS_SIDE = (5, 6, 7, 8)
"""Orientations of EXIF whose height is the stored width."""
_TIFF_BITS_TAG = 258
_PNG_GREY_ALPHA = 4
_SHALLOW_MODES = ("RGB", "RGBA", "LA")
"""As what Pillow opens 16 bits per channel but for grey: the upper eight bits of each."""
_TRANSPARENT_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# What a decoder raises on a damaged file: Pillow alone uses every one of these.
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
    MemoryError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
# suffix -> Pillow's name, save options, and whether the format holds transparency and colour
# profiles
_FORMATS: dict[str, tuple[str, dict[str, Any], bool, bool]] = {
    ".png": ("PNG", {}, True, True),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}, False, True),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}, False, True),
    ".bmp": ("BMP", {}, False, False),
    ".webp": ("WEBP", {"lossless": True, "exact": True}, True, True),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}, True, True),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}, True, True),
}
_DEEP_ENCODERS = {".png": encode_png16, ".tif": encode_tiff16, ".tiff": encode_tiff16}


@dataclass(frozen=True)
class Picture:
    """A decoded image file."""

    pixels: NDArray[Any]
    """[H, W, C] uint8 or uint16: C is 1 for grey, 3 for RGB."""
    alpha: NDArray[Any] | None = None
    """[H, W], of the same type."""
    icc: bytes | None = None
    source: Path | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        dtype = self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"A picture needs pixels [H, W, 1 or 3] of uint8 or uint16, got {shape} {dtype}."
            )
        if self.alpha is None:
            return
        if self.alpha.shape != shape[:2] or self.alpha.dtype != dtype:
            raise DataError(f"Alpha {self.alpha.shape} does not fit the pixels {shape}.")


def read(
    path: str | Path,
    limit: int | None = None,
    *,
    pillow_only: bool = False,
) -> Picture:
    """Decode a PNG, JPEG, BMP, WebP or TIFF file, turned as its EXIF orientation says.

    Of several frames it is the first. limit: most pixels, `PIXEL_LIMIT` where none is given. With
    `pillow_only` no other decoder sees the file, and 16-bit colour is read as 8 bit: for files of
    strangers.

    Raises DataError, naming file and reason, for a missing, damaged, cut-off, too large or
    unsupported image.
    """
    path = Path(path)
    content = _content(path)
    with _errors(path), Image.open(io.BytesIO(content), formats=_DECODERS) as image:
        # Before anything is decoded: the header alone says how large it will be.
        width, height = image.size
        _check_size(path, width, height, limit)
        bits = _bits(image, content)
        shallow = pillow_only and bits == 16 and image.mode in _SHALLOW_MODES
        if bits > 8 and not shallow:
            return _read_deep(path, image, content)
        image.load()
        upright = ImageOps.exif_transpose(image)
        return _picture(path, upright)


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn what decoders raise into DataError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"There is no image {path}.") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} is no image that can be read, or its beginning is damaged."
        ) from error
    except _DAMAGED as error:
        raise DataError(
            f"{path} cannot be decoded: {error}.", "Replace or remove the file."
        ) from error


def probe(path: str | Path, limit: int | None = None) -> tuple[int, int]:
    """Return (height, width) in pixels after the EXIF orientation.

    Errors are those of `read`, before any pixel is decoded.
    """
    path = Path(path)
    with _errors(path), Image.open(path, formats=_DECODERS) as image:
        # First: Pillow decodes a whole PNG to look for its orientation.
        _check_size(path, *image.size, limit)
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        width, height = _stored_size(image)
    if orientation in _ON_ITS_SIDE:
        return width, height
    return height, width


def write(path: str | Path, picture: Picture) -> None:
    """Encode to the format of the suffix, all at once (temporary name, then renamed).

    Raises DataError where the format cannot hold the picture (16 bit: PNG and TIFF; alpha: not JPEG
    and BMP; colour profile: not BMP); nothing is dropped in silence. JPEG is the only lossy one
    (quality 95, full colour resolution).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise DataError(
            f"{path} has no image suffix that can be written.", f"Use one of {', '.join(SUFFIXES)}."
        )
    try:
        write_atomically(path, _encode(path, suffix, picture))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error


def to_rgb8(picture: Picture) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3]: grey repeated, alpha and profile left out.

    16 bit is divided by 257 and rounded half up.
    """
    pixels = picture.pixels
    if pixels.dtype == np.uint16:
        # By 257, not 256: 65535 is 255. In 32 bits, since 65535 + 128 does not fit into 16.
        pixels = (pixels.astype(np.uint32) + 128) // 257
    pixels = pixels.astype(np.uint8)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels


def find_images(folder: str | Path) -> list[Path]:
    """Return the image files directly in a folder, in natural order (img_2 before img_10).

    Hidden files are left out.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", "Check the path.")
    found: list[Path] = []
    for path in folder.iterdir():
        # macOS keeps `._img.png` beside `img.png`, which is no image.
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in SUFFIXES and path.is_file():
            found.append(path)
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return what names are put in order by: numbers by their size, before words."""
    parts: list[tuple[int, int, str]] = []
    for part in re.split(r"(\d+)", name):
        if part.isdecimal():
            parts.append((0, int(part), ""))
        elif part:
            parts.append((1, 0, part.casefold()))
    # The name itself at the end: `A.png` and `a.png` have an order too.
    return tuple(parts), name


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no image {path}.", "Check the path.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not content:
        raise DataError(f"{path} is empty.", "Replace or remove the file.")
    return content


def _check_size(
    path: Path,
    width: int,
    height: int,
    limit: int | None,
) -> None:
    if limit is None:
        limit = PIXEL_LIMIT
    if width * height > limit:
        raise DataError(
            f"{path} has {width}x{height} pixels, more than the limit of {limit}.", "Cut it first."
        )


def _bits(image: Image.Image, content: bytes) -> int:
    """Return the bits per sample as stored."""
    # Pillow opens 16-bit colour as 8 bit without a word.
    if image.format == "PNG":
        return content[24]
    if image.format == "TIFF":
        samples = image.tag_v2.get(_TIFF_BITS_TAG, (1,))  # type: ignore[attr-defined]
        return int(max(samples))
    return 8


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) before any turning."""
    # Pillow swaps the sides of a TIFF at opening, and of nothing else.
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        return int(tags[256]), int(tags[257])
    return image.size


def _picture(path: Path, image: Image.Image) -> Picture:
    if image.mode in ("F", "I"):
        raise DataError(f"{path} holds 32-bit pixels.", "Store it with 8 or 16 bits per channel.")
    transparent = image.mode in _TRANSPARENT_MODES or "transparency" in image.info
    mode = _mode(image.mode in ("1", "L", "LA", "La"), transparent)
    # A profile of CMYK or Lab does not describe the RGB that comes out of the conversion.
    icc = None
    if image.mode not in ("CMYK", "LAB"):
        icc = image.info.get("icc_profile")

    if image.mode != mode:
        image = image.convert(mode)
    array = np.array(image)
    if array.ndim == 2:
        return Picture(
            array[:, :, None],
            None,
            icc,
            path,
        )
    if not transparent:
        return Picture(array, None, icc, path)
    pixels = np.ascontiguousarray(array[:, :, :-1])
    alpha = np.ascontiguousarray(array[:, :, -1])
    return Picture(pixels, alpha, icc, path)


def _mode(grey: bool, transparent: bool) -> str:
    """Return Pillow's name for pixels of 8 bits."""
    if grey and transparent:
        return "LA"
    if grey:
        return "L"
    if transparent:
        return "RGBA"
    return "RGB"


def _read_deep(
    path: Path,
    image: Image.Image,
    content: bytes,
) -> Picture:
    """Read 16 bits per sample: grey through Pillow, colour through OpenCV."""
    bits = _bits(image, content)
    if image.mode in ("F", "I") or bits != 16:
        raise DataError(
            f"{path} holds {bits}-bit pixels.",
            "Store it with 8 or 16 bits per channel.",
        )
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        # Pillow turns TIFF files itself while loading; the tag is then gone.
        upright = ImageOps.exif_transpose(image)
        grey = np.array(upright).astype(np.uint16)
        return Picture(grey[:, :, None], None, icc, path)

    # OpenCV returns half an image for a cut-off file; Pillow refuses it.
    image.load()
    array = _turn(_decoded(path, image, content), orientation)
    # RGB, where OpenCV has BGR.
    pixels = array[:, :, 2::-1]
    if image.format == "PNG" and content[25] == _PNG_GREY_ALPHA:
        pixels = array[:, :, :1]
    alpha = None
    if array.shape[2] == 4:
        alpha = np.ascontiguousarray(array[:, :, 3])
    return Picture(
        np.ascontiguousarray(pixels),
        alpha,
        icc,
        path,
    )


def _decoded(
    path: Path,
    image: Image.Image,
    content: bytes,
) -> NDArray[np.uint16]:
    """Return [H, W, 3 or 4] as stored, not turned, from OpenCV: Pillow keeps 8 bits of colour."""
    import cv2

    # OpenCV turns some kinds of TIFF and not others, whatever it is asked.
    if image.format == "TIFF":
        content = tiff_upright(content)
    data = np.frombuffer(content, np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3:
        raise DataError(
            f"{path} is a 16-bit image of a kind that cannot be read.",
            "Store it as RGB or grey PNG.",
        )
    return np.asarray(decoded, dtype=np.uint16)


def _turn(array: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Undo an EXIF orientation (1 to 8) of [H, W, C]."""
    # In this order: the flips are those of the picture whose sides are swapped back.
    if orientation in _ON_ITS_SIDE:
        array = array.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _encode(
    path: Path,
    suffix: str,
    picture: Picture,
) -> bytes:
    name, options, holds_alpha, holds_profile = _FORMATS[suffix]
    if picture.alpha is not None and not holds_alpha:
        raise DataError(f"{path}: {name} files hold no transparency.", "Write a PNG, WebP or TIFF.")
    if picture.icc is not None and not holds_profile:
        raise DataError(
            f"{path}: {name} files hold no colour profile here.", "Write a PNG, JPEG, WebP or TIFF."
        )
    channels = picture.pixels
    if picture.alpha is not None:
        alpha = picture.alpha[:, :, None]
        channels = np.concatenate([channels, alpha], axis=2)
    if channels.dtype == np.uint16:
        if suffix not in _DEEP_ENCODERS:
            raise DataError(
                f"{path}: {name} files hold 8 bits per channel, not 16.", "Write a PNG or TIFF."
            )
        encode = _DEEP_ENCODERS[suffix]
        return encode(channels, picture.icc)

    # Pillow knows grey only without an axis of channels.
    if channels.shape[2] == 1:
        channels = channels[:, :, 0]
    extra = {}
    if picture.icc is not None:
        extra["icc_profile"] = picture.icc
    stream = io.BytesIO()
    Image.fromarray(channels).save(
        stream,
        name,
        **options,
        **extra,
    )
    return stream.getvalue()
