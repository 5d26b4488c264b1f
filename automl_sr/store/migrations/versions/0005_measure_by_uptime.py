"""Leases and the study's clock are kept by the uptime of machines, too: their clocks may be set
while they search.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; rows of before go by the database's clock alone."""
    for table in ("automl_sr_trials", "automl_sr_refinements"):
        op.add_column(table, sa.Column("lease_uptime", sa.Double(), nullable=True))
    op.add_column("automl_sr_studies", sa.Column("active_on", sa.String(length=200), nullable=True))
    op.add_column("automl_sr_studies", sa.Column("active_uptime", sa.Double(), nullable=True))
