"""Tab: what models make of a picture, of the study's or one's own, measured where it can be."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from automl_sr.app.html_text import escaped, values_words
from automl_sr.app.preview.gallery import enlarges, shown, why_no_gallery
from automl_sr.app.preview.pictures import (
    OUTPUT_PIXELS,
    UPLOAD_PIXELS,
    as_original,
    chosen,
    decoded,
    listed,
    sets_of,
    to_upscale,
)
from automl_sr.app.preview.upscaling import upscaled
from automl_sr.app.preview.viewer import Shown, viewer
from automl_sr.app.server.background import Tell, run_in_background
from automl_sr.app.server.uploads import UPLOAD_BYTES, uploaded
from automl_sr.app.session import NO_STUDY, Session, listen, numbers, skip, snapshot
from automl_sr.app.store_cache import Snapshot, StoreCache
from automl_sr.app.trial_choices import trial_choices
from automl_sr.data.images import SUFFIXES
from automl_sr.errors import AutomlSRError, UseError
from automl_sr.presentation.markup import Markup
from automl_sr.presentation.stored_models import StoredModels
from automl_sr.search.environment import cores
from automl_sr.tasks.image_sr.task import ImageSR

if TYPE_CHECKING:
    from automl_sr.app.preview.pictures import Fit, Subject
    from automl_sr.store.records import TrialRecord

log = logging.getLogger(__name__)
MOST_TRIALS = 4
UPLOAD = "upload"
ORIGINS = [
    ("Validation image", "valid"),
    ("Test image", "test"),
    ("Example photograph", "example"),
    ("Your own picture", UPLOAD),
]
USES = [
    ("Enlarge it", "enlarge"),
    ("Use it as the original: make it small first, so that PSNR is known", "original"),
]
FITS = [("show its middle", "cut"), ("show all of it, reduced", "reduce")]
TIMES = "Times are for the whole picture with {} threads, without loading the model."
NO_MODEL_TO_SHOW = "No trial of this study has left a model yet."
NO_MODELS = "No trial of this study has left a model yet: bicubic enlargement alone can be shown."


@dataclass(frozen=True)
class Wish:
    """What a visitor asks to see, as it comes from the browser."""

    study: Any
    origin: Any
    image: Any
    file: Any
    use: Any
    fit: Any
    trials: Any


def build(session: Session) -> None:
    """Fill the tab."""
    note = gr.HTML(elem_id="preview-note")
    with gr.Row(elem_id="preview") as everything:
        with gr.Column(scale=1, min_width=280):
            with gr.Column() as pictures:
                origin, image, own, controls = _picture_controls()
            trials = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                max_choices=MOST_TRIALS,
                label=f"Trials, up to {MOST_TRIALS}, the front first",
                elem_id="preview-trials",
            )
            with gr.Row():
                show = gr.Button(
                    "Show",
                    variant="primary",
                    elem_id="preview-show",
                    min_width=100,
                )
                cancel = gr.Button(
                    "Cancel",
                    interactive=False,
                    elem_id="preview-cancel",
                    min_width=100,
                )
            status = gr.HTML(elem_id="preview-status")
        with gr.Column(scale=3, min_width=320):
            panes = viewer("preview-viewer")
            examples = gr.HTML(elem_id="preview-gallery", visible=False)

    # Of the visitors for whom something is being made.
    cancelled: dict[str | None, threading.Event] = {}

    def show_wish(request: gr.Request, *values: Any) -> Iterator[Any]:
        wanted = cancelled[request.session_hash] = threading.Event()
        wish = Wish(*values)
        try:
            if _has_viewer(session.cache, wish.study):
                for value, said, busy in answered(session.cache, wish, wanted):
                    yield value, gr.skip(), said, busy
            else:
                for html, said, busy in answered_in_gallery(session.cache, wish, wanted):
                    yield gr.skip(), html, said, busy
        finally:
            cancelled.pop(request.session_hash, None)

    def stop(request: gr.Request) -> None:
        """Ask what shows to end."""
        # Gradio's own way may be overtaken by what was told before, and leave the button on.
        if request.session_hash in cancelled:
            cancelled[request.session_hash].set()

    _wire(
        session,
        [note, everything, pictures, panes, examples],
        [origin, own, image],
        trials,
    )
    gr.on(
        [show.click],
        show_wish,
        [session.study, origin, image, *controls, trials],
        [panes, examples, status, cancel],
        api_visibility="private",
        show_progress="minimal",
        show_progress_on=[status],
        trigger_mode="once",
    )
    listen([cancel.click], stop, [], [], queue=False)


def _picture_controls() -> tuple[gr.Radio, gr.Dropdown, gr.Column, list[Any]]:
    """Make what chooses a picture: its kind, the image of a set, and the column and controls of
    uploads.
    """
    origin = gr.Radio(
        ORIGINS,
        value="valid",
        label="Picture",
        elem_id="preview-origin",
    )
    image = gr.Dropdown([], label="Image", elem_id="preview-image")
    with gr.Column(visible=False) as own:
        file = gr.File(
            label=(
                f"Your picture, up to {UPLOAD_BYTES >> 20} MB and {UPLOAD_PIXELS / 1e6:.0f}"
                " megapixels"
            ),
            file_types=list(SUFFIXES),
            elem_id="preview-file",
            height=130,
        )
        use = gr.Radio(
            USES,
            value="enlarge",
            label="What to do with it",
            elem_id="preview-use",
        )
    fit = gr.Radio(
        FITS,
        value="cut",
        label=f"If results would have more than {OUTPUT_PIXELS / 1e6:.0f} megapixels",
        elem_id="preview-fit",
    )
    return origin, image, own, [file, use, fit]


def _wire(
    session: Session,
    shown: list[Any],
    source: list[Any],
    trials: gr.Dropdown,
) -> None:
    """Offer images and trials of the study.

    A trial that is selected elsewhere joins those that are picked.
    """
    cache = session.cache
    origin, own, image = source

    def offer(
        name: Any,
        kind: Any,
        image_before: Any,
        selected: Any,
        picked: Any,
    ) -> Any:
        study = snapshot(cache, name)
        reason = why_not(study, cache)
        if study is None or reason:
            return _noted(reason), gr.Row(visible=False), *skip(6)

        pictures = enlarges(study.study)
        images = gr.skip()
        missing = ""
        if pictures:
            images, missing = images_of(study, kind, image_before)
        kept = numbers(picked)
        joining = numbers(selected)
        offered = offered_trials(study, [*kept, *joining])
        return (
            _noted(missing or _no_models(offered, pictures)),
            gr.Row(visible=True),
            gr.Column(visible=pictures),
            gr.HTML(visible=pictures),
            gr.HTML(visible=not pictures),
            gr.Column(visible=kind == UPLOAD),
            images,
            _trial_list(study, offered, picks_of(offered, kept, joining), picked),
        )

    asked = [session.study, origin, image, session.trial, trials]
    session.show(
        "preview",
        offer,
        asked,
        [*shown, own, image, trials],
        also=[origin.change],
    )


def _no_models(offered: Sequence[TrialRecord], pictures: bool) -> str:
    """Return what to say where there is no model to show."""
    if offered:
        return ""
    if pictures:
        return NO_MODELS
    return NO_MODEL_TO_SHOW


def _trial_list(
    study: Snapshot,
    offered: Sequence[TrialRecord],
    picks: list[int],
    picked: Any,
) -> gr.Dropdown:
    choices = []
    for trial in offered:
        choices.append((label_of(study, trial), trial.number))
    # What is as it was is left alone: something else may have been picked meanwhile.
    if picks == picked:
        return gr.Dropdown(choices=choices)
    return gr.Dropdown(choices=choices, value=picks)


def why_not(study: Snapshot | None, cache: StoreCache) -> str:
    """Return why a study has no previews; an empty text if it has some."""
    if study is None:
        return NO_STUDY
    if enlarges(study.study):
        return ""
    return why_no_gallery(study.study, cache.registry)


def _has_viewer(cache: StoreCache, name: Any) -> bool:
    """Return whether the viewer shows what is wished.

    Without a study it says that there is none.
    """
    try:
        study = snapshot(cache, name)
    except AutomlSRError:  # whoever answers says it
        return True
    return study is None or enlarges(study.study)


def images_of(study: Snapshot, origin: Any, chosen_before: Any) -> tuple[Any, str]:
    """Return the images of one kind as a list offers them, or why there are none."""
    if origin == UPLOAD:
        return gr.Dropdown(visible=False), ""
    found = []
    keys = []
    try:
        for name, place in listed(_sets(study, origin)):
            # With the kind: `0/3` of the test images is another one than of the validation images.
            key = f"{origin}/{place}"
            found.append((name, key))
            keys.append(key)
    except AutomlSRError as error:
        return gr.Dropdown(choices=[], value=None, visible=True), str(error)
    # What was chosen of this kind stays chosen.
    if chosen_before in keys:
        return gr.Dropdown(choices=found, visible=True), ""
    return gr.Dropdown(choices=found, visible=True, value=keys[0]), ""


def offered_trials(study: Snapshot, chosen: Sequence[int] = ()) -> list[TrialRecord]:
    """Return the trials that left an ONNX file, the front first."""
    rest = [trial for trial in study.trials if trial.number not in study.front_numbers]
    with_model = [trial for trial in (*study.front, *rest) if "onnx" in trial.artifacts]
    return trial_choices(study, with_model, chosen)


def label_of(study: Snapshot, trial: TrialRecord) -> str:
    """Return a trial as a list names it: trial 12 (front): psnr_y 34.1, params 6,577."""
    place = ""
    if trial.number in study.front_numbers:
        place = " (front)"
    return f"trial {trial.number}{place}: {values_words(trial)}"


def picks_of(
    offered: Sequence[TrialRecord],
    picked: list[int],
    selected: list[int],
) -> list[int]:
    """Return what was picked and is there, with the selected trial where there is room.

    The front's best where that is nothing.
    """
    known = [trial.number for trial in offered]
    kept = [number for number in picked if number in known]
    for number in selected:
        if number in known and number not in kept:
            kept.append(number)
    return kept[:MOST_TRIALS] or known[:1]


def answered(
    cache: StoreCache,
    wish: Wish,
    cancelled: threading.Event,
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the viewer's value, what is being done, and the button that ends it.

    As often as something is new.
    """
    value = gr.skip()
    said = "Waits for its turn."
    busy = gr.Button(interactive=True)
    yield value, _said(said), busy
    try:
        # Closed also where this generator is: the work behind it ends then.
        with contextlib.closing(_steps(cache, wish)) as steps:
            for step in steps:
                if isinstance(step, Shown):
                    value = step.value()
                elif step is not None:
                    said = step
                if cancelled.is_set():
                    break
                yield value, _said(said), busy
        last = "Done."
        if cancelled.is_set():
            last = "Cancelled."
        yield value, *ended(last)
    except AutomlSRError as error:
        yield value, *ended(str(error))
    except Exception as error:
        log.exception("a preview could not be made")
        yield value, *ended(f"{type(error).__name__}: see the log of the app.")


