"""A study for scripts and notebooks: plain objects, read only, also while a search writes to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from automl_sr.errors import UseError
from automl_sr.search.results import front_of
from automl_sr.store.reading import Reader
from automl_sr.store.records import STATES

if TYPE_CHECKING:
    import pandas

    from automl_sr.store.records import StudyRecord, TrialRecord

MEASURED, KNOWN, PLANNED = "value.", "cost.", "plan."
"""Beginnings of the names of a frame's columns: values, costs and parameters can have equal
names.
"""


@dataclass(frozen=True)
class Trial:
    """A trial of a study, as it is in the store at the moment."""

    number: int
    state: str
    plan: Mapping[str, Any]
    """Parameters by name, such as `architecture` and `architecture.fsrcnn.d`."""
    values: Mapping[str, float]
    """What was measured on the exported file."""
    costs: Mapping[str, float]
    """What was known before training."""
    seconds: float
    reason: str | None
    """Why it ended, where it did not simply complete."""
    files: Mapping[str, str]
    """Places of its files by kind, such as `onnx`."""


@dataclass(frozen=True)
class Point:
    """A point of a learning curve; `values` holds metrics where a rung measured them."""

    phase: str
    step: int
    loss: float | None
    rate: float | None
    values: Mapping[str, float]


class Study:
    """A study that is open to be read; a context manager, which closes it."""

    def __init__(self, reader: Reader, name: str) -> None:
        self._reader = reader
        self.name = name
        self._record()  # a wrong name is told at once

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database."""
        self._reader.close()

    @property
    def objectives(self) -> tuple[str, ...]:
        """Return the names of the objectives, as the study file lists them."""
        return self._record().objectives

    def trials(self, state: str | None = None) -> list[Trial]:
        """Return the trials by number, or those in one state.

        Raises UseError for a state that there is not.
        """
        wanted = []
        if state is not None:
            if state not in STATES:
                raise UseError(f"Unknown state {state!r}.", f"States: {', '.join(STATES)}.")
            wanted.append(state)
        found = self._reader.trials(self._record(), wanted)
        return list(map(_trial, found))

    def front(self) -> list[Trial]:
        """Return the models that no other one dominates, best first in the first objective.

        Raises PluginError where the plugin of an objective is not installed.
        """
        from automl_sr.plugin.registry import installed

        study = self._record()
        metrics = {}
        for name in study.objectives:
            metrics[name] = installed().metric(name)
        found = front_of(study, self._reader.trials(study), metrics)
        return list(map(_trial, found))

    def curve(self, number: int) -> list[Point]:
        """Return the learning curve of a trial in the order in which it was learnt.

        Raises StoreError.
        """
        record = self._reader.trial(self._record(), number)
        found = []
        for row in self._reader.curve(record):
            found.append(Point(row.phase, row.step, row.loss, row.rate, dict(row.values)))
        return found

    def frame(self) -> pandas.DataFrame:
        """Return the trials as a frame, indexed by number.

        Columns: `state`, `seconds`, `reason`, then `value.psnr_y`, `cost.params`,
        `plan.architecture` and so on; what a trial does not have is missing.
        """
        import pandas

        rows = list(map(_row, self.trials()))
        # The fixed ones first, also where there is no trial yet to name them.
        columns = dict.fromkeys(("number", "state", "seconds", "reason"))
        for row in rows:
            columns.update(dict.fromkeys(row))
        frame = pandas.DataFrame(rows, columns=list(columns))
        return frame.set_index("number")

    def _record(self) -> StudyRecord:
        return self._reader.study(self.name)


def open_study(url: str, name: str) -> Study:
    """Return a study of a store that is there. Raises StoreError with what to do."""
    reader = Reader.open(url)
    try:
        return Study(reader, name)
    except BaseException:
        reader.close()
        raise


def _trial(record: TrialRecord) -> Trial:
    files = {kind: file.url for kind, file in record.artifacts.items()}
    return Trial(
        number=record.number,
        state=record.state,
        plan=record.params,
        values=dict(record.values),
        costs=dict(record.costs),
        seconds=record.seconds,
        reason=record.reason,
        files=files,
    )


def _row(trial: Trial) -> dict[str, Any]:
    """Return a trial as a row of a frame, without nesting."""
    row: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state,
        "seconds": trial.seconds,
        "reason": trial.reason,
    }
    for name, value in trial.values.items():
        row[MEASURED + name] = value
    for name, cost in trial.costs.items():
        row[KNOWN + name] = cost
    for name, choice in trial.plan.items():
        row[PLANNED + name] = choice
    return row
