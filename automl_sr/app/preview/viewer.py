"""Pictures side by side at one zoom, two of them under a slider, their difference, and a magnifier over all."""

from __future__ import annotations

import json
import math
import shutil
import uuid
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gradio as gr
from gradio.utils import get_upload_folder

from automl_sr.app.preview.viewer_script import SCRIPT
from automl_sr.tasks.image_sr.pictures import liveliest

if TYPE_CHECKING:
    from automl_sr.app.preview.pictures import Subject
    from automl_sr.app.preview.upscaling import Result

KEPT_RUNS = 20
"""Previews of all visitors whose pictures are kept."""
TEMPLATE = """
<p class="empty">Choose a picture and trials, then press Show.</p>
<div class="viewer" hidden>
  <div class="bar">
    <span class="group" role="group" aria-label="What is shown">
      <button type="button" data-mode="side" aria-pressed="true">Side by side</button>
      <button type="button" data-mode="slider" aria-pressed="false">Slider</button>
      <button type="button" data-mode="difference" aria-pressed="false">Difference</button>
    </span>
    <span class="group" role="group" aria-label="Zoom">
      <button type="button" data-zoom="out" aria-label="Zoom out">&minus;</button>
      <output class="zoom" aria-live="polite"></output>
      <button type="button" data-zoom="in" aria-label="Zoom in">+</button>
      <button type="button" data-zoom="fit">Fit</button>
      <button type="button" data-zoom="one">1:1</button>
    </span>
    <span class="group of-slider" hidden>
      <label>Left <select class="left"></select></label>
      <label>Right <select class="right"></select></label>
    </span>
    <span class="group of-difference" hidden>
      <label>Difference of <select class="of"></select></label>
      <label>and <select class="against"></select></label>
      <label>amplified <select class="factor">
        <option>1</option><option>2</option><option>4</option><option selected>8</option><option>16</option>
        <option>32</option></select> times</label>
    </span>
  </div>
  <div class="panes"></div>
  <figure class="single" hidden>
    <div class="stage">
      <canvas tabindex="0" role="img"></canvas>
      <div class="divider" role="slider" tabindex="0" aria-label="Divider" aria-valuemin="0" aria-valuemax="100"></div>
    </div>
    <figcaption></figcaption>
  </figure>
  <section class="lens" aria-label="Magnifier">
    <p><label>Magnified <select class="power"><option>2</option><option selected>4</option><option>8</option>
      <option>16</option></select> times</label><span class="place"></span>
      <button type="button" class="follow" hidden>Follow the pointer</button></p>
    <div class="crops"></div>
  </section>
  <ul class="notes"></ul>
  <p class="help">Wheel, pinch, + and &minus; zoom; dragging and the arrow keys move all pictures together; 0 shows all
    of them. A click or Enter keeps the magnifier where it is.</p>
</div>
"""
CSS = """
.empty { padding: 2rem; text-align: center; opacity: 0.8; }
.bar { display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; align-items: center; margin-bottom: 0.5rem; }
.group { display: inline-flex; flex-wrap: wrap; gap: 0.25rem; align-items: center; }
.group[hidden], .single[hidden], .follow[hidden], .divider[hidden] { display: none; }
button, select, .save {
  font: inherit; font-size: 0.85rem; color: inherit; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); border-radius: 4px; padding: 0.2rem 0.55rem; min-height: 1.9rem;
}
button { cursor: pointer; }
button[aria-pressed="true"] { background: #0969da; border-color: #0969da; color: #fff; }
select { appearance: auto; max-width: 9rem; }
select option { color: initial; background: initial; }
label { font-size: 0.85rem; }
.zoom { min-width: 3.6rem; text-align: center; font-variant-numeric: tabular-nums; font-size: 0.85rem; }
.panes { display: grid; gap: 0.5rem; }
figure { margin: 0; min-width: 0; }
canvas {
  display: block; width: 100%; image-rendering: pixelated; cursor: crosshair;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
}
canvas:focus-visible, .divider:focus-visible, button:focus-visible { outline: 2px solid #0969da; outline-offset: 1px; }
figcaption { font-size: 0.85rem; padding: 0.2rem 0; display: flex; flex-wrap: wrap; gap: 0.1rem 0.6rem;
  align-items: center; font-variant-numeric: tabular-nums; }
figcaption b { font-weight: 600; }
figcaption span { flex-basis: 100%; }
.save { text-decoration: none; margin-left: auto; padding: 0.1rem 0.5rem; min-height: 0; }
.failed { border: 1px solid #b35900; padding: 0.7rem; font-size: 0.85rem; overflow-wrap: anywhere; margin: 0; }
.stage { position: relative; }
.divider {
  position: absolute; top: 0; bottom: 0; width: 2.4rem; margin-left: -1.2rem; cursor: ew-resize; touch-action: none;
  background: linear-gradient(#fff, #fff) center / 2px 100% no-repeat;
}
.divider::after {
  content: "↔"; position: absolute; top: 50%; left: 50%; translate: -50% -50%; background: #fff; color: #222;
  border: 1px solid #555; border-radius: 50%; width: 1.8rem; height: 1.8rem; line-height: 1.7rem; text-align: center;
}
.lens p { margin: 0.6rem 0 0.3rem; font-size: 0.85rem; }
.crops { display: flex; flex-wrap: wrap; gap: 0.5rem; }
.crops figure { width: 130px; }
.crops canvas { height: 130px; cursor: default; }
.notes { font-size: 0.85rem; margin: 0.5rem 0 0 1.1rem; }
.help { font-size: 0.8rem; opacity: 0.75; margin: 0.4rem 0 0; }
"""


