"""Gradio's own scripts and styles come from memory, and a request can name nothing else."""

from __future__ import annotations

import pytest

from automl_sr.app.server import assets


def asked(name: str) -> tuple[int, bytes, str | None, str | None]:
    found = assets.answer(name)
    return (
        found.status_code,
        bytes(found.body),
        found.media_type,
        found.headers.get("cache-control"),
    )


@pytest.mark.parametrize(("ending", "kind"), [(".js", "javascript"), (".css", "text/css")])
def test_a_file_is_what_lies_on_disk(ending: str, kind: str) -> None:
    name = min(name for name in assets.names() if name.endswith(ending))
    status, content, media_type, kept = asked(name)
    assert (status, content) == (200, (assets.FOLDER / name).read_bytes())
    assert kind in str(media_type)
    assert "immutable" in str(kept)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "nothing.js", "../index.html", "..\\index.html", "/etc/passwd", "a\0b"]
)
def test_any_other_name_is_not_there(name: str) -> None:
    assert asked(name) == (404, b"There is no such file.", "text/plain", None)


@pytest.mark.ci
def test_a_page_of_the_app_gets_them(app_url: str) -> None:
    import httpx

    name = min(assets.names())
    found = httpx.get(f"{app_url}/assets/{name}", timeout=60)
    assert found.content == (assets.FOLDER / name).read_bytes()
    assert "immutable" in found.headers["cache-control"]
    assert httpx.get(f"{app_url}/assets/..%2f..%2findex.html", timeout=60).status_code in (403, 404)
