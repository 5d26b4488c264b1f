"""Stores of every released schema open in this version, and hold afterwards what they held
before.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, Table, create_engine, event, insert, select, text

from automl_sr.errors import StoreError
from automl_sr.store import schema
from automl_sr.store.database import open_engine
from automl_sr.store.models import PREFIX, VERSION_TABLE, Base
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store

SCHEMAS = Path(__file__).parent / "schemas"
FILES = {path.stem: path for path in sorted(SCHEMAS.glob("*.db"))}
NO_LONGER_NEEDED = {"automl_sr_trials": {"optuna_id"}}
"""Columns that a migration may drop; it may drop no other."""
RENAMED = {"automl_sr_trials": {"slot": "key"}}
"""Columns that a migration may rename."""
STAGES = {"fork": "branch"}
"""Stages of a trial that have another name now."""

Rows = dict[str, list[dict[str, Any]]]


OLDEST, *LATER = FILES


@pytest.fixture(params=[OLDEST, *(pytest.param(name, marks=pytest.mark.ci) for name in LATER)])
def revision(request: pytest.FixtureRequest) -> str:
    """Each schema that was ever released; the oldest goes through all migrations."""
    return str(request.param)


@pytest.fixture
def url(store_url: str, revision: str) -> str:
    """A store of that schema, on each kind of database."""
    if not store_url.startswith("sqlite") and revision in LATER[:-1]:
        pytest.skip("on PostgreSQL the steps between are those that the oldest goes through")
    if store_url.startswith("sqlite"):
        shutil.copy(FILES[revision], store_url.removeprefix("sqlite:///"))
    else:
        carry_over(FILES[revision], store_url, revision)
    complete(store_url)
    return store_url


def carry_over(file: Path, url: str, revision: str) -> None:
    """Make the tables of a schema on PostgreSQL, and fill them with the rows of a SQLite file."""
    config = Config()
    config.set_main_option("script_location", str(schema.FOLDER))
    old, new = create_engine(f"sqlite:///{file}"), open_engine(url, write=True)
    with new.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with new.begin() as connection:
        for table in tables(new):
            rows = contents(old)[table.name]
            if rows and table.name != VERSION_TABLE:
                connection.execute(insert(table), rows)
            if "id" in table.columns:
                ids = (
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM"
                    f" {table.name}"
                )
                connection.execute(text(ids))
    old.dispose()
    new.dispose()


def complete(url: str) -> None:
    """Add a row where the file has none: what is not there cannot be lost."""
    engine = open_engine(url, write=True)
    study, trial = (contents(engine)[f"{PREFIX}{name}"][0]["id"] for name in ("studies", "trials"))
    add(
        engine,
        "rungs",
        trial_id=trial,
        rung=7,
        study_id=study,
        step=30,
        values={"score": 0.1},
        go_on=True,
        at=1.5,
    )
    add(engine, "events", study_id=study, trial_id=trial, kind="note", text="ü", at=2.5)
    engine.dispose()


def add(engine: Engine, name: str, **values: Any) -> None:
    [table] = [table for table in tables(engine) if table.name == f"{PREFIX}{name}"]
    with engine.begin() as connection:
        connection.execute(insert(table).values(**values))


def tables(engine: Engine, *, ours: bool = True) -> list[Table]:
    """Give our tables or Optuna's, as they are in the database."""
    metadata = MetaData()
    metadata.reflect(engine)
    return [table for table in metadata.sorted_tables if table.name.startswith(PREFIX) == ours]


def contents(engine: Engine, *, ours: bool = True) -> Rows:
    """Read everything without the help of our code."""
    with engine.connect() as connection:
        return {
            table.name: [
                dict(row)
                for row in (
                    connection.execute(select(table).order_by(*table.primary_key)).mappings().all()
                )
            ]
            for table in tables(engine, ours=ours)
        }


def contents_of(url: str, *, ours: bool = True) -> Rows:
    engine = open_engine(url, write=True)
    found = contents(engine, ours=ours)
    engine.dispose()
    return found


def in_todays_words(rows: Rows) -> Rows:
    """Give rows of an older schema with the names that columns and stages have now."""
    renamed: Rows = {}
    for table, found in rows.items():
        names = RENAMED.get(table, {})
        renamed[table] = [
            {names.get(column, column): value for column, value in row.items()} for row in found
        ]
    for row in renamed[f"{PREFIX}trials"]:
        row["stage"] = STAGES.get(row["stage"], row["stage"])
        seconds = row["stage_seconds"] or {}
        row["stage_seconds"] = {
            STAGES.get(stage, stage): value for stage, value in seconds.items()
        } or None
    return renamed


