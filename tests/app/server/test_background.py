"""Work in a thread: told step by step, one at a time, ended where nobody listens."""

from __future__ import annotations

import threading

import pytest

from automl_sr.app.server.background import Stopped, Tell, run_in_background

LONG = 20.0


def test_what_is_told_comes_in_order_and_then_it_ends() -> None:
    def work(tell: Tell) -> None:
        for number in range(3):
            tell(number)

    assert [item for item in run_in_background(work) if item is not None] == [0, 1, 2]


def test_an_error_of_the_work_is_raised_where_it_is_listened_to() -> None:
    def work(tell: Tell) -> None:
        tell("begun")
        raise KeyError("gone")

    told = run_in_background(work)
    assert next(item for item in told if item is not None) == "begun"
    with pytest.raises(KeyError, match="gone"):
        list(told)


def test_work_ends_at_the_next_word_when_the_listener_leaves() -> None:
    left, ended = threading.Event(), threading.Event()

    def work(tell: Tell) -> None:
        tell("begun")
        assert left.wait(LONG)
        try:
            tell("more")
        except Stopped:
            ended.set()
            raise

    told = run_in_background(work)
    assert next(item for item in told if item is not None) == "begun"
    told.close()  # type: ignore[attr-defined]
    left.set()
    assert ended.wait(LONG)
    assert [item for item in run_in_background(lambda tell: tell("next")) if item is not None] == [
        "next"
    ]


def test_one_works_at_a_time_and_who_waits_may_leave() -> None:
    go_on, second = threading.Event(), threading.Event()

    def first(tell: Tell) -> None:
        tell("begun")
        assert go_on.wait(LONG)

    running = run_in_background(first)
    assert next(item for item in running if item is not None) == "begun"
    waiting = run_in_background(lambda tell: second.set())
    assert next(waiting) is None
    waiting.close()  # type: ignore[attr-defined]
    go_on.set()
    assert [item for item in running if item is not None] == []
    assert not second.is_set()
