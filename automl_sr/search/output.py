"""The JSON that commands print of studies and trials: one model for each shape, which other
programs rely on.

`automl-sr schema --output NAME` prints the JSON Schema of a shape. Keys are added, never renamed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from automl_sr.store.records import (
        ArtifactRecord,
        PointRecord,
        RungRecord,
        StudyRecord,
        TrialRecord,
    )
    from automl_sr.store.refinements import RefinementRecord

Number = int | float
Values = dict[str, Number]
"""Numbers by metric; the whole ones stay whole."""
Plan = dict[str, Any]
"""Flat by parameter name."""


class Shape(BaseModel):
    """A JSON object with these keys and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class OfStudy(Shape):
    """What is said of one study."""

    study: str


class FrontMember(Shape):
    """A model of the front, as `search` lists it."""

    number: int
    values: Values
    plan: Plan
    artifacts: dict[str, str]
    """Places of its files by kind."""

    @classmethod
    def of(cls, trial: TrialRecord) -> Self:
        """Return the shape of a trial."""
        return cls(
            number=trial.number,
            values=dict(trial.values),
            plan=trial.params,
            artifacts={kind: file.url for kind, file in trial.artifacts.items()},
        )


class SearchOutput(OfStudy):
    """What `search` and `worker` print."""

    store: str
    trials: dict[str, int]
    """How many there are in each state."""
    front: list[FrontMember]
    seconds: float


class TrialRow(Shape):
    """A trial, as every list of trials begins."""

    number: int
    state: str
    values: Values
    plan: Plan
    seconds: float
    reason: str | None
    """Why it ended, where it did not simply complete."""

    @classmethod
    def of(cls, trial: TrialRecord, **more: Any) -> Self:
        """Return the shape of a trial; `more` is what a shape with further keys adds."""
        return cls(
            number=trial.number,
            state=trial.state,
            values=dict(trial.values),
            plan=trial.params,
            seconds=round(trial.seconds, 3),
            reason=trial.reason,
            **more,
        )


class ListedTrial(TrialRow):
    """A trial, as `trials` lists it."""

    front: bool | None
    """Whether no other model of the study dominates it; null where an objective's plugin is not
    installed.
    """


class TrialsOutput(OfStudy):
    """What `trials` prints."""

    trials: list[ListedTrial]


class StudyRow(Shape):
    """A study, as `studies` lists it."""

    study: str
    objectives: list[str]
    trials: dict[str, int]
    """How many there are in each state."""
    seconds: float
    artifacts: str
    """Where its files lie."""
    reference: Values
    """What needs no model."""
    created: str
    """ISO 8601, in UTC."""

    @classmethod
    def of(cls, study: StudyRecord, created: str) -> Self:
        """Return the shape of a study."""
        return cls(
            study=study.name,
            objectives=list(study.objectives),
            trials=dict(study.counts),
            seconds=round(study.seconds, 3),
            artifacts=study.artifacts,
            reference=dict(study.reference),
            created=created,
        )


class StudiesOutput(Shape):
    """What `studies` prints."""

    store: str
    studies: list[StudyRow]


class RungRow(Shape):
    """What a trial reached at a rung, and what was decided there."""

    rung: int
    step: int
    values: Values
    go_on: bool
    reason: str

    @classmethod
    def of(cls, row: RungRecord) -> Self:
        """Return the shape of a trial at a rung."""
        return cls(
            rung=row.rung,
            step=row.step,
            values=dict(row.values),
            go_on=row.go_on,
            reason=row.reason,
        )


class CurvePoint(Shape):
    """A point of a learning curve."""

    phase: str
    step: int
    loss: float | None
    rate: float | None
    values: Values

    @classmethod
    def of(cls, point: PointRecord) -> Self:
        """Return the shape of a point."""
        return cls(
            phase=point.phase,
            step=point.step,
            loss=point.loss,
            rate=point.rate,
            values=dict(point.values),
        )


class File(Shape):
    """A file of a trial."""

    kind: str
    url: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, file: ArtifactRecord) -> Self:
        """Return the shape of a file."""
        return cls(kind=file.kind, url=file.url, sha256=file.sha256, bytes=file.bytes)


