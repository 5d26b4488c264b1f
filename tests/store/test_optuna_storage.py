"""Optuna's own conformance suite on its storage as we open it: our transactions change nothing of
what it promises.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from optuna.storages import RDBStorage, get_storage
from optuna.storages._cached_storage import _CachedStorage
from optuna.testing.pytest_storages import StorageTestCase

from automl_sr.store.database import open_engine, optuna_storage

if TYPE_CHECKING:
    from postgres import Server


@contextlib.contextmanager
def opened(url: str) -> Iterator[RDBStorage]:
    engine = open_engine(url, write=True)
    storage = optuna_storage(engine)
    yield storage
    storage.remove_session()
    storage.engine.dispose()
    engine.dispose()


# Making Optuna's tables takes longer than most of its tests: they are made once, and each test gets
# a copy.


@pytest.fixture(scope="module")
def sqlite_with_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("optuna") / "store.db"
    with opened(f"sqlite:///{path}"):
        pass
    return path


@pytest.fixture(scope="module")
def postgres_with_tables(postgres: Server) -> str:
    url = postgres.new_database()
    with opened(url):
        pass
    return url


@pytest.fixture
def sqlite_copy(sqlite_with_tables: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(sqlite_with_tables, tmp_path)}"


@pytest.fixture
def postgres_copy(postgres: Server, postgres_with_tables: str) -> Iterator[str]:
    url = postgres.new_database(like=postgres_with_tables)
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite_copy", "postgres_copy"])
def rdb_storage(request: pytest.FixtureRequest) -> Iterator[RDBStorage]:
    with opened(request.getfixturevalue(request.param)) as storage:
        yield storage


@pytest.mark.ci
class TestStorage(StorageTestCase):
    """Without the cache: what it would hide, on the database that takes least time."""

    @pytest.fixture
    def storage(self, sqlite_copy: str) -> Iterator[RDBStorage]:
        with opened(sqlite_copy) as storage:
            yield storage


@pytest.mark.ci
class TestStorageWithTheCacheOfOptuna(StorageTestCase):
    @pytest.fixture
    def storage(self, rdb_storage: RDBStorage) -> _CachedStorage:
        cached = get_storage(rdb_storage)
        assert isinstance(cached, _CachedStorage)
        return cached
