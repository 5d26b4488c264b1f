"""Several processes that search one study at the same time: four every day, thirty-two in CI's
tier.
"""

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

_start: Barrier


def _meet_at(barrier: Barrier) -> None:
    global _start
    _start = barrier


def _take_part(trials: int, url: str, artifacts: str) -> tuple[str, str]:
    """Search in a process of its own, from the moment at which all are there; gives what was said
    at the end.
    """
    loaded, options = load(trials=trials), Options(store=url, artifacts=artifacts)
    _start.wait(60)
    end = search(loaded, registry(), options, run=run_fast)
    return str(end.error or ""), end.note


def crew_of(processes: int) -> ProcessPoolExecutor:
    """Give as many processes, each of which waits for the others."""
    context = forkserver()
    return ProcessPoolExecutor(processes, context, _meet_at, (context.Barrier(processes),))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("processes", "trials"), [(4, 24), pytest.param(32, 96, marks=pytest.mark.ci)]
)
def test_every_trial_of_the_budget_is_run_once(
    store_url: str, tmp_path: Path, processes: int, trials: int
) -> None:
    with crew_of(processes) as crew:
        artifacts = str(tmp_path / "artifacts")
        parts = [crew.submit(_take_part, trials, store_url, artifacts) for _ in range(processes)]
        ends = [part.result() for part in parts]
    assert ends == [("", "")] * processes

    store = Store.open(store_url)
    study = store.study("world")
    rows = store.trials(study)
    assert [row.number for row in rows] == list(range(trials))
    assert {(row.state, row.owner) for row in rows} == {("complete", None)}
    assert len({row.fingerprint for row in rows}) == trials
    assert [event.text for event in store.events(study) if event.number is not None] == [], (
        "no trial was taken over"
    )
    curves = [[point.step for point in store.curve(row)] for row in rows]
    assert curves == [[1]] * trials

    storage = optuna_storage(store.engine)
    told = storage.get_all_trials(storage.get_study_id_from_name("world"))
    assert Counter(trial.state for trial in told) == {TrialState.COMPLETE: trials}
    values = {trial.user_attrs["automl_sr:slot"]: trial.values for trial in told}
    assert values == {row.key: [row.values[name] for name in study.objectives] for row in rows}
    assert sorted(trial.user_attrs["automl_sr:number"] for trial in told) == list(range(trials))
    storage.engine.dispose()
    store.close()
