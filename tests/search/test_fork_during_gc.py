"""`gc` while a `fork` is being written, on PostgreSQL: whichever is first, no file goes that the
new study names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until
from search_world import load, registry, run_fast
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from automl_sr.search.engine import Options, search
from automl_sr.search.retention import Leftovers, find_leftovers, remove
from automl_sr.search.study import fork_study
from automl_sr.store import models
from automl_sr.store.repository import Store

FORK, GC = "fork", "gc"


class World:
    """A study that was searched, which one thread forks and another one cleans up, each with
    connections of its own.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.options = Options(store=url, artifacts=str(folder / "artifacts"))
        search(
            load(name="old", trials=6, objectives="score"), registry(), self.options, run=run_fast
        )
        self.store = Store.open(url)
        self.held: list[Held] = []
        self.threads = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in (FORK, GC)}

    def look(self) -> Leftovers:
        found = find_leftovers(self.store, self.store.study("old"), registry().metrics)
        assert found.files, "the front of one objective is one trial"
        return found

    def fork(self) -> None:
        fork_study(
            "old", load(name="new", trials=6, objectives="score"), registry(), self.options
        ).store.close()

    def remove(self, found: Leftovers) -> None:
        store = Store.open(self.options.store)
        remove(store, found)
        store.close()

    def hold(self, thread: str, of: Callable[[Session], Any]) -> Held:
        self.held.append(Held(thread, of))
        event.listen(Session, "before_commit", self.held[-1])
        return self.held[-1]

    def begin(self, name: str, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.threads[name].submit(work, *arguments)

    def waiting(self) -> bool:
        """Whether a connection waits for a lock of another one."""
        with self.store.reading() as session:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname ="
                " current_database()"
            )
            return bool(session.scalar(text(query)))

    def missing(self) -> list[str]:
        """Name the files of the new study that are gone."""
        files = [
            file.url
            for trial in self.store.trials(self.store.study("new"))
            for file in trial.artifacts.values()
        ]
        return [url for url in files if not Path(url).is_file()]

    def named(self) -> int:
        return sum(len(trial.artifacts) for trial in self.store.trials(self.store.study("new")))


@pytest.fixture
def world(postgres_url: str, tmp_path: Path) -> Iterator[World]:
    made = World(postgres_url, tmp_path)
    yield made
    for pool in made.threads.values():
        pool.shutdown()
    for held in made.held:
        event.remove(Session, "before_commit", held)
    made.store.close()


class Held:
    """Holds a transaction open just before its commit: the first one of a thread of which something
    is true.
    """

    def __init__(self, thread: str, of: Callable[[Session], Any]) -> None:
        self._thread = thread
        self._of = of
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, session: Session) -> None:
        if (
            threading.current_thread().name.startswith(self._thread)
            and not self.begun.is_set()
            and self._of(session)
        ):
            self.begun.set()
            assert self.go_on.wait(60)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()


def test_gc_waits_for_a_fork_that_is_being_written(world: World) -> None:
    found = world.look()
    with world.hold(
        FORK, lambda session: session.scalar(select(models.Study.id).filter_by(name="new"))
    ) as fork:
        forked = world.begin(FORK, world.fork)
        assert fork.begun.wait(60)
        removed = world.begin(GC, world.remove, found)
        wait_until(lambda: world.waiting() or removed.done(), "gc is held up by the fork")
        assert not removed.done()
    forked.result(60)
    removed.result(60)
    assert world.named() == 6
    assert world.missing() == []


def test_a_fork_waits_for_gc_and_names_nothing_that_goes(world: World) -> None:
    found = world.look()
    forgotten = select(models.Event.id).where(models.Event.kind == "files removed")
    with world.hold(GC, lambda session: session.scalar(forgotten)) as gc:
        removed = world.begin(GC, world.remove, found)
        assert gc.begun.wait(60)
        forked = world.begin(FORK, world.fork)
        wait_until(lambda: world.waiting() or forked.done(), "the fork is held up by gc")
        assert not forked.done()
    removed.result(60)
    forked.result(60)
    assert world.named() == 1
    assert world.missing() == []
