"""What became of the layers of the front's models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.layer_chart import is_compressed
from automl_sr.presentation.stored_layers import stored_layers
from automl_sr.report.examples import spread

if TYPE_CHECKING:
    from automl_sr.store.records import TrialRecord

MOST = 12
"""Front members that are looked at: those of a long front, from end to end of it."""


def compressed(front: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return the layers of the front's models that were pruned or are stored in fewer bits.

    A file that cannot be read is a row with its reason.
    """
    chosen = spread(front, MOST)
    rows = []
    for trial in chosen:
        table = stored_layers(trial)
        if table is None:
            continue
        if table.get("reason") or is_compressed(table):
            rows.append({**table, "number": trial.number})
    return {"rows": rows, "more": len(front) - len(chosen)}
