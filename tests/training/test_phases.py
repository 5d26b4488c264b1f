"""Phases become steps: shares are kept, every phase has a step, rungs lie where models can be compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_sr.errors import PluginError
from automl_sr.training.phases import COOLDOWN, Phase, Timetable

shares = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)


def phases_of(trunk: list[float], tail: list[float]) -> list[Phase]:
    names = [Phase(f"trunk {i}", share) for i, share in enumerate(trunk)]
    return names + [Phase(f"tail {i}", share, tail=True) for i, share in enumerate(tail)]


@given(shares, st.lists(st.floats(0.01, 1), max_size=2), st.integers(60, 5000), st.floats(0, 0.5))
def test_the_trunk_and_its_last_tail_use_all_steps(
    trunk: list[float], tail: list[float], steps: int, cooldown: float
) -> None:
    try:
        table = Timetable.of(phases_of(trunk, tail), steps, cooldown)
    except PluginError:
        return  # the tails left less than a step for each phase, which is said
    assert table.spans[0].start == 0
    assert all(one.stop == two.start for one, two in zip(table.spans, table.spans[1:], strict=False))
    assert all(span.steps >= 1 for span in table.spans)
    end = table.tail_spans(table.trunk_steps)[-1].stop if table.tail else table.trunk_steps
    assert end == steps


@given(shares, st.integers(500, 50_000))
def test_shares_are_kept_to_a_step_or_two(trunk: list[float], steps: int) -> None:
    table = Timetable.of(phases_of(trunk, []), steps, 0.1)
    for span, share in zip(table.spans, trunk, strict=True):
        assert abs(span.steps - table.trunk_steps * share / sum(trunk)) <= len(trunk) + 1


def test_the_cooldown_is_a_share_of_the_finished_run_at_every_rung() -> None:
    table = Timetable.of([Phase("train", 1.0)], 3000, 0.1)
    for rung in table.rungs(3, 3).values():
        (cooldown,) = table.tail_spans(rung)
        assert cooldown.phase.name == COOLDOWN
        assert cooldown.steps / cooldown.stop == pytest.approx(0.1, abs=0.002)


def test_rungs_are_geometric_and_the_first_is_at_a_tenth_or_300_steps() -> None:
    table = Timetable.of([Phase("train", 1.0)], 9000, 0.1)
    assert table.rungs(3, 3) == {0: 900, 1: 2700, 2: 8100}
    assert table.rungs(5, 3) == {2: 900, 3: 2700, 4: 8100}
    assert table.rungs(1, 3) == {0: 8100}
    assert Timetable.of([Phase("train", 1.0)], 900, 0.1).rungs(3, 3) == {2: 810}


def test_no_rung_lies_in_a_phase_that_is_not_comparable_or_just_after_a_change() -> None:
    search = Phase("search", 0.5, comparable=False)
    final = Phase("train", 0.5).entering(lambda run: None)
    table = Timetable.of([search, final], 9000, 0.1)
    assert table.rungs(4, 2) == {3: 8100}  # 4050 is where the search ends
    earlier = Timetable.of([Phase("search", 0.3, comparable=False), final], 9000, 0.1)
    assert earlier.rungs(4, 2) == {2: 4050, 3: 8100}


@pytest.mark.parametrize(
    ("phases", "steps", "complaint"),
    [
        ([], 100, "names of their own"),
        ([Phase("a", 1), Phase("a", 1)], 100, "names of their own"),
        ([Phase("a", 1, tail=True)], 100, "names of their own"),
        ([Phase("a", 0)], 100, "share above 0"),
        ([Phase(str(i), 1) for i in range(20)], 15, "too few for 20 phases"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(phases: list[Phase], steps: int, complaint: str) -> None:
    with pytest.raises(PluginError, match=complaint):
        Timetable.of(phases, steps, 0.1)


def test_the_signature_tells_tables_apart() -> None:
    one, other = ([Phase("a", 1), Phase("b", share)] for share in (1, 2))
    assert Timetable.of(one, 100, 0.1).signature() == Timetable.of(one, 100, 0.1).signature()
    assert Timetable.of(one, 100, 0.1).signature() != Timetable.of(other, 100, 0.1).signature()
    assert Timetable.of(one, 100, 0.1).signature() != Timetable.of(one, 100, 0.2).signature()
