"""Open the database by URL: SQLite set up for several processes, PostgreSQL as it is, and errors in
one sentence.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import time
import unicodedata
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from sqlalchemy import (
    URL,
    Connection,
    CreateEnginePlugin,
    Engine,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import plugins
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)

from automl_sr.errors import StoreError, StoreUnreachableError
from automl_sr.store.encoding import dumps
from automl_sr.store.leases import lease_seconds

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

DEFAULT_URL = "sqlite:///runs/automl-sr.db"
BUSY_SECONDS = 60
"""How long a writer waits for another one; `?timeout=5` in a SQLite URL changes it."""
LOOK_SECONDS = 0.05
"""Between two attempts at a lock for which a database does not wait by itself."""
SETTINGS = "automl_sr_settings"
READ = "automl_sr_read"
_HARMLESS = {"host", "hostaddr", "sslmode", "options", "application_name"}
"""Options in a URL whose values may be shown; any other one may be a password, or a misspelt
one.
"""
_NUMBERS = {"port", "timeout", "connect_timeout"}
"""Options whose values may be shown where they are numbers."""
_CREATION_LOCK = 7_236_114_905


def default_url() -> str:
    """Return `AUTOML_SR_STORE`, or the SQLite file in `runs`."""
    return os.environ.get("AUTOML_SR_STORE") or DEFAULT_URL


def masked(url: str) -> str:
    """Write a store's URL without passwords, for people and logs."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "the store"
    if "@" in (parsed.host or ""):
        return "the store"  # part of a password that was not escaped
    shown = {}
    for key, value in parsed.query.items():
        shown[key] = value
        if not _harmless(key.lower(), str(value)):
            shown[key] = "***"
    text = parsed.set(query=shown).render_as_string(hide_password=True)
    return text.replace("%2A%2A%2A", "***")  # asterisks are escaped in options


def _harmless(key: str, value: str) -> bool:
    """Return whether the value of an option may be shown."""
    if key in _HARMLESS:
        return True
    return key in _NUMBERS and value.replace(".", "", 1).isdecimal()


def parse(url: str) -> URL:
    """Read a store's URL. Raises StoreError for another kind of database."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in url):
        raise StoreError(
            "The store's URL holds control characters, or bytes that are no text.",
            "Write it again.",
        )
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise StoreError(
            "The store's URL cannot be read.", "Write sqlite:///runs/automl-sr.db, for instance."
        ) from error
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(
            f"A store cannot be a {backend} database.", "Use sqlite:///FILE or postgresql://..."
        )
    if backend == "sqlite" and (not parsed.database or parsed.database == ":memory:"):
        raise StoreError(
            "A store in memory is lost at once.", "Name a file: sqlite:///runs/automl-sr.db."
        )
    if "@" in (parsed.host or ""):
        raise StoreError("The store's URL cannot be read.", "Write an @ in a password as %40.")
    if backend == "postgresql" and parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


class Settings(CreateEnginePlugin):
    """Puts our settings on an engine that Optuna makes, before its first statement."""

    def update_url(self, url: URL) -> URL:
        """Leave the URL as it is."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Listen to connections of the new engine."""
        on_connect(engine)


plugins.register(SETTINGS, __name__, Settings.__name__)


def on_connect(engine: Engine) -> None:
    """Set SQLite connections up: WAL, a long patience, and transactions that begin where we say."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        if not engine.url.query.get("mode"):
            _switch_to_wal(cursor, _seconds(engine.url))
            cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor, seconds: float) -> None:
    """Switch a database to WAL, unless it is; SQLite waits for a lock everywhere but here."""
    end = time.monotonic() + seconds
    while True:
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= end:
                raise
            time.sleep(LOOK_SECONDS)
        else:
            return


def on_begin(engine: Engine) -> None:
    """Let SQLite transactions take the write lock when they begin, except those that only read.

    With Optuna's defaults 8 processes claimed a queued trial twice; with these settings none of 96
    did.
    """
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(READ) or engine.url.query.get("mode")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def engine_options(url: URL) -> dict[str, Any]:
    """Return the arguments of `create_engine` that our engine and Optuna's share."""
    if url.get_backend_name() == "sqlite":
        patience = _seconds(url)
        return {"connect_args": {"timeout": patience}, "plugins": [SETTINGS]}
    return {
        "pool_pre_ping": True,
        "pool_size": KEPT_CONNECTIONS,
        "plugins": [SETTINGS],
        "connect_args": {**_PATIENT, **_session_settings(url), **_name_of_program(url)},
    }


