"""Uploads are counted: a visitor's, and those of all, until they are surely gone."""

from __future__ import annotations

import pytest

from automl_sr.app.server.quota import KEPT, LEAST, Quota, Upload

MB = 2**20


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quota(clock: Clock) -> Quota:
    return Quota(visitor_bytes=4 * MB, app_bytes=6 * MB, clock=clock)


def test_a_visitor_has_a_limit_and_others_go_on(quota: Quota) -> None:
    assert isinstance(quota.take("one", 4 * MB), Upload)
    assert quota.take("one", 1) == (
        "You have uploaded as much as one visitor may in two hours, 4 MB. Try again later."
    )
    assert isinstance(quota.take("other", MB), Upload)


def test_all_together_have_a_limit(quota: Quota) -> None:
    quota.take("one", 4 * MB)
    quota.take("two", MB)
    assert (
        quota.take("three", 2 * MB)
        == "As much was uploaded as this app takes in two hours, 6 MB. Try again later."
    )


def test_many_small_uploads_end_too(quota: Quota) -> None:
    for _ in range(4 * MB // LEAST):
        assert isinstance(quota.take("one", 0), Upload)
    assert isinstance(quota.take("one", 0), str)


def test_what_was_refused_or_is_gone_does_not_count(quota: Quota, clock: Clock) -> None:
    refused = quota.take("one", 4 * MB)
    assert isinstance(refused, Upload)
    quota.give_back(refused)
    assert isinstance(quota.take("one", 4 * MB), Upload)
    clock.now += KEPT + 1
    assert isinstance(quota.take("one", 4 * MB), Upload)
    quota.give_back(refused)  # it was forgotten long ago
