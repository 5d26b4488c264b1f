"""Curves and costs of a few trials as plotly's JSON: means, rungs, shares, and colours that
differ.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from app_records import SCRIPT, Known, trial
from skimage import color

from automl_sr.app.figures.curves import (
    COLOURS,
    DASHES,
    SYMBOLS,
    Curve,
    cost_figure,
    costs_of,
    curve_figure,
    rung_words,
    smooth,
)
from automl_sr.app.session import MOST_COMPARED
from automl_sr.store.records import RungRecord


def points(count: int = 4, seconds: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "step": 10 * at,
            "seconds": 0.5 * at if seconds else None,
            "phase": "train",
            "loss": 1 / at,
        }
        for at in range(1, count + 1)
    ]


def test_a_curve_for_each_trial_with_its_rungs_on_it() -> None:
    rungs = [
        RungRecord(7, 0, 25, {"psnr_y": 31.0}, True),
        RungRecord(7, 1, 5, {"psnr_y": 30.0}, False),
    ]
    figure = curve_figure([Curve(7, points(), rungs), Curve(9, points(2))], "step")
    line, marks, other = figure["data"]
    assert (line["name"], line["x"], line["customdata"]) == ("trial 7", [10, 20, 30, 40], [7] * 4)
    assert (marks["x"], marks["y"], marks["showlegend"]) == (
        [20],
        [1 / 2],
        False,
    )  # nothing is known before step 10
    assert "rung 1 at step 25: promoted" in marks["text"][0]
    assert other["line"]["color"] != line["line"]["color"]
    assert figure["layout"]["yaxis"]["type"] == "log"


def test_long_curves_are_drawn_as_means_with_the_losses_behind_them() -> None:
    noisy = [
        {"step": at, "seconds": 1.0, "phase": "train", "loss": 4.0 if at % 2 else 1.0}
        for at in range(1, 101)
    ]
    pale, line = curve_figure([Curve(7, noisy)], "step")["data"]
    assert pale["y"] == [point["loss"] for point in noisy]
    assert not pale["showlegend"]
    assert "customdata" not in pale
    assert line["x"] == pale["x"]
    assert all(1.8 < mean < 2.2 for mean in line["y"][5:-5])
    assert smooth(points(3)) == pytest.approx([1.0, 1 / 2, 1 / 3])


def test_curves_over_seconds() -> None:
    figure = curve_figure([Curve(7, points()), Curve(9, points(seconds=False))], "seconds")
    assert [trace["x"] for trace in figure["data"]] == [[0.5, 1.0, 1.5, 2.0]]
    assert "not known" in curve_figure([Curve(9, points(seconds=False))], "seconds")["note"]


def test_losses_that_a_log_axis_lacks_are_left_out() -> None:
    bad = [
        {"step": at, "seconds": 1.0, "phase": "train", "loss": loss}
        for at, loss in enumerate((None, 0.0, -1.0))
    ]
    assert "no" in curve_figure([Curve(7, bad)], "step")["note"].lower()
    assert curve_figure([Curve(7, [*bad, *points(1)])], "step")["data"][0]["y"] == [1.0]


def test_costs_are_shares_of_the_dearest() -> None:
    small, large = (
        trial(1, costs={"params": 500.0, "macs": 1e6}),
        trial(2, costs={"params": 1000.0}),
    )
    small.values["params"], large.values["params"] = 500.0, 1000.0  # type: ignore[index]
    assert costs_of([small, large], Known.metrics) == {
        "params": {1: 500.0, 2: 1000.0},
        "macs": {1: 1e6},
    }
    first, second = cost_figure([small, large], Known.metrics)["data"]
    assert first["y"] == ["params", "macs"]
    assert (first["x"], second["x"]) == ([50.0, 100.0], [100.0, None])
    assert first["text"] == ["500", "1,000,000"]
    assert "note" in cost_figure([trial(3, "waiting", plan=None)], Known.metrics)


def contrast(first: str, second: str) -> float:
    """Contrast of two colours as WCAG defines it."""

    def light(text: str) -> float:
        parts = np.array([int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((light(first), light(second)))
    return (high + 0.05) / (low + 0.05)


def test_lines_can_be_told_apart_on_light_and_dark_paper() -> None:
    assert len(COLOURS) == len(set(DASHES)) == len(set(SYMBOLS)) == MOST_COMPARED
    for paper in ("#ffffff", "#27272a", "#0b0f19"):
        assert all(contrast(colour, paper) >= 3 for colour in COLOURS), paper
    lab = [color.rgb2lab([[[int(c[at : at + 2], 16) / 255 for at in (1, 3, 5)]]]) for c in COLOURS]
    assert all(color.deltaE_ciede2000(a, b).item() > 20 for a, b in itertools.combinations(lab, 2))


def test_nothing_from_a_store_is_markup() -> None:
    figure = cost_figure([trial(1, costs={SCRIPT: 1.0})], {})
    assert "<script" not in json.dumps(figure)
    assert "<script" not in rung_words(RungRecord(1, 0, 5, {SCRIPT: 1.0}, True))
