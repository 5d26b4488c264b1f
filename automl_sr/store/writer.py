"""How the store is written to: in short transactions, which are done again where the connection
was lost.
"""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from automl_sr.errors import StoreError, StoreUnreachableError
from automl_sr.store import models
from automl_sr.store.database import default_url, explained, open_engine, sqlite_file
from automl_sr.store.encoding import storable_text
from automl_sr.store.leases import RENEWALS, lease_seconds
from automl_sr.store.models import now
from automl_sr.store.reading import Reader
from automl_sr.store.schema import upgrade

PATIENCE_SECONDS = 60.0
"""So long a database that restarts, or a lost connection, is waited for."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
# Each process has its own: the common one is seeded for trials, and all workers would pause alike.
_chance = random.Random()

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound="Writer")


def retry(work: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Do something with a database, again and again with growing pauses where it does not answer.

    `work` is also done again where its outcome got lost. Raises StoreUnreachableError when the
    patience is at its end.
    """
    end = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while True:
        try:
            return work()
        except StoreUnreachableError:
            if time.monotonic() + pause > end:
                raise
        # Not all alike, so that workers do not come back at the same moment.
        time.sleep(pause * _chance.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE)


def transaction(
    method: Callable[Concatenate[W, Session, P], T],
) -> Callable[Concatenate[W, P], T]:
    """Run a method in one transaction, and again where the connection was lost.

    Whether the lost one was committed is not known, so what such a method does twice must be as if
    it did it once.
    """

    @functools.wraps(method)
    def called(store: W, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def once() -> T:
            with store.writing() as session:
                return method(store, session, *args, **kwargs)

        return store.retry(once)

    return called


class Writer(Reader):
    """A store that is open to write."""

    lease: float
    """Seconds for which a worker that is not heard of keeps its trial."""
    patience: float
    """Seconds for which a database that does not answer is waited for."""
    _file: tuple[int, int] | None = None
    """Which file this is, where it is one: SQLite would go on writing to one that was removed."""

    @classmethod
    def open(cls, url: str | None = None) -> Self:
        """Open a store, making what is missing. Raises StoreError."""
        url = url or default_url()
        lease = lease_seconds()
        engine = open_engine(url, write=True)
        with explained(url):
            upgrade(engine)

        store = cls(url, engine)
        store.lease = lease
        store.patience = PATIENCE_SECONDS
        store._file = _identity(engine)
        return store

    @property
    def renewal(self) -> float:
        """Seconds after which a lease is renewed."""
        return self.lease / RENEWALS

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """Write in one transaction."""
        if self._file is not None and self._file != _identity(self.engine):
            raise StoreError(
                f"{self.name} was removed or replaced while it was in use; what it held is lost.",
                "Put a copy of it back, if there is one.",
            )
        with explained(self.url), Session(self.engine) as session, session.begin():
            yield session

    def retry(self, work: Callable[[], T]) -> T:
        """Do something with the database as `retry` does, for as long as this store is patient."""
        return retry(work, self.patience)


def lock_study(session: Session, study_id: int) -> None:
    """Let transactions that look at several trials of a study take turns."""
    study = models.Study
    row = select(study.id).where(study.id == study_id)
    # A key share: rows that only refer to the study, such as events, need not wait for this lock.
    session.execute(row.with_for_update(key_share=True))


def add_event(session: Session, study_id: int, trial_id: int | None, kind: str, text: str) -> None:
    """Keep something that happened to a study, or to a trial."""
    values = {"study_id": study_id, "trial_id": trial_id, "kind": kind, "text": storable_text(text)}
    session.execute(insert(models.Event).values(**values, at=now()))


def _identity(engine: Engine) -> tuple[int, int] | None:
    path = sqlite_file(engine.url)
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return (0, 0)  # no file is this one: the next write says that the store is gone
    return (found.st_dev, found.st_ino)
