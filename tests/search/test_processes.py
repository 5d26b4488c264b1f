"""Searches in processes of their own that are interrupted, killed and taken over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import STEPS, Process
from search_world import find, load, study_text

from automl_sr.store.reading import Reader


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(study_text(trials=3))
    return path


@pytest.fixture
def begun(tmp_path: Path, study: Path) -> Iterator[Process]:
    process = Process(tmp_path, study)
    process.until("step 3 after 0")
    yield process
    process.process.kill()
    process.process.wait()


def rows(folder: Path) -> list[Any]:
    opened = Reader.open(f"sqlite:///{folder}/store.db")
    return opened.trials(opened.study("world"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_checkpoints_the_trial_and_the_next_search_goes_on_with_it(
    tmp_path: Path, study: Path, begun: Process, number: int, code: int
) -> None:
    begun.process.send_signal(number)
    begun.go()
    output, returned = begun.rest()
    assert returned == code
    assert "Go on with: automl-sr search STUDY.yaml" in "\n".join(output)
    assert [(row.number, row.state, row.owner) for row in rows(tmp_path)] == [(0, "running", None)]
    resumed, returned = Process(tmp_path, study).rest()
    assert returned == 0
    assert resumed[0] == "step 4 after 3", "the interrupted trial goes on from its checkpoint"
    assert_equal_to_an_uninterrupted_search(tmp_path)


def test_a_search_that_begins_with_ctrl_c_ignored_goes_on_until_sigterm(
    tmp_path: Path, study: Path
) -> None:
    """As what a script runs in the background: the Ctrl-C that ends the script is not meant for
    it.
    """
    begun = Process(tmp_path, study, ignores=(signal.SIGINT,))
    begun.until("step 3 after 0")
    begun.process.send_signal(signal.SIGINT)
    begun.go()
    begun.until("step 1 after 0")
    begun.process.send_signal(signal.SIGTERM)
    begun.go()
    output, returned = begun.rest()
    assert returned == 143
    assert "Go on with: automl-sr search STUDY.yaml" in "\n".join(output)
    assert [(row.number, row.state) for row in rows(tmp_path)] == [(0, "complete"), (1, "running")]


def test_a_second_signal_ends_at_once_and_nothing_is_lost(
    tmp_path: Path, study: Path, begun: Process
) -> None:
    begun.process.send_signal(signal.SIGINT)
    while begun.process.poll() is None:  # the first one may still be on its way
        begun.process.send_signal(signal.SIGINT)
    assert begun.process.returncode == 130
    resumed, _ = Process(tmp_path, study).rest()
    assert resumed[0] == "step 3 after 2"
    assert_equal_to_an_uninterrupted_search(tmp_path)


def test_a_killed_search_is_taken_over_under_the_same_number(
    tmp_path: Path, study: Path, begun: Process
) -> None:
    begun.process.kill()
    begun.process.wait()
    assert rows(tmp_path)[0].owner is not None
    resumed, returned = Process(tmp_path, study).rest()
    assert (resumed[0], returned) == ("step 3 after 2", 0)
    assert_equal_to_an_uninterrupted_search(tmp_path)
    opened = Reader.open(f"sqlite:///{tmp_path}/store.db")
    assert [event.kind for event in opened.events(opened.study("world"), 0)] == ["taken over"]


def test_readers_see_a_running_search(tmp_path: Path, begun: Process) -> None:
    [row] = rows(tmp_path)
    assert (row.number, row.state) == (0, "running")
    assert row.params["architecture"] == "line"


def test_two_processes_share_a_study_and_wait_for_each_other(
    tmp_path: Path, study: Path, begun: Process
) -> None:
    other = Process(tmp_path, study)
    assert other.line() == "step 1 after 0", "it does not touch the trial of the first"
    other.go(2 * STEPS)
    while not other.line().startswith("waiting for the trials of other workers: 1"):
        pass
    assert [row.state for row in rows(tmp_path)] == ["running", "complete", "complete"]
    assert begun.rest()[1] == other.rest()[1] == 0
    assert_equal_to_an_uninterrupted_search(tmp_path)


def test_a_worker_that_waits_takes_over_what_another_leaves(
    tmp_path: Path, study: Path, begun: Process
) -> None:
    other = Process(tmp_path, study)
    other.go(2 * STEPS)
    while not other.line().startswith("waiting"):
        pass
    begun.process.kill()
    begun.process.wait()
    output, returned = other.rest()
    assert (output[0], returned) == ("step 3 after 2", 0)
    assert_equal_to_an_uninterrupted_search(tmp_path)


def assert_equal_to_an_uninterrupted_search(folder: Path) -> None:
    find(load(trials=3), folder / "whole")
    found, expected = rows(folder), rows(folder / "whole")
    assert [row.number for row in found] == [0, 1, 2]
    assert [(row.state, row.plan, row.values) for row in found] == [
        (r.state, r.plan, r.values) for r in expected
    ]
    opened = Reader.open(f"sqlite:///{folder}/store.db")
    for row in found:
        assert sorted(point.step for point in opened.curve(row)) == [1, 2, 3, 4, STEPS]
