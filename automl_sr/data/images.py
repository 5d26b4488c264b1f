"""Read and write image files without losing what they hold: grey, 16 bit, transparency, colour
profile, orientation.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
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
_TIFF_BITS_TAG = 258
_PNG_GREY_ALPHA = 4
_SHALLOW_MODES = ("RGB", "RGBA", "LA")
"""As what Pillow opens 16 bits per channel but for grey: the upper eight bits of each."""
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
    """A decoded image file: pixels [H, W, C] uint8 or uint16 (C = 1 grey, 3 RGB), alpha [H, W] of
    the same type.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    icc: bytes | None = None
    source: Path | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"A picture needs pixels [H, W, 1 or 3] of uint8 or uint16, got {shape} {dtype}."
            )
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise DataError(f"Alpha {self.alpha.shape} does not fit the pixels {shape}.")


def read(path: str | Path, limit: int | None = None, *, pillow_only: bool = False) -> Picture:
    """Decode a PNG, JPEG, BMP, WebP or TIFF file, turned as its EXIF orientation says; the first
    frame where many.

    limit: most pixels, `PIXEL_LIMIT` where none is given. With `pillow_only` no other decoder sees
    the file, and 16-bit colour is read as 8 bit: for files of strangers.

    Raises DataError, naming file and reason, for a missing, damaged, cut-off, too large or
    unsupported image.
    """
    path = Path(path)
    content = _content(path)
    try:
        with Image.open(io.BytesIO(content), formats=_DECODERS) as image:
            _check_size(path, *image.size, limit)
            bits = _bits(image, content)
            if bits > 8 and not (pillow_only and bits == 16 and image.mode in _SHALLOW_MODES):
                return _read_deep(path, image, content)
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _picture(path, upright)
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} is no image that can be read, or its beginning is damaged."
        ) from error
    except _DAMAGED as error:
        raise DataError(
            f"{path} cannot be decoded: {error}.", "Replace or remove the file."
        ) from error


def probe(path: str | Path, limit: int | None = None) -> tuple[int, int]:
    """(height, width) in pixels after the EXIF orientation; errors as `read`, before any pixel is
    decoded.
    """
    path = Path(path)
    try:
        with Image.open(path, formats=_DECODERS) as image:
            _check_size(
                path, *image.size, limit
            )  # first: Pillow decodes a whole PNG to look for its orientation
            turned = image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8)
            width, height = _stored_size(image)
            if turned:
                return (width, height)
            return (height, width)
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
    """uint8 [H, W, 3]: grey repeated, 16 bit divided by 257 and rounded half up, alpha and profile
    left out.
    """
    pixels = picture.pixels
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.uint32) + 128) // 257
    pixels = pixels.astype(np.uint8)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels


def find_images(folder: str | Path) -> list[Path]:
    """The image files directly in a folder, in natural order (img_2 before img_10); hidden files
    are left out.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", "Check the path.")
    found = []
    for path in folder.iterdir():
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            found.append(path)
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    parts = tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part.casefold())
        for part in re.split(r"(\d+)", name)
        if part
    )
    return parts, name


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


def _check_size(path: Path, width: int, height: int, limit: int | None) -> None:
    if limit is None:
        limit = PIXEL_LIMIT
    if width * height > limit:
        raise DataError(
            f"{path} has {width}x{height} pixels, more than the limit of {limit}.", "Cut it first."
        )


def _bits(image: Image.Image, content: bytes) -> int:
    """Bits per sample as stored: Pillow opens 16-bit colour as 8 bit without a word."""
    if image.format == "PNG":
        return content[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_TIFF_BITS_TAG, (1,))))  # type: ignore[attr-defined]
    return 8


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) before any turning: Pillow swaps the sides of a TIFF at opening, and of
    nothing else.
    """
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        return int(tags[256]), int(tags[257])
    return image.size


def _picture(path: Path, image: Image.Image) -> Picture:
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("F", "I"):
        raise DataError(f"{path} holds 32-bit pixels.", "Store it with 8 or 16 bits per channel.")
    if transparent:
        mode = "LA" if grey else "RGBA"
    elif grey:
        mode = "L"
    else:
        mode = "RGB"
    # A profile of CMYK or Lab does not describe the RGB that comes out of the conversion.
    icc = None
    if image.mode not in ("CMYK", "LAB"):
        icc = image.info.get("icc_profile")
    array = np.array(image if image.mode == mode else image.convert(mode))
    if array.ndim == 2:
        return Picture(array[:, :, None], None, icc, path)
    if transparent:
        return Picture(
            np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1]), icc, path
        )
    return Picture(array, None, icc, path)


def _read_deep(path: Path, image: Image.Image, content: bytes) -> Picture:
    """16 bits per sample: grey through Pillow, colour through OpenCV (Pillow keeps 8 bits of
    it).
    """
    if image.mode in ("F", "I") or _bits(image, content) != 16:
        raise DataError(
            f"{path} holds {_bits(image, content)}-bit pixels.",
            "Store it with 8 or 16 bits per channel.",
        )
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        # Pillow turns TIFF files itself while loading; the tag is then gone.
        array = np.array(ImageOps.exif_transpose(image)).astype(np.uint16)[:, :, None]
        return Picture(array, None, icc, path)
    image.load()  # OpenCV returns half an image for a cut-off file; Pillow refuses it
    import cv2

    if (
        image.format == "TIFF"
    ):  # OpenCV turns some kinds of TIFF and not others, whatever it is asked
        content = tiff_upright(content)
    decoded = cv2.imdecode(
        np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3:
        raise DataError(
            f"{path} is a 16-bit image of a kind that cannot be read.",
            "Store it as RGB or grey PNG.",
        )
    array = _turn(np.asarray(decoded, dtype=np.uint16), orientation)
    grey = image.format == "PNG" and content[25] == _PNG_GREY_ALPHA
    if grey:
        pixels = array[:, :, :1]
    else:
        pixels = array[:, :, 2::-1]
    alpha = None
    if array.shape[2] == 4:
        alpha = np.ascontiguousarray(array[:, :, 3])
    return Picture(np.ascontiguousarray(pixels), alpha, icc, path)


def _turn(array: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Undo an EXIF orientation (1 to 8) of [H, W, C]."""
    if orientation in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _encode(path: Path, suffix: str, picture: Picture) -> bytes:
    name, options, holds_alpha, holds_profile = _FORMATS[suffix]
    if picture.alpha is not None and not holds_alpha:
        raise DataError(f"{path}: {name} files hold no transparency.", "Write a PNG, WebP or TIFF.")
    if picture.icc is not None and not holds_profile:
        raise DataError(
            f"{path}: {name} files hold no colour profile here.", "Write a PNG, JPEG, WebP or TIFF."
        )
    channels = picture.pixels
    if picture.alpha is not None:
        channels = np.concatenate([channels, picture.alpha[:, :, None]], axis=2)
    if channels.dtype == np.uint16:
        if suffix not in _DEEP_ENCODERS:
            raise DataError(
                f"{path}: {name} files hold 8 bits per channel, not 16.", "Write a PNG or TIFF."
            )
        return _DEEP_ENCODERS[suffix](channels, picture.icc)
    image = Image.fromarray(channels[:, :, 0] if channels.shape[2] == 1 else channels)
    if picture.icc is not None:
        extra = {"icc_profile": picture.icc}
    else:
        extra = {}
    stream = io.BytesIO()
    image.save(stream, name, **options, **extra)
    return stream.getvalue()
