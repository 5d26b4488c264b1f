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
    """Return a value as text of a page."""
    return html.escape(str(value))


def values_words(trial: TrialRecord) -> str:
    """Return what was measured of a trial: psnr_y 34.12, params 6,577."""
    parts = []
    for name, value in trial.values.items():
        parts.append(f"{name} {number(value)}")
    return ", ".join(parts)


def state_words(shown: Snapshot, trial: TrialRecord) -> str:
    """Return what became of a trial, and whether it is in the front."""
    if trial.number in shown.front_numbers:
        return f"{trial.state} in the front"
    return trial.state


def trial_line(shown: Snapshot, trial: TrialRecord) -> str:
    """Return the selected trial in one or two lines."""
    parts = [values_words(trial), plan_words(trial.params), trial.reason or ""]
    # Each part by itself: names of parameters and reasons come from a store.
    said = " · ".join(map(escaped, filter(None, parts)))
    state = escaped(state_words(shown, trial))
    return f"<p><b>trial {trial.number}</b>, {state} · {said}</p>"
