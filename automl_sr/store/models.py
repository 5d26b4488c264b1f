"""The tables, beside Optuna's and without foreign keys into them: JSON, text and numbers only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

PREFIX = "automl_sr_"
VERSION_TABLE = f"{PREFIX}alembic_version"
Json = JSON(none_as_null=True)  # nothing is SQL's NULL, of which queries ask, not JSON's `null`
# SQLite gives new ids by itself only to a column that is INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")
Object = dict[str, Any]
"""A JSON object."""


class now(FunctionElement[float]):  # noqa: N801 - reads as SQL does
    """Seconds since 1970 on the database's clock, so that workers with other clocks agree."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **_: Any) -> str:
    # Days since noon of 24 November 4714 BC, of which 2440587.5 had passed when 1970 began:
    # unixepoch('subsec') needs SQLite 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    # now() would stand still in a transaction, which may have waited for a lock.
    return "extract(epoch from clock_timestamp())::float8"


class Base(DeclarativeBase):
    """Parent of our tables."""

    # Named by rule, so that a migration can name them too.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _of_study() -> ForeignKey:
    return ForeignKey(f"{PREFIX}studies.id", ondelete="CASCADE")


def _of_trial() -> ForeignKey:
    return ForeignKey(f"{PREFIX}trials.id", ondelete="CASCADE")


class Study(Base):
    """A study: its file, what it resolved to, where it ran and how long."""

    __tablename__ = f"{PREFIX}studies"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    spec: Mapped[Object] = mapped_column(Json)
    space: Mapped[Object] = mapped_column(Json)
    source: Mapped[str] = mapped_column(Text)
    environment: Mapped[Object] = mapped_column(Json)
    reference: Mapped[Object] = mapped_column(Json)
    artifacts: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Double, default=0.0)
    """Wall-clock seconds in which at least one worker was searching."""
    active_at: Mapped[float | None] = mapped_column(Double)
    active_on: Mapped[str | None] = mapped_column(String(200))
    """The machine that moved the clock on last; on it, its uptime says how much has passed
    since.
    """
    active_uptime: Mapped[float | None] = mapped_column(Double)
    created: Mapped[float] = mapped_column(Double, default=now())


class Trial(Base):
    """A trial: who runs it, what it does, what came of it.

    The row is authoritative; Optuna is told after it.
    """

    __tablename__ = f"{PREFIX}trials"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        # The column was renamed, its constraint was not: SQLite would have to copy the table for
        # that.
        UniqueConstraint("key", name=f"uq_{PREFIX}trials_slot"),
        Index(None, "study_id", "state"),
        Index(None, "study_id", "fingerprint"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(_of_study())
    key: Mapped[str] = mapped_column(String(40))
    """Marks the Optuna trial that belongs to this row, also where a worker died between the two."""
    number: Mapped[int | None] = mapped_column(Integer)
    """Given here, one after the other: Optuna's own number is never relied on."""
    state: Mapped[str] = mapped_column(String(16))
    plan: Mapped[Object | None] = mapped_column(Json)
    asked: Mapped[Object | None] = mapped_column(Json)
    """What the sampler drew for the plan, by stored name, and what it noted: Optuna's trial is made
    from it.
    """
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    values: Mapped[Object | None] = mapped_column(Json)
    costs: Mapped[Object | None] = mapped_column(Json)
    violations: Mapped[Object | None] = mapped_column(Json)
    """By how much a plan that was rejected breaks each constraint."""
    reason: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Double, default=0.0)
    stage_seconds: Mapped[Object | None] = mapped_column(Json)
    shared: Mapped[Object | None] = mapped_column(Json)
    """Results that trials share, by name: {"seconds": what making it took, "reused": whether
    another trial did}.
    """
    stage: Mapped[str | None] = mapped_column(String(64))
    duplicate_of: Mapped[int | None] = mapped_column(Integer)
    origin: Mapped[Object | None] = mapped_column(Json)
    """The study and the number of the trial that this one was imported from; it takes no place of
    the budget.
    """
    owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None] = mapped_column(Double)
    lease_uptime: Mapped[float | None] = mapped_column(Double)
    """The same by the uptime of the owner's machine, which holds there: its clock, or the
    database's, may be set.
    """
    fence: Mapped[int] = mapped_column(Integer, default=1)
    position: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """The farthest training step that any owner reported."""
    takeovers: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """How many owners have died since then."""
    kept: Mapped[Object | None] = mapped_column(Json)
    """Checkpoints that were copied to a remote artifact location, so that another machine can go
    on.
    """
    created: Mapped[float] = mapped_column(Double, default=now())
    started: Mapped[float | None] = mapped_column(Double)
    finished: Mapped[float | None] = mapped_column(Double)


