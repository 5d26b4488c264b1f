"""How the app is served: who may come in, what may come in, and how it begins and ends as a
process.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from app_world import free_port, running_app, start

from automl_sr.cli.main import main

if TYPE_CHECKING:
    from starlette.testclient import TestClient

HERE = "http://127.0.0.1:7860"
SECRET = "very-secret"
UNREACHABLE = f"postgresql://sr:{SECRET}@127.0.0.1:1/sr"


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{tmp_path}/none.db")


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of uploads, which an application asks for when it is made."""
    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


def client_of(**address: Any) -> TestClient:
    from starlette.testclient import TestClient

    from automl_sr.app.server.server import Address, make_app
    from automl_sr.app.store_cache import StoreCache
    from automl_sr.plugin.registry import installed

    return TestClient(
        make_app(StoreCache("sqlite:///none.db", installed()), Address(**address)), HERE
    )


@pytest.fixture(scope="module")
def client(uploads: Path) -> TestClient:
    """The application on this machine alone."""
    return client_of()


@pytest.fixture(scope="module")
def guarded(uploads: Path) -> TestClient:
    """The application for a network, which asks who it is."""
    from automl_sr.app.server.password import Secret

    return client_of(host="0.0.0.0", auth=Secret("me", SECRET))


# Who may come in


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "sr.example.org"])
def test_a_network_is_not_let_in_by_accident(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--host", host, "--port", str(free_port())]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: On {host} anybody in the network could look at this store. Give --auth"
    )
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_alone_needs_no_password(host: str) -> None:
    from automl_sr.app.server.server import check_reach, is_local

    assert is_local(host)
    check_reach(host, None, no_auth=False)


def test_everybody_can_be_let_in_if_that_is_said() -> None:
    from automl_sr.app.server.password import Secret
    from automl_sr.app.server.server import check_reach

    check_reach("0.0.0.0", None, no_auth=True)
    check_reach("0.0.0.0", Secret("me", "secret"), no_auth=False)


@pytest.mark.parametrize("given", ["me", "me:", ":secret", ""])
def test_a_password_that_is_none_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--auth", given]) == 2
    assert "--auth is not of the form user:password." in capsys.readouterr().err


def test_who_does_not_know_the_password_sees_nothing(guarded: TestClient) -> None:
    guarded.cookies.clear()
    page = guarded.get("/")
    assert page.status_code == 200
    assert '<input name="password" type="password"' in page.text
    assert "<script" not in page.text
    assert "gradio" not in page.text
    for path in (
        "/config",
        "/gradio_api/info",
        "/gradio_api/file=/etc/hostname",
        "/gradio_api/queue/data",
    ):
        assert guarded.get(path).status_code == 401, path
    assert guarded.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
    event = {"data": [], "fn_index": 0, "session_hash": "x"}
    assert guarded.post("/gradio_api/queue/join", json=event).status_code == 401
    wrong = guarded.post("/login", data={"username": "me", "password": "guess"})
    assert wrong.status_code == 400
    assert guarded.get("/config").status_code == 401


def test_who_knows_the_password_comes_in(guarded: TestClient) -> None:
    assert guarded.post("/login", data={"username": "me", "password": SECRET}).status_code == 200
    config = guarded.get("/config")
    assert config.status_code == 200
    assert SECRET not in config.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.168.1.7:7860"]
)
def test_another_name_for_this_machine_is_refused(host: str, client: TestClient) -> None:
    """A page of another site may let its own name mean this machine, and would read the store
    then.
    """
    assert client.get("/", headers={"Host": host}).status_code == 400
    assert client.get("/config", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860"])
def test_this_machine_is_known_by_its_names(host: str, client: TestClient) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1"]
)
def test_pages_of_other_sites_read_and_change_nothing(
    origin: str, client: TestClient, uploads: Path
) -> None:
    before = set(uploads.rglob("*"))
    for path in ("/gradio_api/upload", "/gradio_api/queue/join", "/login"):
        answer = client.post(path, files={"files": b"x"}, headers={"Origin": origin})
        assert (answer.status_code, answer.text) == (
            403,
            "This request comes from the page of another site.",
        )
    assert set(uploads.rglob("*")) == before
    assert client.get("/config", headers={"Origin": origin}).status_code == 403


# What may come in


def test_an_upload_lies_in_the_folder_of_the_app(client: TestClient, uploads: Path) -> None:
    [path] = client.post(
        "/gradio_api/upload", files={"files": ("../../../x.png", b"content")}
    ).json()
    assert Path(path).is_relative_to(uploads)
    assert Path(path).read_bytes() == b"content"
    assert client.get(f"/gradio_api/file={path}").content == b"content"


