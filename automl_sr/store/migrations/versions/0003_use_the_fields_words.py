"""A row and its Optuna trial share a key, since a slot is a place in the pipeline; a rung is a
branch, not a fork.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TRIALS = sa.table(
    "automl_sr_trials",
    sa.column("id", sa.BigInteger()),
    sa.column("stage", sa.String()),
    sa.column("stage_seconds", sa.JSON(none_as_null=True)),
)


def upgrade() -> None:
    """Rename in place: both databases can, and nothing is copied."""
    op.alter_column("automl_sr_trials", "slot", new_column_name="key")
    connection = op.get_bind()
    connection.execute(TRIALS.update().where(TRIALS.c.stage == "fork").values(stage="branch"))
    rows = connection.execute(sa.select(TRIALS.c.id, TRIALS.c.stage_seconds)).all()
    for row in rows:
        seconds = row.stage_seconds
        if not seconds or "fork" not in seconds:
            continue
        renamed = {}
        for stage, value in seconds.items():
            name = stage
            if stage == "fork":
                name = "branch"
            renamed[name] = value
        connection.execute(
            TRIALS.update().where(TRIALS.c.id == row.id).values(stage_seconds=renamed)
        )