class CurvePoint(Base):
    """A point of a learning curve; a resumed trial writes the same points again."""

    __tablename__ = f"{PREFIX}curves"

    trial_id: Mapped[int] = mapped_column(_of_trial(), primary_key=True)
    phase: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    loss: Mapped[float | None] = mapped_column(Double)
    rate: Mapped[float | None] = mapped_column(Double)
    images_per_second: Mapped[float | None] = mapped_column(Double)
    values: Mapped[Object | None] = mapped_column(Json)
    at: Mapped[float] = mapped_column(Double, default=now())


class Rung(Base):
    """The values of a trial at a rung and whether it was promoted: one row, written once."""

    __tablename__ = f"{PREFIX}rungs"
    __table_args__ = (Index(None, "study_id", "rung"),)

    trial_id: Mapped[int] = mapped_column(_of_trial(), primary_key=True)
    rung: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[int] = mapped_column(_of_study())
    step: Mapped[int] = mapped_column(Integer)
    seconds: Mapped[float | None] = mapped_column(Double)
    """Seconds that the trial had taken by then, over all its attempts."""
    values: Mapped[Object] = mapped_column(Json)
    go_on: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(Text)
    """Why, in the words of the scheduler."""
    at: Mapped[float] = mapped_column(Double, default=now())


class Artifact(Base):
    """A file that a trial left, with what it must contain."""

    __tablename__ = f"{PREFIX}artifacts"

    trial_id: Mapped[int] = mapped_column(_of_trial(), primary_key=True)
    kind: Mapped[str] = mapped_column(String(64), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)


class Refinement(Base):
    """A trial's model trained longer: its values stand beside those of the search, never in their
    place.
    """

    __tablename__ = f"{PREFIX}refinements"
    __table_args__ = (UniqueConstraint("trial_id", "steps", "seed"), Index(None, "study_id"))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(_of_study())
    trial_id: Mapped[int] = mapped_column(_of_trial())
    steps: Mapped[int] = mapped_column(Integer)
    seed: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
    values: Mapped[Object | None] = mapped_column(Json)
    """By metric, on the validation set, as the search measures."""
    tests: Mapped[Object | None] = mapped_column(Json)
    """By test set, then by metric."""
    artifacts: Mapped[Object | None] = mapped_column(Json)
    """By kind: url, sha256 and bytes."""
    reason: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Double, default=0.0)
    owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None] = mapped_column(Double)
    lease_uptime: Mapped[float | None] = mapped_column(Double)
    """The same by the uptime of the owner's machine, which holds there: its clock, or the
    database's, may be set.
    """
    fence: Mapped[int] = mapped_column(Integer, default=1)
    created: Mapped[float] = mapped_column(Double, default=now())
    finished: Mapped[float | None] = mapped_column(Double)


class Event(Base):
    """Something that happened to a study or a trial: notes, failures with their traceback,
    takeovers.
    """

    __tablename__ = f"{PREFIX}events"
    __table_args__ = (Index(None, "study_id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(_of_study())
    trial_id: Mapped[int | None] = mapped_column(_of_trial())
    kind: Mapped[str] = mapped_column(String(32))
    text: Mapped[str] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Double, default=now())
