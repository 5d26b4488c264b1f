"""Rows that take as long as another one does: their steps follow from the rates of both."""

from __future__ import annotations

import sys
from pathlib import Path

from table import Measure, Results, Settings
from trained import measure

TIME_OF = "time_of"


def timed(settings: Settings, like: Settings) -> dict[str, object]:
    """Return settings that are trained for the time that others take, with the same seed."""
    return {**settings, TIME_OF: dict(like)}


def measured_in_time(path: Path) -> Measure:
    """Return what measures a row of this table, for the steps that it asks for."""

    def measured(settings: Settings, seed: int, folder: Path) -> dict[str, float]:
        asked = {name: value for name, value in settings.items() if name != TIME_OF}
        if TIME_OF in settings:
            share = _rate(path, asked, seed) / _rate(path, settings[TIME_OF], seed)
            asked["steps"] = round(asked["steps"] * share)
        return {**measure(asked, seed, folder), "steps": asked["steps"]}

    return measured


def _rate(path: Path, settings: Settings, seed: int) -> float:
    """Return the steps per second of a run that has finished."""
    record = Results(path).of(settings, seed)
    if record is None:
        sys.exit("A row with equal steps has to run before that with equal time.")
    rate: float = record["values"]["steps_per_s"]
    return rate
