"""Whether a claim still holds its trial: each owner has a higher fence than those before it.

What names an older one changes nothing, so a worker that was suspended and comes back writes
nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from automl_sr.store import models
from automl_sr.store.leases import LeaseLostError
from automl_sr.store.records import UNFINISHED, Claim


def change_held(session: Session, claim: Claim, **fields: Any) -> bool:
    """Change a trial's row if the claim still holds it; False where it does not."""
    return change_fenced(session, models.Trial, claim.trial_id, claim.fence, **fields)


def change_fenced(
    session: Session,
    table: type[models.Trial] | type[models.Refinement],
    row: int,
    fence: int,
    **fields: Any,
) -> bool:
    """Change an unfinished row if its fence is still this one; False where it is another."""
    held = (table.id == row, table.fence == fence, table.state.in_(UNFINISHED))
    # One statement both looks and writes: between two, another worker could take the row over.
    statement = update(table).where(*held).values(**fields)
    result: CursorResult[Any] = session.execute(statement)  # type: ignore[assignment]
    return result.rowcount == 1


def is_held(session: Session, claim: Claim) -> bool:
    """Return whether the claim still holds its trial, which stays so until the transaction ends."""
    trial = models.Trial
    held = (
        trial.id == claim.trial_id,
        trial.fence == claim.fence,
        trial.state == "running",
    )
    query = select(trial.id).where(*held)
    return session.scalar(query.with_for_update()) is not None


def is_ended_by(session: Session, claim: Claim) -> bool:
    """Return whether the trial was ended under this very fence.

    That was done by a transaction whose answer got lost.
    """
    trial = models.Trial
    ended = (
        trial.id == claim.trial_id,
        trial.fence == claim.fence,
        trial.state.not_in(UNFINISHED),
    )
    return session.scalar(select(trial.id).where(*ended)) is not None


def lost(claim: Claim) -> LeaseLostError:
    """Say that another worker goes on."""
    return LeaseLostError(
        f"Another worker has taken trial {claim.number} over.", "It goes on there; nothing is lost."
    )
