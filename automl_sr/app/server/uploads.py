"""Files that visitors upload: a path or address that a request makes up reaches neither file system
nor network.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from automl_sr.errors import UseError

log = logging.getLogger(__name__)
UPLOAD_BYTES = 32 * 2**20
"""Most bytes of one upload."""


class GuardedBlocks(gr.Blocks):
    """Blocks whose events take files that were uploaded to this app, and no others.

    Gradio fetches what a file's `path` names where that is an address, whatever component it is
    meant for. And in an application that is mounted into another one, as ours is, it copies any
    file of this machine to where it is served.
    """

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Look at everything that comes from a browser before anything else does.

        Raises gr.Error.
        """
        try:
            check_files(inputs)
        except UseError as error:
            raise gr.Error(str(error), print_exception=False) from None
        found: list[Any] = await super().preprocess_data(block_fn, inputs, state, explicit_call)
        return found

    async def process_api(self, *given: Any, **named: Any) -> dict[str, Any]:
        """Answer an event, or say in a sentence that no page sends what came with it.

        Raises gr.Error.
        """
        try:
            answer: dict[str, Any] = await super().process_api(*given, **named)
        except gr.Error:
            raise
        except Exception as error:
            log.warning("an event was refused", exc_info=True)
            sentence = "This page sent something that the app cannot use. Reload the page."
            raise gr.Error(sentence, print_exception=False) from error
        return answer


def check_files(values: Any) -> None:
    """Look through what a browser sent for files.

    Raises UseError for one that was not uploaded here.
    """
    if isinstance(values, dict):
        if "meta" in values and isinstance(values.get("path"), str):
            uploaded(values["path"])
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            check_files(value)


def uploaded(path: str) -> Path:
    """Return a file in the folder of uploads, whose names nobody can guess.

    Raises UseError for any other path.
    """
    folder = Path(get_upload_folder()).resolve()
    try:
        found = Path(path).resolve(strict=True)
        inside = found.is_relative_to(folder) and found.is_file()
    except (OSError, ValueError, RuntimeError):  # not there, a zero byte in it, links in a circle
        inside = False
    if not inside:
        raise UseError("This file was not uploaded here.", "Choose the picture once more.")
    return found
