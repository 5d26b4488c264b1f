"""What a search lives through: a database that restarts or stays away, workers that are suspended,
full disks.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from processes import STEPS, Process
from search_world import Slowly, load, registry, study_text

from automl_sr.errors import StoreUnreachableError
from automl_sr.search.engine import Options, SearchEnd, search
from automl_sr.store.database import optuna_storage
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store

if TYPE_CHECKING:
    from postgres import Server


def find(url: str, folder: Path, run: Any) -> SearchEnd:
    return search(
        load(trials=3), registry(), Options(store=url, artifacts=str(folder / "files")), run=run
    )


def results(url: str) -> list[tuple[Any, ...]]:
    """Give everything that a trial is remembered by, its whole curve included."""
    opened = Reader.open(url)
    study = opened.study("world")
    return [
        (
            row.number,
            row.state,
            row.values,
            row.plan,
            [(p.phase, p.step, p.loss) for p in opened.curve(row)],
        )
        for row in opened.trials(study)
    ]


def told(url: str) -> list[tuple[str, Any]]:
    """Give what Optuna knows, without trials that do not count."""
    storage = optuna_storage(Store.open(url).engine)
    trials = optuna.load_study(study_name="world", storage=storage).trials
    return [(trial.state.name, trial.values) for trial in trials if trial.state.name != "FAIL"]


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[tuple[Any, ...]]:
    url = f"sqlite:///{tmp_path}/undisturbed.db"
    find(url, tmp_path / "undisturbed", Slowly(STEPS, lambda step, done: None))
    return results(url)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_restarts_in_the_middle_of_trials_is_waited_for(
    tmp_path: Path, postgres: Server, postgres_url: str, undisturbed: list[Any], mode: Any
) -> None:
    restarts = iter([2, 9, 12])
    due = [next(restarts)]
    steps: list[int] = []

    def restart(step: int, done: int) -> None:
        steps.append(step)
        if due and len(steps) == due[0]:
            due[:] = [at for at in [next(restarts, None)] if at]
            postgres.restart(mode)

    end = find(postgres_url, tmp_path, Slowly(STEPS, restart))
    assert end.error is None
    assert not due, "every restart took place"
    assert len(steps) == 3 * STEPS, "no step was done twice"
    assert results(postgres_url) == undisturbed


@pytest.mark.ci
def test_a_server_that_stays_away_ends_the_worker_with_its_work_checkpointed(
    tmp_path: Path,
    postgres: Server,
    postgres_url: str,
    undisturbed: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("automl_sr.store.writer.PATIENCE_SECONDS", 0.3)
    monkeypatch.setenv(
        "AUTOML_SR_LEASE_SECONDS", "0.2"
    )  # the process goes on, so that its lease has to run out

    def gone(step: int, done: int) -> None:
        if step == 3:
            postgres.stop()

    try:
        with pytest.raises(StoreUnreachableError, match="does not answer") as caught:
            find(postgres_url, tmp_path, Slowly(STEPS, gone))
        assert caught.value.exit_code == 1
        assert "\n" not in str(caught.value)
    finally:
        postgres.start()
    begun: list[int] = []
    end = find(postgres_url, tmp_path, Slowly(STEPS, lambda step, done: begun.append(step)))
    assert end.error is None
    steps = [4, 5, *range(1, STEPS + 1), *range(1, STEPS + 1)]
    assert sorted(begun) == sorted(steps), "the trial goes on where the database got lost"
    assert results(postgres_url) == undisturbed, (
        "the point of the curve that could not be written is there"
    )


@pytest.mark.ci
def test_a_worker_that_is_suspended_past_its_lease_writes_nothing_any_more(
    tmp_path: Path, store_url: str, undisturbed: list[Any]
) -> None:
    """Leases are shortened to a second, so that the test need not wait for a minute."""
    study = tmp_path / "study.yaml"
    study.write_text(study_text(trials=3))
    short = {"AUTOML_SR_LEASE_SECONDS": "1"}
    first = Process(tmp_path, study, store=store_url, more=short)
    first.until("step 3 after 0")
    first.process.send_signal(signal.SIGSTOP)
    second = Process(tmp_path, study, store=store_url, more=short)
    output, code = second.rest()
    assert code == 0
    assert "step 3 after 2" in output, "the trial went on from its checkpoint"
    ended = results(store_url), told(store_url), events(store_url)
    first.process.send_signal(signal.SIGCONT)
    output, code = first.rest()
    assert code == 0
    assert any("Another worker has taken trial 0 over" in line for line in output)
    assert (results(store_url), told(store_url), events(store_url)) == ended
    assert ended[0] == undisturbed
    assert ended[1] == [("COMPLETE", list(row[2].values())) for row in undisturbed]


def events(url: str) -> list[tuple[str, str]]:
    opened = Reader.open(url)
    return [(event.kind, event.text) for event in opened.events(opened.study("world"))]
