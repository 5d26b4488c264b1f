"""Which trials the lists of a page offer.

Choices of thousands help nobody, and take a browser seconds.
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
    shown: Snapshot,
    trials: Sequence[TrialRecord],
    chosen: Collection[int],
) -> list[TrialRecord]:
    """Return all of the trials, or of many some, in the same order.

    Of many the chosen ones, the front and the newest.
    """
    if len(trials) <= ALL_OFFERED_UP_TO:
        return list(trials)
    numbers = sorted(trial.number for trial in trials)
    # What is chosen stays offered: a list refuses a value that it does not hold.
    wanted = {*chosen, *shown.front_numbers, *numbers[-RECENT:]}
    return [trial for trial in trials if trial.number in wanted]