def viewer(elem_id: str) -> gr.HTML:
    """Make the viewer; its value is what `Shown.value` gives."""
    return gr.HTML(
        value=None,
        html_template=TEMPLATE,
        css_template=CSS,
        js_on_load=SCRIPT,
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
        self.panes.append(pane(result, self.folder, f"{safe_name(self.subject.name)}-x{self.subject.scale}"))

    @cached_property
    def _focus(self) -> tuple[float, float]:
        """Where the magnifier looks at first: the square with the most detail."""
        scale = self.subject.scale
        top, left, height, width = liveliest(self.subject.lr, 16, 1)
        return scale * (left + width / 2), scale * (top + height / 2)

    def value(self) -> str:
        """Give the viewer's value: text, because Gradio changes streamed objects in place, where nothing sees it."""
        height, width = self.subject.size
        focus = self._focus
        known = self.subject.original is not None
        value = {
            "run": self.run,
            "width": width,
            "height": height,
            "focus": {"x": focus[0], "y": focus[1]},
            "reference": "original" if known else "bicubic",
            "panes": list(self.panes),
            "notes": [*self.subject.notes, *self.notes],
        }
        return json.dumps(value)


def _forget_old(folder: Path) -> None:
    """Remove the pictures of long ago, so that impatient visitors do not fill the disk."""
    runs = sorted(folder.glob("preview-*"), key=lambda run: run.stat().st_mtime)
    for run in runs[:-KEPT_RUNS]:
        shutil.rmtree(run, ignore_errors=True)


def pane(result: Result, folder: Path, name: str) -> dict[str, Any]:
    """Describe one picture of the viewer; the file is served to who knows its random folder."""
    described = {"key": result.key, "title": result.title, "words": words(result), "error": result.error}
    if result.image is None:
        return described
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{result.title.replace(' ', '-')}.png"
    Image.fromarray(result.image).save(file, compress_level=1)  # seconds count, bytes go to the same machine
    return {**described, "file": file.name, "url": f"gradio_api/file={quote(str(file))}"}


def words(result: Result) -> str:
    """Write what was measured: PSNR-Y 33.12 dB, SSIM-Y 0.9321, 85 ms."""
    parts = []
    if result.psnr_y is not None:
        parts.append(f"PSNR-Y {result.psnr_y:.2f} dB" if math.isfinite(result.psnr_y) else "PSNR-Y infinite")
    if result.ssim_y is not None:
        parts.append(f"SSIM-Y {result.ssim_y:.4f}")
    if result.seconds is not None:
        parts.append(f"{1000 * result.seconds:,.0f} ms")
    return ", ".join(parts)


def safe_name(name: str) -> str:
    """Keep of a picture's name what every file system takes."""
    kept = "".join(letter if (letter.isalnum() and letter.isascii()) or letter in "-_" else "-" for letter in name)
    return kept.strip("-")[:60] or "picture"
