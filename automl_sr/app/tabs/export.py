"""Tab: export of the selected trial's model, card and study file, and the report of the study."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from automl_sr.app.html_text import escaped, trial_line
from automl_sr.app.server.background import Tell, run_in_background
from automl_sr.app.session import NO_STUDY, Session, listen, numbers, snapshot
from automl_sr.app.store_cache import StoreCache
from automl_sr.app.tabs.downloads import EVERYTHING, STUDY, Downloads, downloads_of, kept
from automl_sr.errors import AutomlSRError, UseError
from automl_sr.plugin.blueprint import load
from automl_sr.presentation.model_card import CARD, FILES
from automl_sr.presentation.numbers import size
from automl_sr.store.refinements import refinements

if TYPE_CHECKING:
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.store.records import TrialRecord
    from automl_sr.store.refinements import RefinementRecord

log = logging.getLogger(__name__)
NO_TRIAL = (
    "Select a trial to export its model: click a point or a row in another tab, or type its number"
    " above."
)
SEARCHED = "searched"
LABELS = {
    FILES["onnx"]: "Model",
    FILES["weights"]: "Weights",
    CARD: "Model card",
    STUDY: "Study file of this plan alone",
    EVERYTHING: "All of these",
}
MOST_IMAGES = 24
REPORT = "automl_sr.report.page:study_page"
"""What makes a report.

It is called by name: the app knows what reports are, not how they are made.
"""


def build(session: Session) -> None:
    """Fill the tab."""
    gr.HTML("<h3>The selected trial</h3>")
    about = gr.HTML(elem_id="export-about")
    which = gr.Dropdown(
        [],
        label="Which of its models",
        elem_id="export-which",
        visible=False,
    )
    with gr.Row():
        buttons = []
        for name, label in LABELS.items():
            buttons.append(
                gr.DownloadButton(
                    label,
                    interactive=False,
                    size="md",
                    min_width=180,
                    elem_id=f"export-{name.replace('.', '-')}",
                    variant="primary" if name == EVERYTHING else "secondary",
                )
            )
    with gr.Accordion(
        "The study file: a search with it trains this plan again, and no other",
        open=False,
    ):
        # An editor for code would be a third of what a browser loads.
        code = gr.HTML(elem_id="export-yaml")
    _show_trial(session, about, which, buttons, code)
    gr.HTML("<h3>The report of the study</h3>")
    _offer_report(session)


def _show_trial(
    session: Session,
    about: Any,
    which: Any,
    buttons: list[Any],
    code: Any,
) -> None:
    cache = session.cache

    def fill(name: str | None, number: Any, model: Any) -> tuple[Any, ...]:
        shown = snapshot(cache, name)
        found = numbers(number)
        if shown is None:
            return _nothing_to_export(NO_STUDY)
        if not found or found[0] not in shown.by_number:
            return _nothing_to_export(NO_TRIAL)
        trial = shown.by_number[found[0]]

        models = models_of(cache, shown, trial)
        # Another trial was selected: the list still names a model of the one before.
        chosen = SEARCHED
        if model in models:
            chosen = model
        downloads = downloads_of(
            shown.study,
            trial,
            models[chosen],
            cache.registry,
            folder(),
        )
        choices = []
        for key, refined in models.items():
            choices.append((model_words(refined), key))
        return (
            described(shown, trial, downloads),
            gr.Dropdown(choices=choices, value=chosen, visible=len(models) > 1),
            *_buttons(downloads.files),
            f"<pre tabindex='0'>{escaped(downloads.study_file)}</pre>",
        )

    outputs = [about, which, *buttons, code]
    session.show(
        "export",
        fill,
        [session.study, session.trial, which],
        outputs,
        also=[which.input],
    )


def _nothing_to_export(said: str) -> tuple[Any, ...]:
    return f"<p>{escaped(said)}</p>", gr.Dropdown(visible=False), *_buttons({}), ""


def _buttons(files: Mapping[str, Path]) -> list[Any]:
    return [_button(name, files.get(name)) for name in LABELS]


def models_of(
    cache: StoreCache,
    shown: Snapshot,
    trial: TrialRecord,
) -> dict[str, RefinementRecord | None]:
    """Return the models of a trial by what a browser calls them: that of the search, then those
    trained longer.
    """
    rows = refinements(cache.reader, shown.study, trial.number)
    longer = {}
    for row in rows:
        if row.state == "complete":
            longer[f"refined-{row.id}"] = row
    return {SEARCHED: None, **longer}


def model_words(refined: RefinementRecord | None) -> str:
    """Name one of a trial's models."""
    if refined is None:
        return "as the search left it"
    return f"refined: {refined.steps:,} further steps, seed {refined.seed}"


