"""Killed, stopped and suspended workers, and a server that restarts: nothing is lost, nothing is
done twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import chaos

SECONDS, TRIALS, STEPS = 12.0, 12, 120


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    store = f"sqlite:///{folder}/store.db"
    chaos.search_alone(chaos.write_study(folder, TRIALS, STEPS), store)
    return chaos.results(store), chaos.told(store)


@pytest.mark.ci
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_study_whose_workers_are_struck_each_second_ends_as_an_undisturbed_one(
    tmp_path: Path, request: pytest.FixtureRequest, undisturbed: tuple[Any, Any], kind: str
) -> None:
    """The blows last longer than a lease, but only because a setting shortens leases to 2 s."""
    server = request.getfixturevalue("postgres") if kind == "postgresql" else None
    store = f"sqlite:///{tmp_path}/store.db" if server is None else server.new_database()
    study = chaos.write_study(tmp_path, TRIALS, STEPS)
    struck = chaos.run(study, store, SECONDS, server, restarts=1 if server is not None else 0)
    assert struck.words == [], "no worker ended with an error"
    assert sum(struck.done.values()) >= 5
    found, told = undisturbed
    assert [(row[0], row[1]) for row in chaos.results(store)] == [
        (n, "complete") for n in range(TRIALS)
    ]
    assert chaos.results(store) == found
    assert chaos.told(store) == told
