"""The table of trials: what its rows say, that they are short, and that a running search does not
change them.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from app_records import PLAN, snapshot, study, trial

from automl_sr.app.tabs.trial_table import LONGEST_REASON, neighbour, slots_of, table_of
from automl_sr.errors import PluginError
from automl_sr.store.records import STATES

HEADERS = [
    "trial",
    "state",
    "front",
    "psnr_y",
    "params",
    "seconds",
    "selection",
    "architecture",
    "quantization",
]


def test_a_row_holds_state_front_metrics_seconds_and_techniques() -> None:
    made = table_of(
        snapshot([trial(0), trial(3, values={"psnr_y": 29.987654, "params": 4321.0})]), STATES
    )
    assert made.headers == [*HEADERS, "reason"]
    assert made.kinds == ["number", "str", "str", *["number"] * 3, *["str"] * 4]
    assert made.rows == [
        [0, "complete", "front", 30, 1000, 12.3, "none", "espcn", "none", ""],
        [3, "complete", "", 29.988, 4321, 15.3, "none", "espcn", "none", ""],
    ]


def test_an_infeasible_trial_shows_what_was_known_before_training() -> None:
    rejected = trial(
        2, "infeasible", reason="params 9,000 > 5,000\n  too large", costs={"params": 9000.0}
    )
    row = table_of(snapshot([rejected]), STATES).rows[0]
    assert row[:5] == [2, "infeasible", "", None, 9000]
    assert row[-1] == "params 9,000 > 5,000 too large"


def test_only_trials_in_the_ticked_states_are_listed() -> None:
    shown = snapshot([trial(0), trial(1, "failed"), trial(2, "pruned")])
    assert [row[0] for row in table_of(shown, ["failed", "pruned"]).rows] == [1, 2]
    assert table_of(shown, []).rows == []


def test_values_that_json_lacks_are_left_out() -> None:
    row = table_of(
        snapshot([trial(0, values={"psnr_y": float("nan"), "params": float("inf")})]), STATES
    ).rows[0]
    assert row[3:5] == [None, None]
    json.dumps(row, allow_nan=False)


def test_long_reasons_are_cut() -> None:
    row = table_of(snapshot([trial(0, "failed", reason="x" * 5000)]), STATES).rows[0]
    assert len(row[-1]) == LONGEST_REASON


def test_progress_of_a_running_trial_sends_nothing_anew() -> None:
    before = trial(1, "running", seconds=10.0, stage="train")
    after = replace(before, seconds=20.0, stage="evaluate")
    tables = [table_of(snapshot([trial(0), running]), STATES).digest for running in (before, after)]
    assert tables[0] == tables[1]
    assert table_of(snapshot([trial(0), trial(1)]), STATES).digest != tables[0]


def test_a_trial_without_a_plan_has_no_techniques() -> None:
    made = table_of(snapshot([trial(0), trial(1, "waiting", plan=None)]), STATES)
    assert made.rows[1] == [1, "waiting", "", None, None, None, "", "", "", ""]


def test_slots_are_those_of_all_plans() -> None:
    found = slots_of([trial(0), trial(1, plan={**PLAN, "pruning": "magnitude", "recipe.steps": 5})])
    assert found == ["selection", "architecture", "quantization", "pruning"]


def test_five_thousand_trials_stay_under_a_megabyte() -> None:
    made = table_of(
        snapshot([trial(number, reason="stopped at rung 1") for number in range(5000)]), STATES
    )
    assert len(json.dumps(made.rows)) < 1_000_000


def test_a_metric_that_is_not_installed_is_a_sentence() -> None:
    unknown = study(spec={"objectives": ["lpips"], "constraints": {}})
    with pytest.raises(PluginError, match="lpips"):
        table_of(snapshot([trial(0)], of=unknown), STATES)


@pytest.mark.parametrize(
    ("chosen", "by", "found"),
    [
        (None, 1, 2),
        (None, -1, 9),
        (2, 1, 5),
        (5, -1, 2),
        (9, 1, 9),
        (2, -1, 2),
        (3, 1, 5),
        (3, -1, 2),
    ],
)
def test_neighbours_are_those_that_are_listed(chosen: int | None, by: int, found: int) -> None:
    assert neighbour([2, 5, 9], chosen, by) == found


def test_without_rows_there_is_no_neighbour() -> None:
    assert neighbour([], None, 1) is None
    assert neighbour([], 4, -1) == 4
