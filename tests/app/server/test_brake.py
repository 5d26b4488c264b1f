"""Guessing is slowed down: by address and for all, with pauses that grow and end."""

from __future__ import annotations

import pytest

from automl_sr.app.server.brake import FORGOTTEN, FREE, FREE_OF_ALL, LONGEST, LONGEST_OF_ALL, Brake


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def brake(clock: Clock) -> Brake:
    return Brake(clock)


def test_some_mistakes_are_free(brake: Brake) -> None:
    for _ in range(FREE - 1):
        brake.wrong("10.0.0.1")
    assert brake.pause("10.0.0.1") == 0


def test_pauses_double_up_to_the_longest(brake: Brake, clock: Clock) -> None:
    pauses = []
    for _ in range(FREE + 12):
        brake.wrong("10.0.0.1")
        pauses.append(brake.pause("10.0.0.1"))
        clock.now += LONGEST
    assert pauses[FREE - 1 :][:6] == [1, 2, 4, 8, 16, 32]
    assert max(pauses) == LONGEST


def test_others_are_not_held_up(brake: Brake) -> None:
    for _ in range(FREE + 3):
        brake.wrong("10.0.0.1")
    assert brake.pause("10.0.0.2") == 0


def test_many_addresses_together_are_held_up_but_not_for_long(brake: Brake, clock: Clock) -> None:
    for number in range(FREE_OF_ALL + 40):
        brake.wrong(f"10.0.{number}.1")
        clock.now += LONGEST_OF_ALL
    brake.wrong("10.1.0.1")
    assert brake.pause("10.2.0.1") == LONGEST_OF_ALL


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:2"), ("::ffff:10.0.0.1", "10.0.0.1"), ("odd", "odd")],
)
def test_what_belongs_to_one_visitor_is_one_address(one: str, other: str, brake: Brake) -> None:
    for _ in range(FREE):
        brake.wrong(one)
    assert brake.pause(other) > 0


def test_the_right_password_and_time_let_it_begin_anew(brake: Brake, clock: Clock) -> None:
    for _ in range(FREE):
        brake.wrong("10.0.0.1")
    brake.right("10.0.0.1")
    assert brake.pause("10.0.0.1") == 0
    for _ in range(FREE):
        brake.wrong("10.0.0.3")
    clock.now += FORGOTTEN + 1
    brake.wrong("10.0.0.3")
    assert brake.pause("10.0.0.3") == 0
