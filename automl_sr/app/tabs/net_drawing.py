"""The drawing of the net of a trial's model, made when it is first looked at."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from automl_sr.errors import AutomlSRError
from automl_sr.presentation.drawing import stored_drawing
from automl_sr.presentation.markup import Markup, el

if TYPE_CHECKING:
    from automl_sr.store.records import ArtifactRecord, TrialRecord

log = logging.getLogger(__name__)
MOST_KEPT = 128


class NetDrawings:
    """Drawings by the content of the file, the newest kept in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Markup] = OrderedDict()
        self._changing = threading.Lock()

    def of(self, trial: TrialRecord) -> str:
        """Return a folded section with the drawing, or a sentence that says why there is none;
        nothing for a trial without a model.
        """
        record = trial.artifacts.get("onnx")
        if record is None:
            return ""
        try:
            return self._section(record)
        except AutomlSRError as error:
            return el("p", f"The net cannot be drawn: {error}")
        except Exception as error:
            log.exception("%s cannot be drawn", record.url)
            return el("p", f"The net cannot be drawn: {type(error).__name__}, see the app's log.")

    def _section(self, record: ArtifactRecord) -> Markup:
        key = (record.url, record.sha256)
        with self._changing:
            kept = self._kept.get(key)
        if kept is not None:
            return kept
        drawing = stored_drawing(record)
        scrolled = el(
            "div",
            drawing.inline(),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Drawing of the net",
        )
        made = el("details", el("summary", f"Drawing of the net: {drawing.caption}"), scrolled)
        with self._changing:
            self._kept[key] = made
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return made
