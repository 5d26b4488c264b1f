"""Pictures side by side at one zoom, two under a slider, their difference, and a magnifier."""

from __future__ import annotations

import json
import math
import re
import shutil
import uuid
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gradio as gr
from gradio.utils import get_upload_folder

from automl_sr.app.static_files import static_text
from automl_sr.tasks.image_sr.pictures import liveliest

if TYPE_CHECKING:
    from automl_sr.app.preview.pictures import Subject
    from automl_sr.app.preview.upscaling import Result

KEPT_RUNS = 20
"""Previews of all visitors whose pictures are kept."""


def viewer(elem_id: str) -> gr.HTML:
    """Make the viewer; its value is what `Shown.value` gives."""
    return gr.HTML(
        value=None,
        html_template=static_text("viewer.html"),
        css_template=static_text("viewer.css"),
        js_on_load=static_text("viewer.js"),
        apply_default_css=False,
        elem_id=elem_id,
    )


class Shown:
    """What the viewer shows: grows by one pane after the other."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.run = uuid.uuid4().hex
        self.folder = Path(get_upload_folder()) / f"preview-{self.run}"
        """In the folder that Gradio serves, under a name that nobody can guess."""
        _forget_old(self.folder.parent)
        self.panes: list[Mapping[str, Any]] = []
        self.notes: tuple[str, ...] = ()

    def add(self, result: Result) -> None:
        """Write a result's picture, and add its pane."""
        name = f"{safe_name(self.subject.name)}-x{self.subject.scale}"
        self.panes.append(pane(result, self.folder, name))

    @cached_property
    def _focus(self) -> tuple[float, float]:
        """Where the magnifier looks at first: the square with the most detail."""
        scale = self.subject.scale
        top, left, height, width = liveliest(self.subject.lr, 16, 1)
        return scale * (left + width / 2), scale * (top + height / 2)

    def value(self) -> str:
        """Return the viewer's value."""
        height, width = self.subject.size
        across, down = self._focus
        reference = "bicubic"
        if self.subject.original is not None:
            reference = "original"
        value = {
            "run": self.run,
            "width": width,
            "height": height,
            "focus": {"x": across, "y": down},
            "reference": reference,
            "panes": list(self.panes),
            "notes": [*self.subject.notes, *self.notes],
        }
        # Text, because Gradio changes streamed objects in place, where nothing sees it.
        return json.dumps(value)


def _forget_old(folder: Path) -> None:
    """Remove the pictures of long ago, so that impatient visitors do not fill the disk."""
    runs = sorted(folder.glob("preview-*"), key=lambda run: run.stat().st_mtime)
    for run in runs[:-KEPT_RUNS]:
        shutil.rmtree(run, ignore_errors=True)


def pane(result: Result, folder: Path, name: str) -> dict[str, Any]:
    """Return what the viewer knows of one picture; its file is written.

    The file is served to who knows its random folder.
    """
    described = {
        "key": result.key,
        "title": result.title,
        "words": words(result),
        "error": result.error,
    }
    if result.image is None:
        return described
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    title = result.title.replace(" ", "-")
    file = folder / f"{name}-{title}.png"
    # Barely compressed: seconds count, bytes go to the same machine.
    Image.fromarray(result.image).save(file, compress_level=1)
    return {**described, "file": file.name, "url": f"gradio_api/file={quote(str(file))}"}


def words(result: Result) -> str:
    """Return what was measured, in words: PSNR-Y 33.12 dB, SSIM-Y 0.9321, 85 ms."""
    parts = []
    if result.psnr_y is not None:
        if math.isfinite(result.psnr_y):
            parts.append(f"PSNR-Y {result.psnr_y:.2f} dB")
        else:  # no pixel differs, as in a picture of one colour
            parts.append("PSNR-Y infinite")
    if result.ssim_y is not None:
        parts.append(f"SSIM-Y {result.ssim_y:.4f}")
    if result.seconds is not None:
        parts.append(f"{1000 * result.seconds:,.0f} ms")
    return ", ".join(parts)


def safe_name(name: str) -> str:
    """Return of a picture's name what every file system takes."""
    kept = re.sub(r"[^0-9A-Za-z_-]", "-", name)
    return kept.strip("-")[:60] or "picture"
