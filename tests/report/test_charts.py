"""Charts put values where they belong, whatever the values are."""

from __future__ import annotations

import re
from typing import Any

import pytest

from automl_sr.presentation.axes import Axis, Upright, short
from automl_sr.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    Mark,
    bars,
    lines,
    parallel,
    scatter,
)

CENTRE = re.compile(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="\d" class="mark \w+" data-t="(\d+)"')


def centres(drawing: str) -> dict[int, tuple[float, float]]:
    return {int(number): (float(x), float(y)) for x, y, number in CENTRE.findall(drawing)}


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([1, 2, 3], False), ([0.001, 1e9], True), ([5.0], False), ([5.0], True), ([0.0, 0.0], False), ([], False),
        ([-3, -1], False), ([-1, 1], True), ([0, 10], True), ([100, 101], True), ([1e-12, 2e-12], False),
        ([1, 40], True),
    ],
)  # fmt: skip
def test_every_axis_has_room_for_its_values_and_round_ticks(values: list[float], log: bool) -> None:
    axis = Axis.over("", values, log=log)
    assert all(0 <= axis.at(value) <= 1 for value in values)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 11
    assert all(-1e-9 <= axis.at(tick) <= 1 + 1e-9 for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_counts_have_whole_ticks() -> None:
    assert Axis.over("", [0, 2], whole=True).ticks() == [0, 1, 2]


def test_points_lie_where_their_values_are() -> None:
    x, y = Axis("x", 0, 10), Axis("y", 0, 1)
    found = centres(scatter("", x, y, [Mark(0, 0, 1), Mark(10, 1, 2, "front"), Mark(5, 0.5, 3)]))
    assert found[1] == (LEFT, HEIGHT - BOTTOM)
    assert found[2] == (WIDTH - RIGHT, TOP)
    assert found[3] == ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)


def test_ratios_are_equal_steps_on_a_logarithmic_axis() -> None:
    axis = Axis("", 1, 100, log=True)
    assert [axis.at(value) for value in (1, 10, 100)] == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize(
    ("reference", "drawn", "told"),
    [
        ((None, 0.5), 1, "without a model"),
        ((0.5, 0.5), 1, "without a model"),
        ((None, 9.0), 0, "far off"),
        ((None, None), 0, ""),
    ],
)
def test_the_reference_is_drawn_where_it_fits_and_told_where_not(
    reference: Any, drawn: int, told: str
) -> None:
    drawing = scatter(
        "", Axis("x", 0, 1), Axis("y", 0, 1), [Mark(0.5, 0.2, 0)], reference=reference
    )
    whole = drawing.rpartition("</ul>")[2]
    assert whole.count('class="reference"') == drawn
    assert told in drawing
    assert told or "without" not in drawing


def test_every_kind_of_mark_has_a_form_of_its_own() -> None:
    kinds = ("front", "complete", "pruned", "broken")
    drawing = scatter(
        "", Axis("x", 0, 1), Axis("y", 0, 1), [Mark(0.5, 0.5, 7, kind) for kind in kinds]
    )
    forms = {
        re.search(rf'<(\w+)[^>]* class="mark {kind}" data-t="7"', drawing)[1] for kind in kinds
    }  # type: ignore[index]
    assert forms == {"circle", "path"}
    assert all(drawing.count(f'class="mark {kind}" data-t="7"') == 1 for kind in kinds)


def test_a_line_in_steps_keeps_its_height_until_the_next_point() -> None:
    drawing = lines("", Axis("x", 0, 1), Axis("y", 0, 1), [Line("", [(0, 0), (1, 1)], steps=True)])
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    assert f'points="{LEFT},{floor} {right},{floor} {right},{TOP}"' in drawing


def test_the_longest_bar_takes_the_whole_width() -> None:
    drawing = bars("", [("a", 0.5), ("b", 0.25)])
    assert re.findall(r'width="([\d.]+)" height="8" class="bar"', drawing) == [
        f"{WIDTH}",
        f"{WIDTH // 2}",
    ]


def test_parallel_axes_hold_words_numbers_and_what_is_not_used() -> None:
    uprights = [
        Upright("slot", ["a", "b"]),
        Upright("architecture.net.width", [8, None]),
        Upright("flag", [True, False]),
    ]
    drawing = parallel("all", uprights, [0, 1], ["front", "pruned"])
    used, unused = (
        re.search(rf'points="([^"]*)" class="coordinate {kind}"', drawing)[1]
        for kind in ("front", "pruned")
    )  # type: ignore[index]
    assert "net.width" in drawing
    assert drawing.count("not used") == 1
    lowest = max(float(point.split(",")[1]) for point in unused.split())
    assert all(float(point.split(",")[1]) < lowest for point in used.split())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00123, "0.00123"), (34.5, "34.5"), (15_200, "15.2k"), (3_904_819_200, "3.905G")],
)
def test_numbers_of_axes_are_short(value: float, text: str) -> None:
    assert short(value) == text
