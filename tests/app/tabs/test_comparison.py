"""Trials side by side: what is best, what differs, and what somebody may ask for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from app_records import PLAN, SCRIPT, Known, snapshot, trial

from automl_sr.app.session import MOST_COMPARED
from automl_sr.app.tabs.compare import asked_for, choices_of, label, understood
from automl_sr.app.tabs.comparison import best_of, comparison, groups_of
from automl_sr.app.tabs.trials import ticked, with_trial
from automl_sr.app.trial_choices import ALL_OFFERED_UP_TO, RECENT
from automl_sr.errors import UseError

WIDE = {**PLAN, "architecture.espcn.width": 32}


def rows(trials: list[Any], everything: bool = False) -> dict[str, list[Any]]:
    return {title: made for title, made, _ in groups_of(snapshot(trials), trials, everything)}


def test_the_best_of_each_objective_is_marked() -> None:
    found = {
        row.name: row for row in rows([trial(1), trial(2), trial(3, "failed", values={})])["Values"]
    }
    assert found["psnr_y"].cells == ["31", "32", "-"]
    assert found["psnr_y"].best == {1}
    assert found["params"].best == {0}


def test_equal_values_are_both_best_and_one_alone_is_not() -> None:
    metric = Known.metrics["psnr_y"]
    assert best_of({1: 30.0, 2: 30.0, 3: 29.0}, metric) == {0, 1}
    assert best_of({1: 30.0, 2: None}, metric) == frozenset()


def test_only_what_differs_of_the_plans_is_listed_unless_everything_is_asked_for() -> None:
    trials = [trial(1), trial(2, plan=WIDE)]
    differing = rows(trials)["Plan, where it differs"]
    assert [(row.name, row.cells, row.differs) for row in differing] == [
        ("architecture.espcn.width", ["16", "32"], False)
    ]
    whole = rows(trials, everything=True)["Plan"]
    assert [row.name for row in whole] == list(PLAN)
    assert [row.name for row in whole if row.differs] == ["architecture.espcn.width"]


def test_equal_plans_are_said_to_be_equal() -> None:
    made = [trial(1), trial(2)]
    assert "Their plans do not differ." in comparison(snapshot(made), made, everything=False)


def test_stages_and_shared_results_stand_side_by_side() -> None:
    shared = {"latency": {"seconds": 1.5, "reused": True}}
    found = rows([trial(1, shared=shared), trial(2)])
    assert [(row.name, row.cells) for row in found["Time by stage"]] == [
        ("train", ["11.0 s", "12.0 s"]),
        ("evaluate", ["2.0 s", "2.0 s"]),
        ("in all", ["13.3 s", "14.3 s"]),
    ]
    assert [(row.name, row.cells) for row in found["Results shared between trials"]] == [
        ("latency", ["reused, saved 1.5 s", "-"]),
        ("saved", ["1.5 s", "0.0 s"]),
    ]


def test_nothing_from_a_store_is_markup() -> None:
    bad = {
        "plan": {"architecture": SCRIPT, SCRIPT: 1},
        "values": {SCRIPT: 1.0},
        "stage_seconds": {SCRIPT: 1.0},
    }
    trials = [trial(1, shared={SCRIPT: {"seconds": 1.0, "reused": False}}, **bad), trial(2)]
    made = comparison(snapshot(trials), trials, everything=True)
    assert "<script" not in made
    assert "&lt;script&gt;" in made


def test_choices_are_all_trials_with_a_plan_the_newest_first() -> None:
    shown = snapshot([trial(0), trial(1, "waiting", plan=None), trial(2, "infeasible")])
    assert choices_of(shown, []) == [
        ("2: infeasible, espcn", 2),
        ("0: complete, psnr_y 30, espcn", 0),
    ]


def test_of_thousands_the_front_the_newest_and_the_chosen_are_offered() -> None:
    many = [
        trial(number, values={"psnr_y": 50.0 - number, "params": 1000.0 + number})
        for number in range(3000)
    ]
    found = [number for _, number in choices_of(snapshot(many), [17])]
    assert len(many) > ALL_OFFERED_UP_TO
    assert found == [*range(2999, 2999 - RECENT, -1), 17, 0]


def test_a_label_names_what_a_trial_is() -> None:
    shown = snapshot([trial(7, values={"psnr_y": 34.1234})])
    assert label(shown, shown.trial(7)) == "7: complete, psnr_y 34.12, espcn"


def test_numbers_may_be_typed() -> None:
    shown = snapshot([trial(number) for number in range(9)])
    assert understood(shown, [3, "7", " 3 "]) == ([3, 7], [])
    found, wrong = understood(shown, [1, "99", "many", 2.5, None, {"a": 1}])
    assert found == [1]
    assert len(wrong) == 5
    assert wrong[0] == "made has no trial 99."


def test_no_more_than_can_be_told_apart() -> None:
    shown = snapshot([trial(number) for number in range(9)])
    found, wrong = understood(shown, list(range(9)))
    assert found == list(range(MOST_COMPARED))
    assert re.search("No more than 6", wrong[0])


def test_trials_without_a_plan_are_not_compared() -> None:
    shown = snapshot([trial(0), trial(1, "waiting", plan=None)])
    assert understood(shown, [0, 1]) == (
        [0],
        ["Trial 1 has no plan yet, so there is nothing to compare."],
    )
    with pytest.raises(UseError, match="no plan"):
        with_trial(shown, [0], 1)


def test_a_trial_is_added_once_and_while_there_is_room() -> None:
    shown = snapshot([trial(number) for number in range(9)])
    assert with_trial(shown, [3], 5) == [3, 5]
    assert with_trial(shown, [3], 3) == [3]
    with pytest.raises(UseError, match="6 trials are compared already"):
        with_trial(shown, [0, 1, 2, 3, 4, 5], 6)
    with pytest.raises(UseError, match="no trial 77"):
        with_trial(shown, [], 77)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3,7", [3, 7]),
        ("", []),
        ("3,,x,-1,²,3", [3]),
        ("0,1,2,3,4,5,6,7", [0, 1, 2, 3, 4, 5]),
        ("9" * 5000, []),
        ("<script>", []),
    ],
)
def test_addresses(text: str, found: list[int]) -> None:
    assert asked_for(text) == found


def test_states_that_are_ticked() -> None:
    assert ticked(["failed", "nonsense", "complete"]) == ["complete", "failed"]
    assert ticked(None) == []
    assert ticked("complete") == []
