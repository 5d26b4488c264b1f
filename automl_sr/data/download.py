"""Fetch an archive of images.

It is checked by sha256, unpacked safely, and visible under its name only when complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO

from automl_sr.data.images import SUFFIXES
from automl_sr.errors import AutomlSRError, DataError

SIZE_LIMIT = 32 * 2**30
"""Most bytes to download, and most bytes to unpack: a small archive can unpack to fill any disk."""

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, all bytes or None)."""

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEPT_FOLDERS = re.compile(r"(HR|GT|GTmod\d+|original|LR.*)", re.IGNORECASE)
_BAD_ARCHIVE = (
    zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, RuntimeError,
    NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class KnownSet:
    """A public set.

    It is an archive with its sha256, or, where no trustworthy hash is published, where to get it.
    """

    about: str
    url: str = ""
    sha256: str = ""


_DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
_SELF_EX_SR = (
    "https://github.com/jbhuang0604/SelfExSR (Huang et al., CVPR 2015) holds it; take the HR files"
)
_FSRCNN = (
    "the project page of Dong et al., ECCV 2016: http://mmlab.ie.cuhk.edu.hk/projects/FSRCNN.html"
)
_BSDS = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/"

# The hashes of DIV2K (Agustsson and Timofte, CVPR workshops 2017) are those that TensorFlow
# Datasets publishes for these files. LR images are not fetched: the bicubic ones are MATLAB's,
# which the loader makes bit for bit.
KNOWN: dict[str, KnownSet] = {
    "DIV2K_train_HR": KnownSet(
        "800 training photographs, 3.3 GiB",
        f"{_DIV2K}/DIV2K_train_HR.zip",
        "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
    ),
    "DIV2K_valid_HR": KnownSet(
        "100 validation photographs, 428 MiB",
        f"{_DIV2K}/DIV2K_valid_HR.zip",
        "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
    ),
    "Set5": KnownSet(_SELF_EX_SR),
    "Set14": KnownSet(_SELF_EX_SR),
    "BSD100": KnownSet(_SELF_EX_SR),
    "Urban100": KnownSet(_SELF_EX_SR),
    "T91": KnownSet(_FSRCNN),
    "General100": KnownSet(_FSRCNN),
    "BSDS200": KnownSet(f"the 200 training images of BSDS300: {_BSDS}"),
    "Manga109": KnownSet("on request from its authors: http://www.manga109.org"),
}


def fetch(
    name: str,
    url: str,
    sha256: str,
    into: Path,
    progress: Progress = lambda done, total: None,
    limit: int = SIZE_LIMIT,
) -> Path:
    """Download a zip or tar archive and unpack its images as the set `into/name`.

    Returns that folder. Raises DataError for a bad name, address, hash or archive and where the set
    exists already; AutomlSRError where the download fails or its sha256 differs. Nothing is left
    behind in either case.
    """
    target = into / name
    _check_request(name, url, sha256, target)
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", suffix=".part", dir=into) as folder:
        archive = Path(folder) / "archive"
        actual = _download(url, archive, progress, limit)
        if actual != sha256.lower():
            raise AutomlSRError(
                f"{url} has sha256 {actual}, not {sha256.lower()}: it was changed or damaged.",
                "Try again; if it stays so, do not use it.",
            )
        unpacked = Path(folder) / "images"
        count = _unpack(archive, unpacked, limit)
        if count == 0:
            raise DataError(
                f"{url} holds no images.", f"Expected files with {', '.join(SUFFIXES)}."
            )
        _set_root(unpacked).rename(target)
    return target


def _check_request(
    name: str,
    url: str,
    sha256: str,
    target: Path,
) -> None:
    if not _NAME.fullmatch(name):
        raise DataError(f"{name!r} is no name for a set.", "Use letters, digits, '.', '_' and '-'.")
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url!r} cannot be fetched.", "Give an http or https address.")
    if not _SHA256.fullmatch(sha256.lower()):
        raise DataError(f"{sha256!r} is no sha256.", "Give its 64 hexadecimal digits.")
    if target.exists():
        raise DataError(f"{target} exists already.", "Remove it first, or choose another name.")


