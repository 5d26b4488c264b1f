"""Owners of trials, and the thread that keeps a lease alive."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from automl_sr.errors import StoreError
from automl_sr.store.leases import (
    LeaseHeartbeat,
    Owner,
    has_run_out,
    is_dead,
    is_lost,
    lease_seconds,
    new_owner,
    node,
)


def test_owners_of_this_process_live_and_names_differ() -> None:
    one, other = new_owner(), new_owner()
    assert one != other
    assert not is_dead(one)
    known = Owner.parse(one)
    assert known is not None
    assert known.pid == os.getpid()
    assert known.is_here


def test_an_owner_is_read_as_it_was_written() -> None:
    owner = Owner("host.example.12ab", 7, "0123456789ab")
    assert str(owner) == "host.example.12ab:7:0123456789ab"
    assert Owner.parse(str(owner)) == owner
    assert owner.host == "host"
    assert not owner.is_here


@pytest.mark.parametrize("text", ["", "nobody", "host:1", "host:not-a-number:abc", ":1:abc"])
def test_what_names_no_owner_is_none_and_its_lease_ends_by_the_database(text: str) -> None:
    assert Owner.parse(text) is None
    assert is_lost(text)
    assert has_run_out(text, 0.0, by_database=True)
    assert not has_run_out(text, 0.0, by_database=False)


def test_an_owner_whose_process_has_ended_is_dead_also_before_its_parent_has_noticed() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE
    ) as process:
        owner = str(Owner(node(), process.pid, "0123456789ab"))
        assert not is_dead(owner)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(owner), "a zombie works no more"
    assert is_dead(owner)


@pytest.mark.parametrize(
    "owner", ["another-host:1:abc", "no owner at all", f"{node()}:not-a-number:abc"]
)
def test_of_owners_elsewhere_nothing_is_known(owner: str) -> None:
    assert not is_dead(owner)


class Renewals:
    """Answers of a store, given one by one to a thread that renews; `all_given` is set when none is
    left.
    """

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers: Iterator[bool | Exception] = iter(answers)
        self.asked = 0
        self.all_given = threading.Event()

    def __call__(self) -> bool:
        self.asked += 1
        answer = next(self._answers, None)
        if answer is None:
            self.all_given.set()
            return True
        if isinstance(answer, Exception):
            raise answer
        return answer


def kept(renew: Callable[[], bool], until: Callable[[LeaseHeartbeat], object]) -> LeaseHeartbeat:
    with LeaseHeartbeat(renew, every=0.001).running() as heartbeat:
        until(heartbeat)
    return heartbeat


def test_a_lease_is_renewed_until_the_work_is_done() -> None:
    renewals = Renewals(*[True] * 5)
    heartbeat = kept(renewals, lambda _: renewals.all_given.wait(30))
    assert not heartbeat.lost
    asked = renewals.asked
    assert asked >= 6
    assert not [thread for thread in threading.enumerate() if thread.name == "automl-sr lease"]
    assert renewals.asked == asked


def test_a_lease_that_another_worker_has_is_lost_and_not_asked_for_again() -> None:
    renewals = Renewals(True, False, True)
    heartbeat = kept(renewals, lambda heartbeat: heartbeat._thread.join(30))
    assert heartbeat.lost
    assert renewals.asked == 2


def test_a_database_that_does_not_answer_is_asked_again() -> None:
    renewals = Renewals(*itertools.repeat(StoreError("It does not answer."), 20))
    heartbeat = kept(renewals, lambda _: renewals.all_given.wait(30))
    assert not heartbeat.lost


def test_the_length_of_a_lease_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOML_SR_LEASE_SECONDS", raising=False)
    assert lease_seconds() == 60
    monkeypatch.setenv("AUTOML_SR_LEASE_SECONDS", "2.5")
    assert lease_seconds() == 2.5


def test_whatever_keeps_a_thread_from_asking_it_asks_again() -> None:
    """A technique may have left no depth of recursion, or no memory, for a moment."""
    renewals = Renewals(True, RecursionError(), MemoryError(), True)
    heartbeat = kept(renewals, lambda _: renewals.all_given.wait(30))
    assert not heartbeat.lost


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_a_lease_of_no_sensible_length_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOML_SR_LEASE_SECONDS", text)
    with pytest.raises(StoreError, match=f"AUTOML_SR_LEASE_SECONDS={text} is no number of seconds"):
        lease_seconds()
