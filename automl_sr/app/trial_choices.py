"""Which trials the lists of a page offer: choices of thousands help nobody, and take a browser
seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.store.records import TrialRecord

ALL_OFFERED_UP_TO = 500
"""Of more trials the front and the newest are offered."""
RECENT = 200


def trial_choices(
    shown: Snapshot, trials: Sequence[TrialRecord], chosen: Collection[int]
) -> list[TrialRecord]:
    """Return all of the trials, or of many the chosen ones, the front and the newest, in the same
    order.
    """
    if len(trials) <= ALL_OFFERED_UP_TO:
        return list(trials)
    newest = {trial.number for trial in sorted(trials, key=lambda trial: trial.number)[-RECENT:]}
    wanted = {*chosen, *shown.front_numbers, *newest}
    found: list[TrialRecord] = []
    for trial in trials:
        if trial.number in wanted:
            found.append(trial)
    return found
