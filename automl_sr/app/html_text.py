"""What pages say about trials, as HTML in which nothing from a store is markup."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.numbers import number
from automl_sr.presentation.plan_words import plan_words

if TYPE_CHECKING:
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.store.records import TrialRecord


def escaped(value: Any) -> str:
    """Write a value as text of a page."""
    return html.escape(str(value))


def values_words(trial: TrialRecord) -> str:
    """Write what was measured of a trial: psnr_y 34.12, params 6,577."""
    return ", ".join(f"{name} {number(value)}" for name, value in trial.values.items())


def state_words(shown: Snapshot, trial: TrialRecord) -> str:
    """Say what became of a trial, and whether it is in the front."""
    place = ""
    if trial.number in shown.front_numbers:
        place = " in the front"
    return f"{trial.state}{place}"


def trial_line(shown: Snapshot, trial: TrialRecord) -> str:
    """Describe the selected trial in one or two lines."""
    parts = [values_words(trial), plan_words(trial.params), trial.reason or ""]
    said = " · ".join(escaped(part) for part in parts if part)
    return f"<p><b>trial {trial.number}</b>, {escaped(state_words(shown, trial))} · {said}</p>"
