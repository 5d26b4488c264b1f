"""Files with 16 bits per channel, which Pillow handles for grey images only.

PNG: ISO/IEC 15948 (Portable Network Graphics). TIFF: Adobe, TIFF Revision 6.0, 1992, with Deflate
compression.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_PNG_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_PNG_FILTER_UP = 2
_TIFF_DEFLATE = 8
_TIFF_ASCII_UNDEFINED = 7
_TIFF_CLASSIC = 42
_TIFF_UNASSOCIATED_ALPHA = 2
_TIFF_BLACK_IS_ZERO = 1
_TIFF_RGB = 2

# Numbers of tags.
_TIFF_WIDTH = 256
_TIFF_HEIGHT = 257
_TIFF_BITS = 258
_TIFF_COMPRESSION = 259
_TIFF_PHOTOMETRIC = 262
_TIFF_STRIP_OFFSETS = 273
_TIFF_ORIENTATION = 274
_TIFF_SAMPLES = 277
_TIFF_ROWS_PER_STRIP = 278
_TIFF_STRIP_BYTES = 279
_TIFF_PLANAR = 284
_TIFF_EXTRA_SAMPLES = 338
_TIFF_PROFILE = 34675


def encode_png16(channels: NDArray[np.uint16], icc: bytes | None) -> bytes:
    """Return a PNG file of [H, W, 1 to 4] uint16: grey, grey + alpha, RGB or RGBA."""
    height, width, count = channels.shape
    big_endian = np.ascontiguousarray(channels.astype(">u2"))
    rows = big_endian.view(np.uint8).reshape(height, -1)
    # Each row as its difference to the one above, byte by byte: photographs get smaller so.
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _PNG_FILTER_UP
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]

    header = struct.pack(
        ">IIBBBBB",
        width,
        height,
        16,
        _PNG_COLOUR_TYPE[count],
        0,
        0,
        0,
    )
    parts = [b"\x89PNG\r\n\x1a\n", _png_chunk(b"IHDR", header)]
    # The format wants the profile before the pixels.
    if icc is not None:
        parts.append(_png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc)))
    parts.append(_png_chunk(b"IDAT", zlib.compress(filtered.tobytes())))
    parts.append(_png_chunk(b"IEND", b""))
    return b"".join(parts)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    length = struct.pack(">I", len(body))
    content = kind + body
    checksum = struct.pack(">I", zlib.crc32(content))
    return length + content + checksum


def encode_tiff16(channels: NDArray[np.uint16], icc: bytes | None) -> bytes:
    """Return a TIFF file of [H, W, 1 to 4] uint16 in one Deflate strip."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    # Grey + alpha is stored as RGBA, which readers know.
    if channels.shape[2] == 2:
        channels = channels[:, :, [0, 0, 0, 1]]
    height, width, count = channels.shape
    little_endian = np.ascontiguousarray(channels.astype("<u2"))
    strip = zlib.compress(little_endian.tobytes())

    tags = ImageFileDirectory_v2(prefix=b"II")
    tags[_TIFF_WIDTH] = width
    tags[_TIFF_HEIGHT] = height
    tags[_TIFF_BITS] = (16,) * count
    tags[_TIFF_COMPRESSION] = _TIFF_DEFLATE
    tags[_TIFF_PHOTOMETRIC] = _TIFF_RGB
    if count == 1:
        tags[_TIFF_PHOTOMETRIC] = _TIFF_BLACK_IS_ZERO
    # Pillow adds the end of the directory to the offset.
    tags[_TIFF_STRIP_OFFSETS] = 0
    tags[_TIFF_SAMPLES] = count
    tags[_TIFF_ROWS_PER_STRIP] = height
    tags[_TIFF_STRIP_BYTES] = len(strip)
    tags[_TIFF_PLANAR] = 1
    if count == 4:
        tags[_TIFF_EXTRA_SAMPLES] = _TIFF_UNASSOCIATED_ALPHA
    if icc is not None:
        # Pillow does not know by itself of which type the profile's tag is.
        tags.tagtype[_TIFF_PROFILE] = _TIFF_ASCII_UNDEFINED
        tags[_TIFF_PROFILE] = icc
    # The directory begins right behind the 8 bytes of the header.
    return b"II*\0" + struct.pack("<I", 8) + tags.tobytes(8) + strip


def tiff_upright(content: bytes) -> bytes:
    """Return the same TIFF file, said to be upright.

    That is its orientation tag, where the first directory has one, set to 1.
    """
    order = ">"
    if content[:2] == b"II":
        order = "<"
    version, start = struct.unpack_from(
        order + "HI",
        content,
        2,
    )
    # BigTIFF has wider entries.
    if version != _TIFF_CLASSIC:
        return content
    (entries,) = struct.unpack_from(
        order + "H",
        content,
        start,
    )
    first = start + 2
    for place in range(first, first + 12 * entries, 12):
        (tag,) = struct.unpack_from(
            order + "H",
            content,
            place,
        )
        if tag == _TIFF_ORIENTATION:
            upright = struct.pack(order + "H", 1)
            return content[: place + 8] + upright + content[place + 10 :]
    return content
