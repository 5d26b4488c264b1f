"""`automl-sr data`: JSON stands alone on standard output, exit code 1 means damaged files, 2 a
wrong request.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from automl_sr.cli.main import main
from automl_sr.data import images
from automl_sr.data.images import Picture


def picture(seed: int, height: int = 120, width: int = 100, channels: int = 3) -> Picture:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 10, width // 10, channels), dtype=np.uint8)
    return Picture(coarse.repeat(10, 0).repeat(10, 1))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sets, named by AUTOML_SR_DATA."""
    monkeypatch.setenv("AUTOML_SR_DATA", str(tmp_path / "data"))
    folder = tmp_path / "data" / "Two"
    (folder / "HR").mkdir(parents=True)
    (folder / "LRbicx2").mkdir()
    for stem, seed, size in (("a", 0, (60, 50)), ("b", 1, (40, 50))):
        images.write(folder / "HR" / f"{stem}.png", picture(seed))
        images.write(folder / "LRbicx2" / f"{stem}x2.png", picture(seed, *size))
    return tmp_path / "data"


def test_list_names_sets_sizes_and_scales(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["folders"] == [str(data)]
    assert [row["name"] for row in document["sets"]] == [
        "photos",
        "photos-train",
        "photos-valid",
        "Two",
    ]
    assert document["sets"][-1] == {
        "name": "Two", "images": 2, "unreadable": 0, "smallest": [100, 120], "largest": [100, 120], "lr_scales": [2],
        "folder": str(data / "Two" / "HR"),
    }  # fmt: skip
    assert main(["data", "list"]) == 0
    assert "100x120" in capsys.readouterr().out


def test_list_survives_a_set_of_damaged_files(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "Broken").mkdir()
    (data / "Broken" / "a.png").write_text("no image")
    assert main(["data", "list", "--json"]) == 0
    captured = capsys.readouterr()
    row = next(row for row in json.loads(captured.out)["sets"] if row["name"] == "Broken")
    assert (row["unreadable"], row["smallest"]) == (1, None)
    assert "a.png" in captured.err


def test_check_reports_what_is_worth_knowing(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hr = data / "Two" / "HR"
    assert main(["data", "check", "Two", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["images"], report["files"], report["unreadable"]) == (2, 4, [])
    assert [row["file"] for row in report["misfits"]] == [str(data / "Two" / "LRbicx2" / "bx2.png")]

    images.write(hr / "c.bmp", picture(0))
    images.write(hr / "d.png", picture(3, 40, 40))
    images.write(hr / "e.png", picture(4, channels=1))
    images.write(hr / "f.jpg", picture(1))
    assert main(["data", "check", str(data / "Two"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["identical"] == [[str(hr / "a.png"), str(hr / "c.bmp")]]
    assert [(row["first"], row["second"]) for row in report["similar"]] == [
        (str(hr / "b.png"), str(hr / "f.jpg"))
    ]
    assert report["small"] == [{"file": str(hr / "d.png"), "width": 40, "height": 40}]
    assert report["grey"] == [str(hr / "e.png")]
    assert main(["data", "check", str(hr)]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("identical", "similar", "small", "grey", "6 images"))


def test_check_fails_for_a_damaged_file_and_names_it(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = data / "Two" / "HR" / "a.png"
    cut.write_bytes(cut.read_bytes()[:90])
    assert main(["data", "check", "Two", "--json"]) == 1
    captured = capsys.readouterr()
    assert [row["file"] for row in json.loads(captured.out)["unreadable"]] == [str(cut)]
    assert "1 of 4 files" in captured.err


def test_check_of_a_missing_folder_is_bad_use_in_one_line(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", "Tow", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "'Two'" in captured.err
    assert captured.err.count("\n") == 1


def test_get_fetches_checks_and_names_a_set(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    with zipfile.ZipFile(served / "set.zip", "w") as archive:
        archive.write(data / "Two" / "HR" / "a.png", "pictures/a.png")
    digest = hashlib.sha256((served / "set.zip").read_bytes()).hexdigest()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Standard error belongs to the command."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(served))
    ) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/set.zip"
        wrong = main(["data", "get", "Mine", "--url", url, "--sha256", "0" * 64])
        wrong_text = capsys.readouterr().err
        right = main(["data", "get", "Mine", "--url", url, "--sha256", digest, "--json"])
        out = capsys.readouterr().out
        again = main(["data", "get", "Mine", "--url", url, "--sha256", digest])
        server.shutdown()
        thread.join()
    assert (wrong, right, again) == (1, 0, 2)
    assert digest in wrong_text
    assert json.loads(out) == {
        "name": "Mine", "folder": str(data / "Mine"), "images": 1, "url": url, "sha256": digest,
    }  # fmt: skip
    assert (data / "Mine" / "a.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["Set5"], "by hand"),
        (["DIV2K_trian_HR"], "'DIV2K_train_HR'"),
        (["Mine", "--url", "http://127.0.0.1/a.zip"], "--sha256"),
    ],
)
def test_get_says_what_to_do_where_it_cannot_fetch(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    assert main(["data", "get", *arguments]) == 2
    assert word in capsys.readouterr().err
