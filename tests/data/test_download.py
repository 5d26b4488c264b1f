"""An archive becomes a set only when its hash is right and every member stays inside; else nothing
is left behind.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from automl_sr.data import download
from automl_sr.data.catalog import Catalog
from automl_sr.data.download import KNOWN, fetch
from automl_sr.errors import AutomlSRError, DataError


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """The test's output is no place for an access log."""

    def do_GET(self) -> None:
        if self.path == "/broken-off.zip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
            return
        super().do_GET()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a real HTTP server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "data"


def png(value: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def zip_of(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tar_of(
    path: Path,
    members: dict[str, bytes],
    edit: Callable[[tarfile.TarInfo], None] = lambda info: None,
) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            edit(info)
            archive.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("make", "suffix"), [(zip_of, "zip"), (tar_of, "tar.gz")])
def test_an_archive_becomes_a_named_set(
    served: tuple[str, Path], into: Path, make: Callable[[Path, dict[str, bytes]], str], suffix: str
) -> None:
    address, folder = served
    members = {
        "Top/a.png": png(1),
        "Top/b.png": png(2),
        "Top/readme.txt": b"text",
        "__MACOSX/Top/._a.png": b"junk",
    }
    digest = make(folder / f"set.{suffix}", members)
    seen: list[tuple[int, int | None]] = []
    target = fetch(
        "New", f"{address}/set.{suffix}", digest.upper(), into, lambda *step: seen.append(step)
    )
    assert target == into / "New"
    assert [path.name for path in into.iterdir()] == ["New"]
    found = Catalog((into,)).find("New")
    assert [path.name for path in found.hr] == ["a.png", "b.png"]
    assert found.hr[0].read_bytes() == png(1)
    size = (folder / f"set.{suffix}").stat().st_size
    assert seen[-1] == (size, size)
    assert not list(target.rglob("*.txt"))


def test_hr_and_lr_folders_keep_their_layout(served: tuple[str, Path], into: Path) -> None:
    address, folder = served
    digest = zip_of(folder / "a.zip", {"Set/HR/a.png": png(), "Set/LRbicx2/ax2.png": png()})
    fetch("Set", f"{address}/a.zip", digest, into)
    assert list(Catalog((into,)).find("Set").lr) == [2]
    digest = zip_of(folder / "b.zip", {"HR/a.png": png()})
    fetch("OnlyHR", f"{address}/b.zip", digest, into)
    assert (into / "OnlyHR" / "HR" / "a.png").is_file()


def test_another_hash_keeps_nothing(served: tuple[str, Path], into: Path) -> None:
    address, folder = served
    actual = zip_of(folder / "a.zip", {"a.png": png()})
    with pytest.raises(AutomlSRError, match=actual) as caught:
        fetch("New", f"{address}/a.zip", "0" * 64, into)
    assert caught.value.exit_code == 1
    assert list(into.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../out.png", "/out.png", "a/../../out.png", "a\\..\\out.png", "C:/out.png"]
)
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_members_that_lead_outside_are_refused(
    served: tuple[str, Path], into: Path, name: str, make: Callable[[Path, dict[str, bytes]], str]
) -> None:
    address, folder = served
    digest = make(folder / "a", {"good.png": png(), name: png()})
    with pytest.raises(DataError, match="outside its folder"):
        fetch("New", f"{address}/a", digest, into)
    assert list(into.iterdir()) == []
    assert not (into.parent / "out.png").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(
    served: tuple[str, Path], into: Path, kind: bytes
) -> None:
    def edit(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    address, folder = served
    digest = tar_of(folder / "a.tgz", {"a.png": b""}, edit)
    with pytest.raises(DataError, match="link or device"):
        fetch("New", f"{address}/a.tgz", digest, into)
    assert list(into.iterdir()) == []


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_an_archive_that_unpacks_to_too_much_is_refused(
    served: tuple[str, Path], into: Path, make: Callable[[Path, dict[str, bytes]], str]
) -> None:
    address, folder = served
    digest = make(folder / "bomb", {"a.png": bytes(3_000_000), "b.png": bytes(3_000_000)})
    assert (folder / "bomb").stat().st_size < 100_000
    with pytest.raises(DataError, match="unpacks to more than the limit of 5000000"):
        fetch("New", f"{address}/bomb", digest, into, limit=5_000_000)
    assert list(into.iterdir()) == []


def test_a_download_larger_than_the_limit_is_stopped(served: tuple[str, Path], into: Path) -> None:
    address, folder = served
    digest = zip_of(folder / "a.zip", {"a.png": png()})
    with pytest.raises(DataError, match="larger than the limit of 10"):
        fetch("New", f"{address}/a.zip", digest, into, limit=10)


@pytest.mark.parametrize("content", [b"neither zip nor tar", b"PK\x03\x04 a zip that is cut off"])
def test_what_is_no_archive_is_refused(
    served: tuple[str, Path], into: Path, content: bytes
) -> None:
    address, folder = served
    (folder / "a").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        fetch("New", f"{address}/a", hashlib.sha256(content).hexdigest(), into)
    assert list(into.iterdir()) == []


def test_a_damaged_member_is_refused(served: tuple[str, Path], into: Path) -> None:
    address, folder = served
    zip_of(folder / "a.zip", {"a.png": bytes(range(256)) * 40})
    content = bytearray((folder / "a.zip").read_bytes())
    content[60] ^= 0xFF
    (folder / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        fetch("New", f"{address}/a.zip", hashlib.sha256(content).hexdigest(), into)


def test_the_same_member_twice_and_no_images_are_refused(
    served: tuple[str, Path], into: Path
) -> None:
    address, folder = served
    digest = tar_of(folder / "twice", {"a.png": png(), "./a.png": png(1)})
    with pytest.raises(DataError, match="twice"):
        fetch("New", f"{address}/twice", digest, into)
    digest = zip_of(folder / "text.zip", {"a.txt": b"text"})
    with pytest.raises(DataError, match="holds no images"):
        fetch("New", f"{address}/text.zip", digest, into)


@pytest.mark.parametrize("path", ["missing.zip", "broken-off.zip"])
def test_a_failed_download_is_a_failure_with_the_reason(
    served: tuple[str, Path], into: Path, path: str
) -> None:
    address, _ = served
    with pytest.raises(AutomlSRError, match=path) as caught:
        fetch("New", f"{address}/{path}", "0" * 64, into)
    assert caught.value.exit_code == 1
    assert list(into.iterdir()) == []


def test_a_server_that_does_not_answer_is_a_failure(served: tuple[str, Path], into: Path) -> None:
    with pytest.raises(AutomlSRError, match="network"):
        fetch("New", "http://127.0.0.1:1/a.zip", "0" * 64, into)


@pytest.mark.parametrize(
    ("name", "url", "sha256", "word"),
    [
        ("../New", "http://x/a.zip", "0" * 64, "no name"),
        (".New", "http://x/a.zip", "0" * 64, "no name"),
        ("New", "file:///etc/passwd", "0" * 64, "http"),
        ("New", "http://x/a.zip", "12", "sha256"),
        ("Old", "http://x/a.zip", "0" * 64, "exists already"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_fetched(
    into: Path, name: str, url: str, sha256: str, word: str
) -> None:
    (into / "Old").mkdir(parents=True)
    with pytest.raises(DataError, match=word):
        fetch(name, url, sha256, into)


def test_known_sets_have_a_hash_or_say_where_they_are() -> None:
    assert {"DIV2K_train_HR", "DIV2K_valid_HR", "Set5"} <= set(KNOWN)
    for known in KNOWN.values():
        assert bool(known.url) == bool(known.sha256)
        if known.url:
            assert download._SHA256.fullmatch(known.sha256)
            assert known.url.startswith("https://")
        else:
            assert "http" in known.about
