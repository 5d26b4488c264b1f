"""Files that a request makes up reach neither the file system nor the network, whatever component
they are sent to.
"""

from __future__ import annotations

import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from automl_sr.app.server.uploads import check_files, uploaded
from automl_sr.errors import UseError

if TYPE_CHECKING:
    from app_world import SmallStudy

META = {"_type": "gradio.FileData"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of uploads."""
    made = tmp_path / "uploads"
    made.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(made))
    return made


def test_uploads_are_taken_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    inside, outside, link = folder / "a.png", tmp_path / "b.png", folder / "link.png"
    inside.write_bytes(b"a")
    outside.write_bytes(b"b")
    link.symlink_to(outside)
    assert uploaded(str(inside)) == inside.resolve()
    refused = [
        outside,
        link,
        folder,
        folder / "gone.png",
        f"{folder}/../b.png",
        "",
        "a\0b",
        "/dev/zero",
    ]
    for path in (*refused, "http://127.0.0.1/a.png", f"file://{inside}"):
        with pytest.raises(UseError, match="not uploaded here"):
            uploaded(str(path))


def test_files_are_found_wherever_they_are_hidden(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"a")
    check_files(
        [
            "study",
            3,
            None,
            {"path": "no file, as it has no meta"},
            {"path": f"{folder}/a.png", "meta": META},
        ]
    )
    forged = {"path": "/etc/hostname", "meta": META}
    for values in (
        [forged],
        [{"value": {"deep": [forged]}}],
        [{**forged, "is_stream": True}],
        [[[forged]]],
    ):
        with pytest.raises(UseError, match="not uploaded here"):
            check_files(values)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server, and what it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.png", paths
    server.shutdown()
    server.server_close()


def send(url: str, elem_id: str, event: str, data: list[Any]) -> dict[str, Any]:
    """Send values to an event of a component as a browser does, and give the answer."""
    config = httpx.get(f"{url}/config", timeout=30).json()
    component = next(
        item["id"] for item in config["components"] if item["props"].get("elem_id") == elem_id
    )
    number = next(
        item["id"] for item in config["dependencies"] if [component, event] in item["targets"]
    )
    session = uuid.uuid4().hex
    body = {"data": data, "fn_index": number, "session_hash": session, "trigger_id": component}
    httpx.post(f"{url}/gradio_api/queue/join", json=body, timeout=30).raise_for_status()
    query = {"session_hash": session}
    with httpx.stream("GET", f"{url}/gradio_api/queue/data", params=query, timeout=30) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return dict(message)
    raise AssertionError("the event did not end")


@pytest.mark.ci
@pytest.mark.parametrize("extra", [{}, {"is_stream": True}])
def test_the_app_opens_no_file_and_no_address_that_a_request_names(
    extra: dict[str, Any], app_url: str, small_study: SmallStudy, asked: tuple[str, list[str]]
) -> None:
    address, paths = asked
    for path in (str(small_study.folder / "store.db"), "/etc/hostname", address):
        forged = {"path": path, "url": path, "orig_name": "a.png", "meta": META, **extra}
        for data in (
            [small_study.name, "upload", None, forged, "enlarge", "cut", []],
            [forged, "valid", None, None, "enlarge", "cut", []],
        ):
            answer = send(app_url, "preview-show", "click", data)
            assert answer["success"] is False
            assert "This file was not uploaded here." in answer["output"]["error"]
            assert path not in json.dumps(answer)
    assert paths == []