def key_column(revision: str) -> str:
    """Name the column that ties a row to its Optuna trial."""
    return "slot" if revision < "0003" else "key"


def still_there(before: Rows, after: Rows) -> Rows:
    """Give what was there before as it is now: without columns that are new."""
    return {
        name: [
            (
                {column: value for column, value in row.items() if column in before[name][0]}
                if before[name]
                else row
            )
            for row in after[name]
        ]
        for name in before
    }


def without(rows: Rows, columns: dict[str, set[str]]) -> Rows:
    return {
        name: [{key: row[key] for key in row if key not in columns.get(name, ())} for row in found]
        for name, found in rows.items()
        if name != VERSION_TABLE
    }


def test_there_is_a_database_of_every_schema_that_the_migrations_know() -> None:
    known = {script.revision for script in ScriptDirectory(str(schema.FOLDER)).walk_revisions()}
    assert set(FILES) == known, (
        "add a small store, made by this version, as tests/store/schemas/REVISION.db"
    )


def test_the_file_has_the_schema_of_its_name_and_is_no_draft(revision: str, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{shutil.copy(FILES[revision], tmp_path)}")
    assert schema.version(engine) == revision
    rows = contents(engine)
    assert all(rows[f"{PREFIX}{name}"] for name in ("studies", "trials", "curves", "artifacts"))
    assert contents(engine, ours=False)["trials"], "it holds Optuna's tables too"
    engine.dispose()


def test_reading_asks_for_an_upgrade_and_changes_nothing(url: str, revision: str) -> None:
    before = contents_of(url)
    if revision == schema.HEAD:
        assert Reader.open(url).studies()
    else:
        with pytest.raises(
            StoreError, match=r"older version.*Run `automl-sr search` on it once"
        ) as caught:
            Reader.open(url)
        assert "\n" not in str(caught.value)
    assert contents_of(url) == before


def test_an_upgrade_keeps_every_row_and_gives_the_tables_of_the_models(url: str) -> None:
    before, optunas = in_todays_words(contents_of(url)), contents_of(url, ours=False)
    store = Store.open(url)
    after = contents(store.engine)
    assert without(still_there(before, after), NO_LONGER_NEEDED) == without(
        before, NO_LONGER_NEEDED
    )
    assert contents(store.engine, ours=False) == optunas
    assert schema.version(store.engine) == schema.HEAD
    with store.engine.connect() as connection:
        options = {
            "include_name": lambda name, kind, _: kind != "table" or (name or "").startswith(PREFIX)
        }
        context = MigrationContext.configure(
            connection, opts={**options, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, Base.metadata) == []
        if connection.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    store.close()


def test_an_upgraded_store_is_read_as_before(url: str) -> None:
    before = contents_of(url)
    Store.open(url).close()
    reader = Reader.open(url)
    rows = before[f"{PREFIX}studies"]
    assert [study.name for study in reader.studies()] == [row["name"] for row in rows]
    assert [study.spec for study in reader.studies()] == [row["spec"] for row in rows]
    study = reader.studies()[0]
    trials = [
        row
        for row in before[f"{PREFIX}trials"]
        if row["study_id"] == study.id and row["number"] is not None
    ]
    found = reader.trials(study)
    assert [(t.number, t.state, t.values, t.plan) for t in found] == [
        (row["number"], row["state"], row["values"] or {}, row["plan"]) for row in trials
    ]
    for trial in found:
        points = [row for row in before[f"{PREFIX}curves"] if row["trial_id"] == trial.id]
        assert sorted((p.step, p.loss) for p in reader.curve(trial)) == sorted(
            (r["step"], r["loss"]) for r in points
        )
        files = [row for row in before[f"{PREFIX}artifacts"] if row["trial_id"] == trial.id]
        assert {f.kind: f.sha256 for f in trial.artifacts.values()} == {
            row["kind"]: row["sha256"] for row in files
        }
    assert [rung.rung for rung in reader.rungs(study)] == [
        row["rung"] for row in before[f"{PREFIX}rungs"] if row["study_id"] == study.id
    ]
    assert [happened.text for happened in reader.events(study)] == [
        row["text"] for row in before[f"{PREFIX}events"] if row["study_id"] == study.id
    ]
    reader.close()


def test_an_upgraded_store_goes_on_with_the_next_number(url: str) -> None:
    store = Store.open(url)
    study = store.studies()[0]
    last = max(trial.number for trial in store.trials(study))
    claim = store.claim_new(study, "somebody:1:a", None)
    assert claim is not None
    assert claim.number == last + 1
    assert store.freeze(claim, {"params": {}}, "new", {}) is None
    assert store.trials(study)[-1].fingerprint == "new"
    store.close()


def test_an_upgrade_that_is_cut_off_leaves_the_old_store(url: str, revision: str) -> None:
    if revision == schema.HEAD:
        pytest.skip("nothing to upgrade")

    def cut_off(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(f"UPDATE {VERSION_TABLE}"):
            raise RuntimeError("the power went out")

    before = contents_of(url)
    event.listen(Engine, "before_cursor_execute", cut_off)
    try:
        with pytest.raises(RuntimeError, match="the power went out"):
            Store.open(url)
    finally:
        event.remove(Engine, "before_cursor_execute", cut_off)
    assert contents_of(url) == before
    Store.open(url).close()
    assert Reader.open(url).studies()


@pytest.mark.ci
def test_a_slot_without_a_number_was_never_a_trial(url: str, revision: str) -> None:
    """In schema 0001 a worker could die between taking a place of the budget and asking for a
    plan.
    """
    if revision != "0001":
        pytest.skip("later schemas number a trial when it is claimed")
    engine = open_engine(url, write=True)
    empty = {
        "slot": "left",
        "state": "running",
        "owner": "gone",
        "fence": 1,
        "seconds": 0.0,
        "created": 1.0,
    }
    add(engine, "trials", study_id=1, number=None, **empty)
    engine.dispose()
    store = Store.open(url)
    study = store.studies()[0]
    limit = len(store.trials(study)) + 1
    assert store.claim_new(study, "somebody:1:a", limit) is not None, "it holds no place any more"
    assert store.take_over(study, "somebody:1:b") is None
    store.close()


def test_a_trial_that_was_half_way_goes_on_under_its_key_with_its_stages(
    url: str, revision: str
) -> None:
    if revision == "0001":
        pytest.skip("schema 0001 did not keep what the sampler drew: its trials begin anew")
    engine = open_engine(url, write=True)
    stage = "fork" if revision < "0003" else "branch"
    begun = {
        key_column(revision): "half",
        "state": "running",
        "owner": "gone",
        "fence": 3,
        "created": 1.0,
    }
    drawn = {
        "plan": {"params": {}},
        "asked": {"params": {}, "notes": {}},
        "fingerprint": "f",
        "position": 40,
    }
    where = {"stage": stage, "stage_seconds": {"train": 5.0, stage: 4.0}, "seconds": 9.0}
    add(engine, "trials", id=77, study_id=1, number=9, takeovers=0, **begun, **drawn, **where)
    engine.dispose()
    store = Store.open(url)
    study = store.studies()[0]
    claim = store.take_over(study, "somebody:1:a")
    assert claim is not None
    assert (claim.number, claim.fence, claim.key, claim.stage) == (9, 4, "half", "branch")
    assert claim.asked == {"params": {}, "notes": {}}
    assert dict(store.trial(study, 9).stage_seconds) == {"train": 5.0, "branch": 4.0}
    store.close()


@pytest.mark.ci
def test_a_trial_that_was_half_way_never_runs_another_plan_than_the_stored_one(
    url: str, revision: str
) -> None:
    """Schema 0001 did not keep what the sampler drew, and a sampler asked again may draw something
    else.
    """
    if revision != "0001":
        pytest.skip("later schemas keep with a plan what was drawn for it")
    engine = open_engine(url, write=True)
    begun = {
        key_column(revision): "half",
        "state": "running",
        "owner": "gone",
        "fence": 3,
        "seconds": 9.0,
        "created": 1.0,
    }
    add(
        engine, "trials", id=77, study_id=1, number=9, plan={"params": {}}, fingerprint="f", **begun
    )
    add(engine, "curves", trial_id=77, phase="train", step=1, at=1.0)
    engine.dispose()
    store = Store.open(url)
    study = store.studies()[0]
    claim = store.take_over(study, "somebody:1:a")
    assert claim is not None
    assert (claim.number, claim.fence) == (9, 4)
    if claim.asked is None:
        assert (claim.plan, store.trial(study, 9).fingerprint) == (
            None,
            None,
        ), "a new plan is drawn for its number"
        assert claim.key != "half", "the Optuna trial of the former plan is another"
        assert store.curve(store.trial(study, 9)) == []
    store.close()