def described(shown: Snapshot, trial: TrialRecord, downloads: Downloads) -> str:
    """Return the trial in words, with what is not there and why."""
    line = trial_line(shown, trial)
    if not downloads.problems:
        return line
    items = ""
    for problem in downloads.problems:
        items += f"<li>{escaped(problem)}</li>"
    return f"{line}<ul class='problems'>{items}</ul>"


def _button(name: str, path: Path | None) -> Any:
    if path is None:
        return gr.DownloadButton(LABELS[name], value=None, interactive=False)
    what = name
    if name == EVERYTHING:  # which is no name of a file
        what = path.suffix.removeprefix(".")
    label = f"{LABELS[name]} ({what}, {size(path.stat().st_size)})"
    return gr.DownloadButton(label, value=str(path), interactive=True)


def folder() -> Path:
    """Return the app's own folder for files that are downloaded."""
    return Path(get_upload_folder()) / "export"


def _offer_report(session: Session) -> None:
    """Make the report when it is asked for: it runs models on images, which takes a while."""
    cache = session.cache
    with gr.Row(equal_height=True):
        images = gr.Slider(
            0,
            MOST_IMAGES,
            value=3,
            step=1,
            label="Validation images to show in it",
            elem_id="export-images",
            scale=2,
        )
        make = gr.Button("Make the report", elem_id="export-make", min_width=180)
        download = gr.DownloadButton(
            "Report",
            visible=False,
            elem_id="export-report",
            min_width=180,
        )
    status = gr.HTML(elem_id="export-status")

    def answer(name: Any, count: Any) -> Iterator[tuple[Any, Any]]:
        yield from reported(cache, name, count)

    running = gr.on(
        [make.click],
        answer,
        [session.study, images],
        [status, download],
        api_visibility="private",
        show_progress="minimal",
        show_progress_on=[status],
        trigger_mode="once",
    )
    listen(
        [session.study.change],
        lambda: ("", _no_report()),
        [],
        [status, download],
        cancels=[running],
    )


def reported(cache: StoreCache, name: Any, count: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what is being done, and the report when it is made."""
    yield _said("Waits for its turn."), _no_report()
    began = time.monotonic()
    stage = "Waits for its turn"
    try:
        for told in run_in_background(report_work(cache, name, count)):
            if isinstance(told, Path):
                label = f"Report ({told.name}, {size(told.stat().st_size)})"
                yield (
                    _said("The report is made."),
                    gr.DownloadButton(label, value=str(told), visible=True),
                )
                continue
            stage = told or stage
            yield _said(f"{stage}: {time.monotonic() - began:.0f} s"), gr.skip()
    except AutomlSRError as error:
        yield _said(str(error)), gr.skip()
    except Exception as error:
        log.exception("a report could not be made")
        yield _said(f"{type(error).__name__}: see the log of the app."), gr.skip()


def _no_report() -> Any:
    return gr.DownloadButton("Report", value=None, visible=False)


def report_work(cache: StoreCache, name: Any, count: Any) -> Any:
    """Return the work of making a report.

    Raises UseError for what is no study or no number of images.
    """
    shown = snapshot(cache, name)
    if shown is None:
        raise UseError(NO_STUDY)
    if isinstance(count, bool) or count not in range(MOST_IMAGES + 1):
        raise UseError(f"A report shows 0 to {MOST_IMAGES} images.")

    def work(tell: Tell) -> None:
        write_report = load(REPORT)
        tell("Reading the study and running its models on images")
        text = write_report(
            cache.reader,
            shown.study.name,
            cache.registry,
            images=int(count),
        )
        tell(kept(text.encode("utf-8", "replace"), folder(), f"{file_name(shown.study.name)}.html"))

    return work


def file_name(name: str) -> str:
    """Return a plain file name for a study's name."""
    return re.sub(r"[^0-9A-Za-z_-]", "_", name)


def _said(text: str) -> str:
    return f"<p role='status'>{escaped(text)}</p>"
