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
_TIFF_ORIENTATION = 274
_TIFF_UNASSOCIATED_ALPHA = 2


def encode_png16(channels: NDArray[np.uint16], icc: bytes | None) -> bytes:
    """A PNG file of [H, W, 1 to 4] uint16 (grey, grey + alpha, RGB, RGBA), rows filtered with
    'up'.
    """
    height, width, count = channels.shape
    rows = np.ascontiguousarray(channels.astype(">u2")).view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _PNG_FILTER_UP
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOUR_TYPE[count], 0, 0, 0)
    profile = b""
    if icc is not None:
        profile = _png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))
    pixels = _png_chunk(b"IDAT", zlib.compress(filtered.tobytes()))
    return (
        b"\x89PNG\r\n\x1a\n"
        + _png_chunk(b"IHDR", header)
        + profile
        + pixels
        + _png_chunk(b"IEND", b"")
    )


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encode_tiff16(channels: NDArray[np.uint16], icc: bytes | None) -> bytes:
    """A TIFF file of [H, W, 1 to 4] uint16 in one Deflate strip; grey + alpha is stored as RGBA,
    which readers know.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if channels.shape[2] == 2:
        channels = channels[:, :, [0, 0, 0, 1]]
    height, width, count = channels.shape
    strip = zlib.compress(np.ascontiguousarray(channels.astype("<u2")).tobytes())
    tags = ImageFileDirectory_v2(prefix=b"II")
    tags[256], tags[257], tags[258], tags[259] = width, height, (16,) * count, _TIFF_DEFLATE
    tags[262] = 1 if count == 1 else 2  # photometric: black is zero, or RGB
    tags[273], tags[278], tags[279] = (
        0,
        height,
        len(strip),
    )  # Pillow adds the end of the directory to the offset
    tags[277], tags[284] = count, 1
    if count == 4:
        tags[338] = _TIFF_UNASSOCIATED_ALPHA
    if icc is not None:
        tags.tagtype[34675] = _TIFF_ASCII_UNDEFINED
        tags[34675] = icc
    return b"II*\0" + struct.pack("<I", 8) + tags.tobytes(8) + strip


def tiff_upright(content: bytes) -> bytes:
    """The same TIFF file with its orientation tag, where the first directory has one, set to 1
    (upright).
    """
    order = ">"
    if content[:2] == b"II":
        order = "<"
    version, start = struct.unpack_from(order + "HI", content, 2)
    if version != _TIFF_CLASSIC:
        return content
    (entries,) = struct.unpack_from(order + "H", content, start)
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        if struct.unpack_from(order + "H", content, place)[0] == _TIFF_ORIENTATION:
            return content[: place + 8] + struct.pack(order + "H", 1) + content[place + 10 :]
    return content
