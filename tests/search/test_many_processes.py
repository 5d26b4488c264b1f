"""Thirty-two processes that search one study at the same time."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from optuna.trial import TrialState
from processes import forkserver
from search_world import load, registry, run_fast

from automl_sr.search.engine import Options, search
from automl_sr.store.database import optuna_storage
from automl_sr.store.repository import Store

PROCESSES, TRIALS = 32, 192

_start: Barrier


def _meet_at(barrier: Barrier) -> None:
    global _start
    _start = barrier


def _take_part(url: str, artifacts: str) -> tuple[str, str]:
    """Search in a process of its own, from the moment at which all are there; gives what was said at the end."""
    loaded, options = load(trials=TRIALS), Options(store=url, artifacts=artifacts)
    _start.wait(60)
    end = search(loaded, registry(), options, run=run_fast)
    return str(end.error or ""), end.note


@pytest.fixture
def crew() -> ProcessPoolExecutor:
    """As many processes, each of which waits for the others."""
    context = forkserver()
    return ProcessPoolExecutor(PROCESSES, context, _meet_at, (context.Barrier(PROCESSES),))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_trial_of_the_budget_is_run_once(store_url: str, crew: ProcessPoolExecutor, tmp_path: Path) -> None:
    with crew:
        parts = [crew.submit(_take_part, store_url, str(tmp_path / "artifacts")) for _ in range(PROCESSES)]
        ends = [part.result() for part in parts]
    assert ends == [("", "")] * PROCESSES

    store = Store.open(store_url)
    study = store.study("world")
    trials = store.trials(study)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {(trial.state, trial.owner) for trial in trials} == {("complete", None)}
    assert len({trial.fingerprint for trial in trials}) == TRIALS
    assert [event.text for event in store.events(study) if event.number is not None] == [], "no trial was taken over"
    curves = [[point.step for point in store.curve(trial)] for trial in trials]
    assert curves == [[1]] * TRIALS

    storage = optuna_storage(store.engine)
    told = storage.get_all_trials(storage.get_study_id_from_name("world"))
    assert Counter(trial.state for trial in told) == {TrialState.COMPLETE: TRIALS}
    values = {trial.user_attrs["automl_sr:slot"]: trial.values for trial in told}
    assert values == {trial.key: [trial.values[name] for name in study.objectives] for trial in trials}
    assert sorted(trial.user_attrs["automl_sr:number"] for trial in told) == list(range(TRIALS))
    storage.engine.dispose()
    store.close()
