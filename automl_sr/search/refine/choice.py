"""Which trials are refined and for how long, and what is shown of it; needs the store alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl_sr.errors import UseError
from automl_sr.search.output import Refinement, RefineOutput
from automl_sr.search.results import FINISHED, front_of
from automl_sr.store.records import UNFINISHED
from automl_sr.store.refinements import refinements

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import StudyRecord, TrialRecord

LONGER = 4
"""So many times the steps of the search a refinement trains where nothing else is asked: each costs
as much as four trials of the search, and ends where a search of five times the steps would have."""
CHECKPOINT = "checkpoint"
"""The kind of file from which a refinement goes on: `training.checkpoint` names it, and imports
torch.
"""


@dataclass(frozen=True)
class Request:
    """What a person asks for; the whole front, one seed and the usual length unless they say
    otherwise.
    """

    trials: tuple[int, ...] = ()
    """Numbers; the front where there are none."""
    top: int | None = None
    """Only so many members of the front, the best in the first objective first."""
    steps: int | None = None
    """Steps in all of one refinement, its cool-down included."""
    seeds: int = 1
    minutes: float | None = None
    """Instead of steps: what the training of all refinements may take together."""


def steps_of(study: StudyRecord, asked: Request) -> int:
    """Return the steps of each refinement where no time is asked for."""
    if asked.steps is None:
        return LONGER * int(study.spec["budget"]["steps"])
    return asked.steps


def steps_in(seconds: float, pace: float) -> int:
    """Return the steps that fit into a time at a pace, in steps per second, with two digits."""
    steps = max(1.0, seconds * pace)
    return int(float(f"{steps:.1e}"))


def steps_begun(reader: Reader, study: StudyRecord) -> dict[int, int]:
    """Return by trial's id the steps of a refinement that was begun and has not ended."""
    begun = {}
    for row in refinements(reader, study):
        if row.state in UNFINISHED:
            begun[row.trial_id] = row.steps
    return begun


def chosen(
    reader: Reader, study: StudyRecord, asked: Request, metrics: Mapping[str, Metric]
) -> list[TrialRecord]:
    """Return the trials to refine.

    Raises UseError where there are none, or one that was named cannot be refined.
    """
    if asked.trials:
        named = []
        for number in dict.fromkeys(asked.trials):  # each once
            named.append(reader.trial(study, number))
        for trial in named:
            _check(study, trial)
        return named
    front = front_of(study, reader.trials(study), metrics)
    if not front:
        raise UseError(
            f"The study {study.name!r} has no front to refine.",
            f"Name trials, see `automl-sr trials {study.name}`.",
        )
    return front[: asked.top]


def _check(study: StudyRecord, trial: TrialRecord) -> None:
    if CHECKPOINT not in trial.artifacts:
        said, hint = no_checkpoint(trial)
        raise UseError(f"Trial {trial.number} of {study.name!r} {said}.", hint)


def no_checkpoint(trial: TrialRecord) -> tuple[str, str]:
    """Say of a trial without a checkpoint why it has none, and what to do instead."""
    if trial.origin is not None:
        number = trial.origin.get("number")
        there = trial.origin.get("study")
        origin = f"trial {number} of {there!r}"
        return f"was imported from {origin} and has no checkpoint here", "Refine it there."
    if trial.duplicate_of is not None:
        return f"repeats trial {trial.duplicate_of} and left no files", "Refine that one."
    if trial.state in FINISHED:
        return "has no checkpoint any more", "`automl-sr gc` keeps those of the front."
    reason = ""
    if trial.reason:
        reason = f": {trial.reason}"
    return f"is {trial.state} and left nothing to go on from{reason}", ""


def summary(reader: Reader, study: StudyRecord, ids: Sequence[int]) -> dict[str, Any]:
    """Return what `refine` prints: the refinements with these ids, in their order by trial and
    seed.
    """
    trials = {}
    for trial in reader.trials(study):
        trials[trial.id] = trial
    wanted = set(ids)
    made = []
    for row in refinements(reader, study):
        if row.id in wanted:
            made.append(Refinement.of(row, trials[row.trial_id]))
    found = RefineOutput(study=study.name, refinements=made)
    return found.model_dump()