def _download(
    url: str,
    path: Path,
    progress: Progress,
    limit: int,
) -> str:
    """Stream `url` into `path`, and return its sha256."""
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,  # noqa: S310
            path.open("wb") as file,
        ):
            total = _length(response.headers.get("Content-Length", ""))
            digest = hashlib.sha256()
            done = 0
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                # What comes, not what was announced: a server may say anything.
                if done > limit:
                    raise DataError(f"{url} is larger than the limit of {limit} bytes.")
                digest.update(chunk)
                file.write(chunk)
                progress(done, total)
    except urllib.error.HTTPError as error:
        raise AutomlSRError(
            f"{url} cannot be fetched: {error.code} {error.reason}.", "Check the address."
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise AutomlSRError(
            f"{url} cannot be fetched: {reason}.", "Check the address and the network."
        ) from error
    # A connection that ends early looks like the end of the file.
    if total is not None and done < total:
        raise AutomlSRError(f"{url} broke off after {done} of {total} bytes.", "Try again.")
    return digest.hexdigest()


def _length(header: str) -> int | None:
    """Return the number of bytes that a server announces, where it does."""
    if header.isdecimal():
        return int(header)
    return None


def _unpack(archive: Path, folder: Path, limit: int) -> int:
    """Write the images of an archive below `folder`, and return their number."""
    folder.mkdir()
    count = 0
    room = limit
    try:
        # Closed at once where a file is refused, so that no archive stays open.
        with contextlib.closing(_members(archive)) as members:
            for name, content in members:
                target = folder / _safe_path(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                room -= _copy(content, target, room, limit)
                count += 1
    except _BAD_ARCHIVE as error:
        raise DataError(
            f"The archive is damaged or of a kind that cannot be read: {error}."
        ) from error
    except FileExistsError as error:
        raise DataError(
            "The archive holds the same file twice.", "Unpack it by hand and look at it."
        ) from error
    return count


def _members(archive: Path) -> Generator[tuple[str, IO[bytes]]]:
    """Go through the images of a zip or tar archive: (name, open file)."""
    if zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    else:
        yield from _tar_members(archive)


def _zip_members(archive: Path) -> Generator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if entry.is_dir() or not _is_image(entry.filename):
                continue
            with opened.open(entry) as content:
                yield entry.filename, content


def _tar_members(archive: Path) -> Generator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.isdir() or not _is_image(member.name):
                continue
            # Only what is a file: tarfile follows a link to another member by itself.
            found = None
            if member.isreg():
                found = tar.extractfile(member)
            if found is None:
                raise DataError(
                    f"{member.name} in the archive is a link or device, not a file.",
                    "Do not use it.",
                )
            with found:
                yield member.name, found


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    # What macOS puts beside each file of an archive has its name.
    if path.name.startswith(".") or "__MACOSX" in path.parts:
        return False
    return path.suffix.lower() in SUFFIXES


def _safe_path(name: str) -> PurePosixPath:
    """Return the name of a member, refused where it would lead out of the folder."""
    path = PurePosixPath(name)
    # Backslash and colon mean folders and drives on Windows alone, but archives travel.
    forbidden = ".." in path.parts or any(sign in name for sign in "\\:\0")
    if path.is_absolute() or forbidden:
        raise DataError(
            f"The archive wants to write to {name!r}, outside its folder.", "Do not use it."
        )
    return path


def _copy(source: IO[bytes], target: Path, room: int, limit: int) -> int:
    """Write `source` to the new file `target`, and return its bytes."""
    written = 0
    # `x`: a second file of the same name is refused.
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            # What really comes is counted, since headers may lie.
            written += len(chunk)
            if written > room:
                raise DataError(
                    f"The archive unpacks to more than the limit of {limit} bytes.",
                    "Do not use it.",
                )
            file.write(chunk)
    return written


def _set_root(folder: Path) -> Path:
    """Return the folder that holds the images, or the HR and LR folders."""
    children = list(folder.iterdir())
    # Archives often have a single outer folder, or two of them in each other.
    if len(children) != 1:
        return folder
    only = children[0]
    if not only.is_dir() or _KEPT_FOLDERS.fullmatch(only.name):
        return folder
    return _set_root(only)
