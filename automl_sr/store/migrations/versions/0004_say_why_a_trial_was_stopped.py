"""A rung keeps the reason for which a trial was promoted or stopped there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column; rows of before have no reason."""
    op.add_column("automl_sr_rungs", sa.Column("reason", sa.Text(), nullable=True))