class Event(Shape):
    """Something that happened to a trial."""

    at: str
    """ISO 8601, in UTC."""
    kind: str
    text: str


class Refinement(Shape):
    """A refinement of a trial."""

    number: int
    seed: int
    steps: int
    state: str
    values: Values
    tests: dict[str, Values]
    """Values by test set."""
    search_values: Values
    """What the search measured of the same trial."""
    artifacts: dict[str, str]
    seconds: float
    reason: str | None

    @classmethod
    def of(cls, row: RefinementRecord, trial: TrialRecord) -> Self:
        """Return the shape of a refinement of this trial."""
        return cls(
            number=row.number,
            seed=row.seed,
            steps=row.steps,
            state=row.state,
            values=dict(row.values),
            tests={name: dict(values) for name, values in row.tests.items()},
            search_values=dict(trial.values),
            artifacts={kind: file.url for kind, file in row.artifacts.items()},
            seconds=round(row.seconds, 3),
            reason=row.reason,
        )


class RefineOutput(OfStudy):
    """What `refine` prints."""

    refinements: list[Refinement]


class LayerShape(Shape):
    """What became of a layer of a trial's model."""

    name: str
    kind: str
    parameters_before: int
    parameters: int
    weights: int
    zeros: int
    """Weights that are zero."""
    sparsity: float
    """Their share of the weights."""
    bits: float | None
    """In which each weight that is kept is stored."""
    bytes: int | None
    """Of all that is stored for the weights."""


class LayersShape(Shape):
    """What became of the layers of a trial's model."""

    layers: list[LayerShape]
    other: dict[str, int]
    """Parameters outside of layers: `parameters_before`, `parameters`."""
    reason: str | None = None
    """Why there are no layers, where their file cannot be read now."""

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> Self | None:
        """Return the shape of a file of layers, if there is one."""
        if found is None:
            return None
        return cls(layers=found["layers"], other=found["other"], reason=found.get("reason"))


class ShowOutput(TrialRow, OfStudy):
    """What `show` prints."""

    costs: Values
    """What was known before training."""
    stage_seconds: dict[str, float]
    shared: dict[str, dict[str, Any]]
    """Results that trials share: seconds that making it took, and whether another trial did."""
    stage: str | None
    duplicate_of: int | None
    origin: dict[str, Any] | None
    """The study and number from which the trial was imported."""
    fingerprint: str | None
    rungs: list[RungRow]
    curve: list[CurvePoint]
    refinements: list[Refinement]
    artifacts: list[File]
    events: list[Event]
    layers: LayersShape | None
    """Null for a trial whose files do not tell."""


class CompressOutput(Shape):
    """What `compress` prints, and writes as evidence.json but for `files`."""

    made_by: str
    model: dict[str, Any]
    """Where the finished model came from: a folder, a trial, a checkpoint."""
    task: dict[str, Any]
    data: str
    """Fingerprint of the images."""
    techniques: dict[str, str]
    """By slot."""
    plan: Plan
    fingerprint: str
    steps: int
    seed: int
    device: dict[str, Any]
    """Where the files were timed."""
    environment: dict[str, Any]
    before: Values
    after: Values
    layers: LayersShape | None
    seconds: dict[str, float]
    """By stage."""
    notes: list[str]
    sha256: dict[str, str]
    """Of the files, by kind."""
    folder: str
    files: list[str]


class CompareOutput(OfStudy):
    """What `compare` prints."""

    trials: list[TrialRow]
    differences: dict[str, dict[str, dict[int, Any]]]
    """`values`, `costs` and `plan`: by name, then by number of the trial."""


OUTPUTS: dict[str, type[Shape]] = {
    "search": SearchOutput,
    "studies": StudiesOutput,
    "trials": TrialsOutput,
    "show": ShowOutput,
    "compare": CompareOutput,
    "refine": RefineOutput,
    "compress": CompressOutput,
}
"""Shapes by the command that prints them."""
