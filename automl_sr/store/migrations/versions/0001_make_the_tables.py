"""Make the tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "automl_sr_studies",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("space", JSON, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("environment", JSON, nullable=False),
        sa.Column("reference", JSON, nullable=False),
        sa.Column("artifacts", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("active_at", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automl_sr_studies")),
        sa.UniqueConstraint("name", name=op.f("uq_automl_sr_studies_name")),
    )
    op.create_table(
        "automl_sr_trials",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("slot", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("optuna_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("plan", JSON, nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("values", JSON, nullable=True),
        sa.Column("costs", JSON, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("stage_seconds", JSON, nullable=True),
        sa.Column("stage", sa.String(length=64), nullable=True),
        sa.Column("duplicate_of", sa.Integer(), nullable=True),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("started", sa.Double(), nullable=True),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["automl_sr_studies.id"],
            name=op.f("fk_automl_sr_trials_study_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automl_sr_trials")),
        sa.UniqueConstraint("slot", name=op.f("uq_automl_sr_trials_slot")),
        sa.UniqueConstraint("study_id", "number", name=op.f("uq_automl_sr_trials_study_id_number")),
    )
    with op.batch_alter_table("automl_sr_trials", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_automl_sr_trials_study_id_fingerprint"),
            ["study_id", "fingerprint"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_automl_sr_trials_study_id_state"), ["study_id", "state"], unique=False
        )

    op.create_table(
        "automl_sr_artifacts",
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["automl_sr_trials.id"],
            name=op.f("fk_automl_sr_artifacts_trial_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trial_id", "kind", name=op.f("pk_automl_sr_artifacts")),
    )
    op.create_table(
        "automl_sr_curves",
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("phase", sa.String(length=64), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("rate", sa.Double(), nullable=True),
        sa.Column("images_per_second", sa.Double(), nullable=True),
        sa.Column("values", JSON, nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["automl_sr_trials.id"],
            name=op.f("fk_automl_sr_curves_trial_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trial_id", "phase", "step", name=op.f("pk_automl_sr_curves")),
    )
    op.create_table(
        "automl_sr_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("trial_id", ID, nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["automl_sr_studies.id"],
            name=op.f("fk_automl_sr_events_study_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["automl_sr_trials.id"],
            name=op.f("fk_automl_sr_events_trial_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automl_sr_events")),
    )
    with op.batch_alter_table("automl_sr_events", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_automl_sr_events_study_id"), ["study_id"], unique=False
        )

    op.create_table(
        "automl_sr_rungs",
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("values", JSON, nullable=False),
        sa.Column("go_on", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["automl_sr_studies.id"],
            name=op.f("fk_automl_sr_rungs_study_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["automl_sr_trials.id"],
            name=op.f("fk_automl_sr_rungs_trial_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trial_id", "rung", name=op.f("pk_automl_sr_rungs")),
    )
    with op.batch_alter_table("automl_sr_rungs", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_automl_sr_rungs_study_id_rung"), ["study_id", "rung"], unique=False
        )


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("automl_sr_rungs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_automl_sr_rungs_study_id_rung"))

    op.drop_table("automl_sr_rungs")
    with op.batch_alter_table("automl_sr_events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_automl_sr_events_study_id"))

    op.drop_table("automl_sr_events")
    op.drop_table("automl_sr_curves")
    op.drop_table("automl_sr_artifacts")
    with op.batch_alter_table("automl_sr_trials", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_automl_sr_trials_study_id_state"))
        batch_op.drop_index(batch_op.f("ix_automl_sr_trials_study_id_fingerprint"))

    op.drop_table("automl_sr_trials")
    op.drop_table("automl_sr_studies")
