"""What all tabs of a page share: the study, the selected trial, the trials to compare, and what has
changed.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from automl_sr.app.html_text import escaped
from automl_sr.app.server.server_rendered import ServerRenderedBlocks
from automl_sr.app.static_files import static_text
from automl_sr.app.store_cache import Snapshot, StoreCache
from automl_sr.errors import AutomlSRError, UseError

log = logging.getLogger(__name__)
NO_STUDY = (
    "Choose a study above. If there is none, begin one with `automl-sr search"
    " studies/quickstart.yaml`."
)
MOST_COMPARED = 6
MOST_TRIALS = 2**31
"""PostgreSQL's integers end there."""


@dataclass(frozen=True)
class Session:
    """Components of one page; each visitor has values of their own."""

    page: ServerRenderedBlocks
    cache: StoreCache
    study: gr.Dropdown
    """Name of the study, or None."""
    trial: gr.Number
    """Number of the selected trial, or None."""
    compared: gr.State
    """Numbers of the trials to compare, a list."""
    version: gr.Textbox
    """Another text where the store has changed; nobody sees it."""
    tab: gr.Textbox
    """Id of the open tab; nobody sees it."""
    count: gr.Number
    """How many events the page has seen, as an event is sent; nobody sees it."""
    cues: Mapping[str, gr.Textbox]
    """For each tab a text that changes when the tab has to be filled anew; nobody sees it."""

    def show(
        self,
        tab: str,
        make: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        also: Sequence[Any] = (),
    ) -> None:
        """Fill components of a tab when it is opened, and while it is open when something changes.

        What counts is the tab's cue, and the events in `also`, such as `choice.input`. `make` gets
        the values of `inputs`.
        """
        guarded = safely(make)

        def fill(opened: str, *values: Any) -> Any:
            # A tab that nobody sees costs nothing: it is filled when it is opened.
            if opened == tab:
                return guarded(*values)
            return skip(len(outputs))

        triggers = [self.cues[tab].change, *also]
        self.listen_in_order(triggers, fill, [self.tab, *inputs], outputs)

    def listen_in_order(
        self,
        triggers: Sequence[Any],
        make: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
    ) -> None:
        """Fill components on events, and never with what was asked for earlier than what they show.

        A browser sends events over several connections, so that one can overtake another. Its page
        counts them when they happen; what comes too late is dropped.
        """
        newest = gr.State(0)

        def fill(count: float, known: int, *values: Any) -> Any:
            if count < known:
                return skip(len(outputs) + 1)
            filled = make(*values)
            if not isinstance(filled, tuple):
                filled = (filled,)
            return *filled, int(count)

        given = [self.count, newest, *inputs]
        listen(
            triggers,
            fill,
            given,
            [*outputs, newest],
            js=static_text("count_event.js"),
        )


def listen(
    triggers: Sequence[Any],
    handle: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    **options: Any,
) -> Any:
    """Do something on events, out of the API's sight and without a spinner."""
    settings = {
        "show_progress": "hidden",
        "api_visibility": "private",
        # Every event counts, one after the other. Gradio's mode that keeps only the last one fires
        # all listeners of an event again when one of them is done, for ever where there are
        # several.
        "trigger_mode": "multiple",
        **options,
    }
    return gr.on(triggers, safely(handle), list(inputs), list(outputs), **settings)


def skip(count: int) -> Any:
    """Leave all outputs as they are."""
    # A single output gets the value itself, not a tuple.
    if count <= 1:
        return gr.skip()
    return tuple(gr.skip() for _ in range(count))


def safely(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors of a handler into a sentence for the person; the page stays as it is."""

    # Gradio looks at the signature: whether a handler wants the request, say.
    @functools.wraps(handle)
    def wrapped(*values: Any, **named: Any) -> Any:
        try:
            return handle(*values, **named)
        except AutomlSRError as error:
            raise gr.Error(escaped(error), duration=8, print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:
            # What it says may hold paths and more: that is for whoever runs the app.
            log.exception("a page could not be filled")
            sentence = f"{type(error).__name__}: see the log of the app."
            raise gr.Error(sentence, print_exception=False) from None

    return wrapped


def snapshot(cache: StoreCache, name: Any) -> Snapshot | None:
    """Return the chosen study, or nothing where none is chosen.

    Raises UseError for what is no name.
    """
    if name in (None, ""):
        return None
    if not isinstance(name, str):
        raise UseError("The study's name is no text.")
    return cache.snapshot(name)


def numbers(values: Any) -> list[int]:
    """Return numbers of trials as they come from a browser. Raises UseError for anything else."""
    if values in (None, ""):
        return []
    given = [values]
    if isinstance(values, list):
        given = values
    return list(map(_number, given))


def _number(value: Any) -> int:
    # JSON knows one kind of number, and Python counts True as 1.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UseError("A trial is named by its number.")
    if not float(value).is_integer() or not 0 <= value < MOST_TRIALS:
        raise UseError("A trial is named by its number.")
    return int(value)
