"""Gradio's own scripts and styles, kept in memory: a page asks for eighty, and reading takes longer
than sending.
"""

from __future__ import annotations

import functools
import mimetypes
from pathlib import Path

import gradio
from starlette.responses import PlainTextResponse, Response

FOLDER = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
FOR_EVER = "public, max-age=31536000, immutable"
"""A file of other content has another name."""


@functools.cache
def names() -> frozenset[str]:
    """List the files; a request can name nothing else."""
    return frozenset(entry.name for entry in FOLDER.iterdir() if entry.is_file())


async def asset(name: str) -> Response:
    """Answer a request at once: a thread for each would take longer than the answer."""
    return answer(name)


def answer(name: str) -> Response:
    """Return a file by its name, or say that it is not there."""
    if name not in names():
        return PlainTextResponse("There is no such file.", 404)
    kind, _ = mimetypes.guess_type(name)
    return Response(_content(name), media_type=kind, headers={"Cache-Control": FOR_EVER})


@functools.cache
def _content(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
