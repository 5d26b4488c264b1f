"""Opening a store: what is made, what is refused in one line, and what stays secret."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from automl_sr.errors import StoreError, StoreUnreachableError
from automl_sr.store import schema
from automl_sr.store.database import anchored, creating, masked, open_engine, optuna_storage, parse
from automl_sr.store.models import PREFIX, VERSION_TABLE, Base
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_new_store_is_in_wal_mode_and_has_the_tables_of_the_models(tmp_path: Path) -> None:
    store = Store.open(url_of(tmp_path / "deep" / "store.db"))
    with store.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 60_000
        options = {
            "include_name": lambda name, kind, _: kind != "table" or (name or "").startswith(PREFIX)
        }
        context = MigrationContext.configure(
            connection, opts={**options, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_the_newest_migration_is_the_one_that_the_code_knows() -> None:
    assert ScriptDirectory(str(schema.FOLDER)).get_current_head() == schema.HEAD


def test_optuna_lives_in_the_same_file_with_a_version_table_of_its_own(tmp_path: Path) -> None:
    store = Store.open(url_of(tmp_path / "store.db"))
    storage = optuna_storage(store.engine)
    assert storage.get_all_studies() == []
    tables = set(inspect(store.engine).get_table_names())
    assert {"alembic_version", VERSION_TABLE, "studies", f"{PREFIX}studies"} <= tables
    with storage.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    assert not [key for name in tables if name.startswith(PREFIX) for key in _foreign(store, name)]


def _foreign(store: Store, name: str) -> list[str]:
    keys = inspect(store.engine).get_foreign_keys(name)
    return [key["referred_table"] for key in keys if not key["referred_table"].startswith(PREFIX)]


def test_opening_twice_keeps_what_is_there(tmp_path: Path) -> None:
    url = url_of(tmp_path / "store.db")
    Store.open(url).close()
    assert Store.open(url).studies() == []
    assert Reader.open(url).studies() == []


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store at"):
        Reader.open(url_of(tmp_path / "none.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_text_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(
        "certainly no database, but long enough to have a header" * 10
    )
    for opening in (Store.open, Reader.open):
        with pytest.raises(StoreError, match=r"is no store: file is not a database") as caught:
            opening(url_of(tmp_path / "notes.txt"))
        assert "\n" not in str(caught.value)


def test_a_database_of_something_else_is_no_store(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE pets (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="is a database, but no store"):
        Reader.open(url_of(tmp_path / "other.db"))


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = Store.open(url_of(tmp_path / "store.db"))
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for opening in (Store.open, Reader.open):
        with pytest.raises(StoreError, match=r"newer version.*Update automl-sr"):
            opening(url_of(tmp_path / "store.db"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"The folder .*file/sub cannot be made.*--store"):
        Store.open(url_of(tmp_path / "file" / "sub" / "store.db"))


def test_a_locked_store_is_said_to_be_locked(tmp_path: Path) -> None:
    url = url_of(tmp_path / "store.db")
    Store.open(url).close()
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = Store(url, open_engine(f"{url}?timeout=0.05", write=True))
    with (
        pytest.raises(StoreError, match="is locked by another program"),
        impatient.writing() as session,
    ):
        session.execute(text("SELECT 1"))
    assert Reader.open(url).studies() == [], "readers are not kept waiting"
    other.execute("ROLLBACK")
    other.close()


HOLDING = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("CREATE TABLE pets (name TEXT)")
other.execute(f"BEGIN {sys.argv[2]}")
print("held", flush=True)
sys.stdin.readline()
other.execute("COMMIT")
print("given back", flush=True)
"""


class Holder:
    """Another program that holds a lock on a file which is in SQLite's usual mode, not in WAL."""

    def __init__(self, path: Path, kind: str) -> None:
        command = [sys.executable, "-S", "-c", HOLDING, str(path), kind]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "held\n"

    def give_back(self) -> None:
        self.process.communicate("now\n")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    made = Holder(tmp_path / "store.db", "IMMEDIATE")
    yield made
    made.process.kill()
    made.process.wait()


def test_a_locked_file_that_is_not_yet_in_wal_mode_is_waited_for(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            holder.give_back()

    monkeypatch.setattr("automl_sr.store.database.time.sleep", look)
    store = Store.open(url_of(tmp_path / "store.db"))
    assert len(looks) >= 3
    with store.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"


@pytest.mark.usefixtures("holder")
def test_a_file_that_stays_locked_before_it_is_in_wal_mode_is_said_to_be_locked(
    tmp_path: Path,
) -> None:
    with pytest.raises(StoreUnreachableError, match="is locked by another program"):
        Store.open(f"{url_of(tmp_path / 'store.db')}?timeout=0.1")


def test_who_sets_a_store_up_for_too_long_is_named(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl_sr.store.database.BUSY_SECONDS", 0.2)
    first, second = Store.open(store_url), Store.open(store_url)
    who = (
        rf"is being set up by automl-sr {platform.node()}:{os.getpid()}\b.*not finished within"
        r" 0\.2 s"
    )
    with (
        creating(first.engine),
        pytest.raises(StoreUnreachableError, match=who) as caught,
        creating(second.engine),
    ):
        pytest.fail("two at once")
    assert "\n" not in str(caught.value)
    with creating(second.engine):
        pass  # it is free again
    first.close()
    second.close()


def test_what_goes_wrong_while_a_store_is_set_up_is_not_taken_for_a_problem_of_the_lock(
    store_url: str,
) -> None:
    store = Store.open(store_url)
    with pytest.raises(FileNotFoundError), creating(store.engine):
        Path("nowhere").read_text()
    with creating(store.engine):
        pass
    store.close()


def test_a_relative_store_stays_the_same_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.open("sqlite:///sub/store.db")
    place = anchored(store.url)
    monkeypatch.chdir("/")
    with store.writing() as session:
        session.execute(text(f"DELETE FROM {PREFIX}studies"))
    optuna_storage(store.engine)
    assert store.name == "sqlite:///sub/store.db", "people read what they wrote"
    assert Reader.open(place).studies() == []
    assert anchored(url_of(tmp_path / "a.db")) == url_of(tmp_path / "a.db")
    assert anchored("postgresql://me:secret@host/sr") == "postgresql://me:secret@host/sr"


def test_a_read_only_store_can_be_read_and_says_why_it_is_not_written(tmp_path: Path) -> None:
    url = url_of(tmp_path / "store.db")
    Store.open(url).close()
    reader = Reader.open(url)
    writer = Store(url, reader.engine)
    with pytest.raises(StoreError, match="can only be read"), writer.writing() as session:
        session.execute(text(f"DELETE FROM {PREFIX}studies"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@db/sr", "postgresql://ann:***@db/sr"),
        ("postgresql://ann@db/sr?password=s3cret", "postgresql://ann@db/sr?password=***"),
        ("sqlite:///runs/a.db", "sqlite:///runs/a.db"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://a:s3cret@b/c", "no url", "oracle:s3cret"]
)
def test_what_cannot_be_a_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse(url)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(StoreError) as caught:
        Reader.open("postgresql://ann:s3cret@127.0.0.1:1/sr?connect_timeout=2")
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1:1/sr" in str(caught.value)