def _steps(cache: StoreCache, wish: Wish) -> Generator[Shown | str | None]:
    """Yield what is shown whenever it has grown, and what is at work.

    None while that goes on.
    """
    study, trials = _wished(cache, wish)

    def work(tell: Tell) -> None:
        def watch(what: str, done: int, total: int) -> None:
            tell(_progress(what, done, total))

        tell("Reading the picture.")
        shown = Shown(subject_of(study, wish))
        with StoredModels() as models:
            for result in upscaled(shown.subject, trials, models, watch):
                shown.add(result)
                tell(shown)
        shown.notes = (TIMES.format(cores()),)
        tell(shown)

    yield from run_in_background(work)


def answered_in_gallery(
    cache: StoreCache,
    wish: Wish,
    cancelled: threading.Event,
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the gallery, what is being done, and the button that ends it.

    As often as something is new.
    """
    yield gr.skip(), _said("Waits for its turn."), gr.Button(interactive=True)
    try:
        study, trials = _wished(cache, wish)

        def work(tell: Tell) -> None:
            tell("Running the models on the first validation samples.")

            def unwanted() -> bool:
                tell(None)  # raises where nobody listens any more
                return cancelled.is_set()

            tell(shown(study.study, trials, cache.registry, unwanted))

        with contextlib.closing(_listened(work)) as steps:
            for step in steps:
                if cancelled.is_set():
                    yield gr.skip(), *ended("Cancelled.")
                    return
                if isinstance(step, Markup):
                    yield str(step), *ended("Done.")
                elif step is not None:
                    yield gr.skip(), _said(step), gr.skip()
    except AutomlSRError as error:
        yield gr.skip(), *ended(str(error))
    except Exception as error:
        log.exception("a gallery could not be made")
        yield gr.skip(), *ended(f"{type(error).__name__}: see the log of the app.")


def _listened(work: Callable[[Tell], None]) -> Generator[Any]:
    yield from run_in_background(work)


def _wished(cache: StoreCache, wish: Wish) -> tuple[Snapshot, list[TrialRecord]]:
    """Look up the study and the trials that are wished. Raises UseError."""
    study = snapshot(cache, wish.study)
    reason = why_not(study, cache)
    if study is None or reason:
        raise UseError(reason)
    return study, wished_trials(study, wish)


def wished_trials(study: Snapshot, wish: Wish) -> list[TrialRecord]:
    """Return the trials that were picked.

    Raises UseError for too many, and for one that left no model.
    """
    asked = list(dict.fromkeys(numbers(wish.trials)))
    if len(asked) > MOST_TRIALS:
        raise UseError(f"At most {MOST_TRIALS} trials are shown at once.")
    found = list(map(study.trial, asked))
    for trial in found:
        if "onnx" not in trial.artifacts:
            raise UseError(f"Trial {trial.number} left no ONNX file.", "Choose another one.")
    return found


def subject_of(study: Snapshot, wish: Wish) -> Subject:
    """Return the picture that is wished. Raises AutomlSRError."""
    fit: Fit = "cut"
    if wish.fit == "reduce":
        fit = "reduce"
    scale = _task(study).scale
    if wish.origin != UPLOAD:
        key = str(wish.image).removeprefix(f"{wish.origin}/")
        return chosen(_sets(study, wish.origin), key, scale, fit)
    if not isinstance(wish.file, str):
        raise UseError(
            "No picture has been uploaded yet.",
            "Drop one on the field, or choose another kind of picture.",
        )
    # A path comes from the browser, and may be any.
    path: Path = uploaded(wish.file)
    picture, notes = decoded(path, UPLOAD_BYTES)
    if wish.use == "original":
        return as_original(path.stem, picture, scale, fit, notes)
    return to_upscale(path.stem, picture, scale, fit, notes)


def ended(said: str) -> tuple[str, Any]:
    """Return the last words, and the button that has nothing more to end."""
    return _said(said), gr.Button(interactive=False)


def _task(study: Snapshot) -> ImageSR:
    fields = dict(study.study.spec["task"])
    fields.pop("kind", None)  # which is the name of the class, not a field of it
    return ImageSR.model_validate(fields)


def _sets(study: Snapshot, origin: Any) -> list[Any]:
    if origin not in ("valid", "test", "example"):
        raise UseError("This kind of picture is not known.")
    return sets_of(_task(study), origin, int(study.study.spec["search"]["seed"]))


def _progress(what: str, done: int, total: int) -> str:
    if total > 1:
        return f"{what}: tile {done + 1} of {total}"
    return what


def _noted(text: str) -> str:
    if text:
        return f"<p>{escaped(text)}</p>"
    return ""


def _said(text: str) -> str:
    return f"<p role='status'>{escaped(text)}</p>"
