"""Phases become steps: shares are kept, every phase has a step, rungs lie where models can be
compared.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_sr.errors import PluginError
from automl_sr.training.phases import BEFORE_TRAINING, COOLDOWN, Phase, Timetable

shares = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)


def rungs(table: Timetable, count: int, reduction: int) -> dict[int | None, int]:
    return {point.rung: point.step for point in table.branches(count, reduction)}


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
    assert all(
        one.stop == two.start for one, two in zip(table.spans, table.spans[1:], strict=False)
    )
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
    for point in table.branches(3, 3):
        (cooldown,) = table.tail_spans(point.step)
        assert cooldown.phase.name == COOLDOWN
        assert cooldown.steps / cooldown.stop == pytest.approx(0.1, abs=0.002)


def test_rungs_are_geometric_and_the_first_is_at_a_tenth_or_300_steps() -> None:
    table = Timetable.of([Phase("train", 1.0)], 9000, 0.1)
    assert rungs(table, 3, 3) == {0: 900, 1: 2700, 2: 8100}
    assert rungs(table, 5, 3) == {2: 900, 3: 2700, 4: 8100}
    assert rungs(table, 1, 3) == {0: 8100}
    assert rungs(Timetable.of([Phase("train", 1.0)], 900, 0.1), 3, 3) == {2: 810}


def test_no_rung_lies_in_a_phase_that_is_not_comparable_or_just_after_a_change() -> None:
    search = Phase("search", 0.5, comparable=False)
    final = Phase("train", 0.5, resets=True)
    table = Timetable.of([search, final], 9000, 0.1)
    assert rungs(table, 4, 2) == {3: 8100}  # 4050 is where the search ends
    earlier = Timetable.of([Phase("search", 0.3, comparable=False), final], 9000, 0.1)
    assert rungs(earlier, 4, 2) == {2: 4050, 3: 8100}


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
def test_a_table_that_makes_no_sense_is_refused(
    phases: list[Phase], steps: int, complaint: str
) -> None:
    with pytest.raises(PluginError, match=complaint):
        Timetable.of(phases, steps, 0.1)


def test_the_signature_tells_tables_apart() -> None:
    one, other = ([Phase("a", 1), Phase("b", share)] for share in (1, 2))
    assert Timetable.of(one, 100, 0.1).signature() == Timetable.of(one, 100, 0.1).signature()
    assert Timetable.of(one, 100, 0.1).signature() != Timetable.of(other, 100, 0.1).signature()
    assert Timetable.of(one, 100, 0.1).signature() != Timetable.of(one, 100, 0.2).signature()


# ---- rungs that phases ask for ----


def rounds(*shares: float) -> list[Phase]:
    """Pruning rounds, each measured at its end."""
    return [Phase(f"round {i}", share, rung=True) for i, share in enumerate(shares)]


def test_entering_a_phase_without_a_reset_holds_no_rung_back() -> None:
    grown = Phase("train", 0.5).entering(lambda run: None)
    table = Timetable.of([Phase("small", 0.49), grown], 9000, 0.1)
    assert rungs(table, 4, 2) == {0: 1012, 1: 2025, 2: 4050, 3: 8100}


def test_the_end_of_a_phase_takes_the_number_of_the_nearest_rung() -> None:
    table = Timetable.of(rounds(0.3, 0.7), 9000, 0.1)
    assert rungs(table, 3, 3) == {0: 900, 1: 2430, 2: 8100}, "30 % stand for the rung at a third"


def test_of_several_ends_near_one_rung_the_last_counts_and_the_others_are_points_of_the_curve() -> (
    None
):
    table = Timetable.of(rounds(0.25, 0.15, 0.6), 9000, 0.1)
    found = table.branches(3, 3)
    assert [(point.step, point.rung) for point in found] == [
        (900, 0),
        (2025, None),
        (3240, 1),
        (8100, 2),
    ]


def test_an_end_that_had_far_more_training_than_the_rung_is_not_compared_there() -> None:
    table = Timetable.of(rounds(0.7, 0.3), 9000, 0.1)
    found = table.branches(2, 3)
    assert [(point.step, point.rung) for point in found] == [(2700, 0), (5670, None), (8100, 1)]


def test_steps_of_a_search_do_not_count() -> None:
    search = Phase("search", 0.5, comparable=False, counts=False)
    table = Timetable.of([search, Phase("train", 0.5, resets=True)], 9000, 0.1)
    assert rungs(table, 3, 3) == {0: 4050 + 450, 1: 4050 + 1350, 2: 8100}


def test_the_end_of_a_search_is_measured_but_no_rung() -> None:
    search = Phase("search", 0.5, comparable=False, counts=False, rung=True)
    table = Timetable.of([search, Phase("train", 0.5)], 9000, 0.1)
    assert [(p.step, p.rung) for p in table.branches(2, 3)] == [(4050, None), (5400, 0), (8100, 1)]


def test_inherited_weights_are_measured_before_training_and_not_cooled_down() -> None:
    table = Timetable.of([Phase("train", 1.0, inherits=True)], 9000, 0.1)
    assert rungs(table, 2, 3) == {BEFORE_TRAINING: 0, 0: 2700, 1: 8100}
    assert table.tail_spans(0) == ()


def test_going_on_cools_down_for_as_long_as_the_search_did() -> None:
    table = Timetable.of([Phase("train", 1.0)], 3000, 0.1)
    (cooldown,) = table.going_on("train", 1000).tail_spans(700)
    assert cooldown.steps == 300
    assert table.going_on("train", 12_000).trunk_steps == 10_800
    with pytest.raises(
        PluginError, match=r"300 steps are too few: the tail of this plan alone takes 300.*301"
    ):
        table.going_on("train", 300)


def test_without_steps_one_phase_is_entered_and_measured_at_its_end() -> None:
    """Given weights ship as they are: nothing is trained, and there is no tail."""
    table = Timetable.of([Phase("train", 1.0)], 0, 0.1)
    assert (table.trunk_steps, table.tail, table.tail_spans(0)) == (0, (), ())
    assert rungs(table, 3, 3) == {2: 0}


@pytest.mark.parametrize("more", [Phase("sparse", 1.0), Phase("codebook", 0.1, tail=True)])
def test_without_steps_a_plan_that_trains_is_refused(more: Phase) -> None:
    with pytest.raises(PluginError, match=rf"this plan has 2: train, {more.name}\. Ask for steps"):
        Timetable.of([Phase("train", 1.0), more], 0, 0.1)
