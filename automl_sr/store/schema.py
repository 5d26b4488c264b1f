"""Bring the tables of a store up to date with Alembic, which keeps its own version table and leaves
Optuna's alone.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from automl_sr.errors import StoreError
from automl_sr.store.database import READ, creating, masked
from automl_sr.store.models import VERSION_TABLE

HEAD = "0005"
"""The newest revision; knowing it here saves every start a look through the migrations."""
FOLDER = Path(__file__).parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Make or update our tables, once even where several processes start together.

    Raises StoreError.
    """
    if version(engine) == HEAD:
        return
    with creating(engine):
        # Looked for once more, now that nobody else can make them.
        found = version(engine)
        if found == HEAD:
            return
        _refuse_newer(masked(engine.url.render_as_string(hide_password=False)), found)
        from alembic import command
        from alembic.config import Config

        config = Config()
        folder = str(FOLDER).replace("%", "%%")  # a percent sign would begin an interpolation
        config.set_main_option("script_location", folder)
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def check(engine: Engine, name: str) -> None:
    """See that a store that is only read has the tables of this version. Raises StoreError."""
    found = version(engine)
    if found == HEAD:
        return
    _refuse_newer(name, found)
    if found is None:
        raise StoreError(
            f"{name} is a database, but no store of automl-sr.", "Name another one with --store."
        )
    raise StoreError(
        f"{name} was written by an older version.",
        "Run `automl-sr search` on it once to bring it up to date.",
    )


def version(engine: Engine) -> str | None:
    """Return the revision of the tables, or nothing where there are none."""
    with engine.connect().execution_options(**{READ: True}) as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - our constant


def _refuse_newer(name: str, found: str | None) -> None:
    if found is None:
        return
    known = set()
    for path in (FOLDER / "versions").glob("*.py"):
        number, _, _ = path.stem.partition("_")
        known.add(number)
    if found not in known:
        raise StoreError(
            f"{name} was written by a newer version (tables {found}).", "Update automl-sr."
        )