KEPT_CONNECTIONS = 2
"""Connections that a worker keeps open: a server takes 100 of all workers unless it is told
otherwise.
"""
_PATIENT = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A server that is gone without a word (its machine died) is noticed after half a minute, not a
quarter of an hour; the last entry is for what was sent already, on which no keepalive is tried."""


def _session_settings(url: URL) -> dict[str, Any]:
    """Let PostgreSQL end the transaction of a worker that was suspended in it."""
    # Its locks would hold up all others.
    if "options" in url.query:
        return {}
    milliseconds = round(1000 * max(1.0, lease_seconds() / 2))
    return {"options": f"-c idle_in_transaction_session_timeout={milliseconds}"}


def _name_of_program(url: URL) -> dict[str, str]:
    """Let administrators, and those who wait for a lock, see which process a connection belongs
    to.
    """
    if "application_name" in url.query:
        return {}
    return {"application_name": _this_process()[:63]}


def _seconds(url: URL) -> float:
    given = str(url.query.get("timeout", BUSY_SECONDS))
    try:
        return float(given)
    except ValueError:
        raise StoreError(
            "The timeout in a store's URL is no number of seconds.", "Write timeout=60."
        ) from None


def open_engine(url: str, *, write: bool) -> Engine:
    """Open a database to write, making its folder, or to read what is there. Raises StoreError."""
    parsed = parse(url)
    if parsed.get_backend_name() == "sqlite":
        parsed = _sqlite_url(parsed, write=write)
    try:
        engine = create_engine(parsed, json_serializer=dumps, **engine_options(parsed))
    except ModuleNotFoundError as error:
        hint = "Install it with: pip install 'automl-sr[postgres]'."
        raise StoreError(f"{masked(url)} needs the driver {error.name!r}.", hint) from error
    on_begin(engine)
    return engine


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite store."""
    if url.get_backend_name() == "sqlite":
        return Path(str(url.database))
    return None


def anchored(url: str) -> str:
    """Return a store's URL that means the same in every folder: a relative path is one of the
    folder of now.
    """
    parsed = parse(url)
    path = sqlite_file(parsed)
    if path is None or path.is_absolute():
        return url
    return parsed.set(database=str(path.absolute())).render_as_string(hide_password=False)


def _sqlite_url(url: URL, *, write: bool) -> URL:
    path = Path(str(url.database)).absolute()  # a technique may enter another folder
    if write:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder {path.parent} cannot be made: {error.strerror}.",
                "Choose another --store.",
            ) from error
        return url.set(database=str(path))
    if not path.is_file():
        raise StoreError(
            f"There is no store at {masked(str(url))}.",
            "Name one with --store, or run `automl-sr search`.",
        )
    # As a URI: SQLite takes a mode in no other name of a file.
    query = {**url.query, "mode": "ro", "uri": "true"}
    name = urllib.parse.quote(str(path.resolve()))
    return url.set(database=f"file:{name}", query=query)


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn errors of the database into a StoreError of one sentence, without passwords."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        if not isinstance(error, DBAPIError):
            cause = error.__cause__  # Optuna wraps what its storage raises
        if not isinstance(cause, DBAPIError):
            raise
        raise _explain(masked(url), cause) from error


_PASSING = {
    "40001": "serialization failure",
    "40P01": "deadlock",
    "55P03": "lock not available",
    "25P03": "idle in transaction for too long",
    "53300": "too many connections",
    "57P01": "shut down",
    "57P02": "crashed",
    "57P03": "starts up",
    "57P05": "idle for too long",
}
"""What PostgreSQL says when the same statement may succeed a little later, by SQLSTATE."""


def _passes(error: DBAPIError, reason: str) -> bool:
    """Whether trying again makes sense."""
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in reason or "busy" in reason
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # the connection could not be made, or broke
        return isinstance(error, OperationalError | InterfaceError)
    code = str(state)
    return code in _PASSING or code.startswith("08")  # 08: all that a connection can suffer


