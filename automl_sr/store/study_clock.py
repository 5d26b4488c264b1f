"""A study's clock: for how long at least one worker has been searching, over all resumes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, null, or_, select, update
from sqlalchemy.orm import Session

from automl_sr.store import models
from automl_sr.store.leases import node, uptime
from automl_sr.store.models import now
from automl_sr.store.records import StudyRecord
from automl_sr.store.writer import Writer, transaction


class StudyClock(Writer):
    """Starts, moves on and stops the clocks of studies."""

    @transaction
    def begin_activity(self, session: Session, study: StudyRecord) -> float:
        """Start the study's clock where no worker is running it; gives the seconds used so far."""
        # A study that nobody has touched for so long was not being searched: what has passed since
        # is not counted.
        row = models.Study
        longest = 4 * self.renewal
        stale = or_(row.active_at.is_(None), _gap() > longest)
        begin = update(row).where(row.id == study.id, stale)
        session.execute(begin.values(**_touched()))
        return move_on(session, study.id, self.lease)

    def tick(self, study: StudyRecord) -> float:
        """Move the study's clock on; gives the seconds used so far."""
        with self.writing() as session:
            return move_on(session, study.id, self.lease)

    @transaction
    def end_activity(self, session: Session, study: StudyRecord) -> float:
        """Stop the study's clock, unless other workers keep it running."""
        seconds = move_on(session, study.id, self.lease)
        trial = models.Trial
        others = select(func.count()).where(trial.study_id == study.id, trial.owner.is_not(None))
        if not session.scalar(others):
            row = models.Study
            stop = update(row).where(row.id == study.id)
            session.execute(stop.values(active_at=None))
        return seconds


def move_on(session: Session, study_id: int, longest: float) -> float:
    """Add what has passed since the last look; gives the seconds used so far.

    A gap that is longer than `longest` seconds, those of a lease, is no search: the machine slept,
    or the worker was suspended.
    """
    row = models.Study
    own = row.id == study_id
    gap = _gap()
    too_long = (gap > longest, 0.0)
    usual = (gap > 0.0, gap)  # a clock that was set back gives a negative one
    passed = case(too_long, usual, else_=0.0)

    statement = update(row).where(own)
    session.execute(statement.values(seconds=row.seconds + passed, **_touched()))
    return session.scalar(select(row.seconds).where(own)) or 0.0


def _gap() -> ColumnElement[float]:
    """Return the seconds since anybody moved a study's clock on; nothing where it stands still.

    Where that was on this machine its uptime tells them, for the database's clock may have been set
    meanwhile.
    """
    study = models.Study
    here = and_(study.active_on == node(), study.active_uptime.is_not(None))
    by_uptime = literal(uptime()) - study.active_uptime
    by_database = now() - study.active_at
    stands_still = study.active_at.is_(None)
    return case((stands_still, null()), (here, by_uptime), else_=by_database)


def _touched() -> dict[str, Any]:
    return {"active_at": now(), "active_on": node(), "active_uptime": uptime()}
