"""Alembic's entry: runs migrations on the connection that the store gives it."""

from __future__ import annotations

from typing import Any

from alembic import context

from automl_sr.store.models import PREFIX, VERSION_TABLE, Base


def include(name: str | None, kind: str, parents: Any) -> bool:
    """Look at our tables only; Optuna's live in the same database."""
    return kind != "table" or (name or "").startswith(PREFIX)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_name=include,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