def _explain(name: str, error: DBAPIError) -> StoreError:
    reason = " ".join(str(error.orig).split())
    low = reason.lower()
    if _passes(error, low):
        if isinstance(error.orig, sqlite3.Error):
            return StoreUnreachableError(
                f"{name} is locked by another program.", "Close it, or wait until it has finished."
            )
        hint = "Is the server running, and is the URL right?"
        return StoreUnreachableError(f"{name} does not answer: {reason[:300]}.", hint)
    if "not a database" in low or "malformed" in low:
        return StoreError(f"{name} is no store: {reason}.", "Name another file with --store.")
    if "readonly" in low or "read-only" in low:
        return StoreError(
            f"{name} can only be read.",
            "Make the file and its folder writable, or choose another --store.",
        )
    if "unable to open" in low:
        return StoreError(f"{name} cannot be opened.", "Is its folder there, and writable?")
    if "disk is full" in low or "disk i/o" in low:
        return StoreError(
            f"{name} cannot be written: {reason}.",
            "Free some space and run the same command again.",
        )
    if "no such table" in low or "does not exist" in low:
        return StoreError(
            f"{name} is a database, but no store of automl-sr.", "Name another one with --store."
        )
    return StoreError(f"{name} refuses: {reason[:300]}.")


def snapshot(engine: Engine) -> Engine:
    """Return the engine with transactions that only read, and that see the database as it was when
    they began.
    """
    options: dict[str, Any] = {READ: True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return engine.execution_options(**options)


def creating(engine: Engine) -> contextlib.AbstractContextManager[None]:
    """Hold a lock between processes while tables or a study are made, so that it happens once.

    Raises StoreUnreachableError, with who has it, where it is not to be had for as long as any
    other lock is waited for.
    """
    path = sqlite_file(engine.url)
    if path is None:
        return _creating_there(engine)
    return _creating_here(path, _seconds(engine.url))


@contextlib.contextmanager
def _creating_here(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock of a SQLite store."""
    # Its owner stands in a file beside it: each who tries to lock a file empties it.
    lock = FileLock(f"{path}.lock", timeout=seconds)
    owner = path.with_name(f"{path.name}.lock-owner")
    try:
        with contextlib.suppress(Timeout):
            lock.acquire()
        if lock.is_locked:
            owner.write_text(_this_process())
    except OSError as error:
        lock.release()
        hint = "Make the folder writable, or choose another --store."
        raise StoreError(f"{path.parent} cannot be written: {error.strerror}.", hint) from error
    if not lock.is_locked:
        raise _being_made(f"sqlite:///{path}", _read(owner), seconds)
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def _creating_there(engine: Engine) -> Iterator[None]:
    """Hold the lock of a PostgreSQL store; it ends with the connection, should this process die."""
    end = time.monotonic() + BUSY_SECONDS
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(
            text("SELECT pg_try_advisory_lock(:key)"), {"key": _CREATION_LOCK}
        ):
            if time.monotonic() >= end:
                name = masked(engine.url.render_as_string(hide_password=False))
                raise _being_made(name, _holder_there(connection), BUSY_SECONDS)
            time.sleep(LOOK_SECONDS)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _CREATION_LOCK})


def _holder_there(connection: Connection) -> str:
    """Return who holds the lock for creating, as the server knows it."""
    query = text(
        "SELECT a.application_name, a.pid, a.client_addr::text FROM pg_locks l JOIN"
        " pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND a.datname"
        " = current_database() AND (l.classid::bigint << 32) + l.objid::bigint = :key"
    )
    found = connection.execute(query, {"key": _CREATION_LOCK}).first()
    if found is None:
        return ""
    name, pid, address = found
    return (
        f"{name or 'a program'} (process {pid} of the server, from {address or 'its own machine'})"
    )


def _being_made(name: str, owner: str, seconds: float) -> StoreUnreachableError:
    return StoreUnreachableError(
        f"{name} is being set up by {owner or 'another process'}, which has not finished within"
        f" {seconds:g} s.",
        "Wait until it has, or end it.",
    )


def _this_process() -> str:
    return f"automl-sr {platform.node()}:{os.getpid()}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def optuna_storage(engine: Engine) -> RDBStorage:
    """Open Optuna's storage in the database of one of our engines, with the same settings."""
    from optuna.storages import RDBStorage

    literal = engine.url.render_as_string(hide_password=False)
    escaped = literal.replace("{", "{{").replace("}", "}}")  # Optuna formats the URL
    with explained(literal), creating(engine):
        # Optuna leaves a connection open while it makes its tables: only after that may each begin
        # take the lock.
        storage = RDBStorage(escaped, engine_kwargs=_shared(engine))
    # What a copy in another process makes its own engine with.
    storage.engine_kwargs = engine_options(engine.url)
    on_begin(storage.engine)
    return storage


def _shared(engine: Engine) -> dict[str, Any]:
    """Return what Optuna's engine is made with: on a server it takes its connections from our
    pool.
    """
    if engine.dialect.name == "sqlite":
        return engine_options(engine.url)
    return {"pool": engine.pool, "plugins": [SETTINGS]}
