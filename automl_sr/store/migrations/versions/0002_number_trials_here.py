"""Trials are numbered here, and carry what a takeover on another machine needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)
TRIALS = "automl_sr_trials"


def upgrade() -> None:
    """Add columns one by one: SQLite would make a new table for anything else, and lose what refers
    to the old one.
    """
    # Rows without a number held a slot of the budget for a worker that died before it asked
    # anything.
    op.execute(f"DELETE FROM {TRIALS} WHERE number IS NULL")  # noqa: S608 - our constant
    # What was half-way cannot go on: nobody knows any more what its sampler drew. It begins anew
    # under its number, and with another slot, so that the Optuna trial of its former plan is not
    # taken for that of the new one.
    half_way = f"SELECT id FROM {TRIALS} WHERE state IN ('running', 'waiting')"  # noqa: S608 - our constant
    for table in ("automl_sr_curves", "automl_sr_rungs"):
        op.execute(f"DELETE FROM {table} WHERE trial_id IN ({half_way})")  # noqa: S608 - our constants
    again = "plan = NULL, fingerprint = NULL, stage = NULL, slot = slot || '-2'"
    op.execute(f"UPDATE {TRIALS} SET {again} WHERE state IN ('running', 'waiting')")  # noqa: S608 - our constants
    op.drop_column(TRIALS, "optuna_id")
    op.add_column(TRIALS, sa.Column("asked", JSON, nullable=True))
    op.add_column(TRIALS, sa.Column("violations", JSON, nullable=True))
    op.add_column(TRIALS, sa.Column("position", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(TRIALS, sa.Column("takeovers", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(TRIALS, sa.Column("kept", JSON, nullable=True))
    op.add_column(TRIALS, sa.Column("shared", JSON, nullable=True))
    op.add_column(TRIALS, sa.Column("origin", JSON, nullable=True))
    op.add_column("automl_sr_rungs", sa.Column("seconds", sa.Double(), nullable=True))
    op.create_table(
        "automl_sr_refinements",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("values", JSON, nullable=True),
        sa.Column("tests", JSON, nullable=True),
        sa.Column("artifacts", JSON, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["automl_sr_studies.id"],
            name=op.f("fk_automl_sr_refinements_study_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["automl_sr_trials.id"],
            name=op.f("fk_automl_sr_refinements_trial_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automl_sr_refinements")),
        sa.UniqueConstraint(
            "trial_id", "steps", "seed", name=op.f("uq_automl_sr_refinements_trial_id_steps_seed")
        ),
    )
    op.create_index(
        op.f("ix_automl_sr_refinements_study_id"), "automl_sr_refinements", ["study_id"]
    )