def test_an_upload_that_is_too_large_is_refused(client: TestClient, uploads: Path) -> None:
    before = set(uploads.rglob("*"))
    large = b"x" * (32 * 2**20 + 2**17)
    answer = client.post("/gradio_api/upload", files={"files": ("x.png", large)})
    assert (answer.status_code, answer.text) == (413, "A file may have 32 MB at most.")
    answer = client.post(
        "/gradio_api/upload", files=[("files", (f"{n}.png", large[: 2**24])) for n in range(3)]
    )
    assert answer.status_code == 413, "several files together"
    assert set(uploads.rglob("*")) == before


def test_a_request_that_is_too_large_is_refused(client: TestClient) -> None:
    event = {"data": ["x" * (5 * 2**20)], "fn_index": 0, "session_hash": "x"}
    answer = client.post("/gradio_api/queue/join", json=event)
    assert (answer.status_code, answer.text) == (413, "A request may have 4 MB at most.")


def test_a_request_without_a_size_is_refused(client: TestClient) -> None:
    answer = client.post("/gradio_api/upload", content=iter([b"x" * 1000]))
    assert (answer.status_code, answer.text) == (411, "This request does not say how large it is.")


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "0x10", "²"])
def test_a_size_that_is_none_is_refused(length: str) -> None:
    from automl_sr.app.server.middleware import Door
    from automl_sr.app.server.names import Names
    from automl_sr.app.server.quota import Quota

    door = Door(None, Names("127.0.0.1"), None, Quota(), 2**20)
    found = door._size_refusal("/gradio_api/queue/join", {"content-length": length})
    assert found == (413, "A request may have 4 MB at most.")


UNUSED = (
    "runs",
    "proxy=http://127.0.0.1/",
    "vibe-edit",
    "process_recording",
    "deep_link",
    "openapi.json",
    "dev/reload",
)


@pytest.mark.parametrize("route", UNUSED)
def test_what_gradio_offers_besides_is_not_there(route: str, client: TestClient) -> None:
    assert client.get(f"/gradio_api/{route}").status_code == 404
    assert client.post(f"/gradio_api/{route}", json={}).status_code == 404


def test_a_page_asks_no_other_host(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-security-policy"].startswith("default-src 'self' ")
    assert answer.headers["referrer-policy"] == "same-origin"


def test_plotly_comes_from_here(client: TestClient) -> None:
    answer = client.get("/static/plotly.min.js")
    assert answer.status_code == 200
    assert "javascript" in answer.headers["content-type"]


def test_every_tab_is_on_the_page_about_the_app() -> None:
    from automl_sr.app.page import TABS

    page = (Path(__file__).parents[3] / "docs" / "app.md").read_text(encoding="utf-8")
    for tab in TABS:
        assert f"| {tab.title} |" in page
        assert f"`{tab.id}`" in page


# Its life as a process


def test_a_port_that_is_taken_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["app", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert (
        f"The app cannot listen on 127.0.0.1, port {port}: Address already in use. Choose another"
        " --port." in error
    )


@pytest.mark.parametrize(
    "arguments", [["--port", "0"], ["--port", "70000"], ["--store", "mysql://x/y"]]
)
def test_bad_use_is_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", *arguments]) in (1, 2)
    assert len(capsys.readouterr().err.splitlines()) == 1


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith("automl-sr-app-")]


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_ctrl_c_ends_it_and_nothing_is_left(tmp_path: Path) -> None:
    """On a database that does not answer: its password is nowhere to be seen."""
    import httpx

    with running_app(UNREACHABLE, env={"TMPDIR": str(tmp_path)}) as app:
        assert app.said == {"url": app.url, "store": "postgresql://sr:***@127.0.0.1:1/sr"}
        assert len(left_over(tmp_path)) == 1
        seen = [httpx.get(f"{app.url}{path}").text for path in ("/", "/config")]
        assert app.end(signal.SIGINT) == 130
        assert left_over(tmp_path) == []
        assert json.loads(app.output) == app.said, "JSON alone"
        assert "studies of postgresql://sr:***@127.0.0.1:1/sr are at" in app.log
        assert "Traceback" not in app.log
        assert SECRET not in "".join([*seen, app.output, app.log])


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_sigterm_ends_it_while_somebody_looks_at_a_page(tmp_path: Path) -> None:
    import httpx

    app = start(
        f"sqlite:///{tmp_path}/none.db", env={"TMPDIR": str(tmp_path)}, log=tmp_path / "log"
    )
    try:
        app.ready()
        with httpx.stream("GET", f"{app.url}/gradio_api/heartbeat/somebody", timeout=30) as page:
            next(page.iter_raw())
            assert app.end(signal.SIGTERM) == 143
        assert left_over(tmp_path) == []
        assert app.log.splitlines()[-1] == "terminated"
        assert "Traceback" not in app.log
    finally:
        app.process.kill()
