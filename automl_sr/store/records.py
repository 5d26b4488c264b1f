"""What the store gives to its readers and workers: frozen records, so that nothing outside writes
by accident.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["complete", "pruned", "infeasible", "duplicate", "failed", "running", "waiting"]
STATES: tuple[State, ...] = (
    "complete",
    "pruned",
    "infeasible",
    "duplicate",
    "failed",
    "running",
    "waiting",
)
COUNTED: tuple[State, ...] = ("complete", "pruned", "failed")
"""What `budget.trials` counts; infeasible and duplicate plans train nothing and are free."""
LAYERS = "layers"
"""The kind of file that says what became of each layer of a trial's model."""
UNFINISHED: tuple[State, ...] = ("running", "waiting")


@dataclass(frozen=True)
class StudyRecord:
    """A study as stored."""

    id: int
    name: str
    spec: Mapping[str, Any]
    space: Mapping[str, Any]
    source: str
    environment: Mapping[str, Any]
    reference: Mapping[str, Any]
    artifacts: str
    seconds: float
    created: float
    counts: Mapping[str, int] = field(default_factory=dict)
    """Trials by state; every state is there."""

    @property
    def folder(self) -> str:
        """Name of the study's folders: its own, even where another store holds a study of the same
        name.
        """
        identity = f"{self.name}/{self.created!r}"
        digest = hashlib.sha256(identity.encode()).hexdigest()
        return f"{self.name}-{digest[:8]}"

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives."""
        return tuple(self.spec["objectives"])

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of everything that is measured: objectives, limited metrics, and those that are
        only observed.
        """
        observed = self.spec.get("observe", ())  # studies of version 0.1.0 observed nothing
        names = [*self.objectives, *self.spec["constraints"], *observed]
        return tuple(dict.fromkeys(names))  # each once, in this order


@dataclass(frozen=True)
class ArtifactRecord:
    """A file of a trial."""

    kind: str
    url: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class TrialRecord:
    """A trial as stored."""

    id: int
    study_id: int
    number: int
    state: State
    plan: Mapping[str, Any] | None
    fingerprint: str | None
    values: Mapping[str, float]
    costs: Mapping[str, float]
    reason: str | None
    seconds: float
    stage_seconds: Mapping[str, float]
    stage: str | None
    duplicate_of: int | None
    owner: str | None
    key: str
    asked: Mapping[str, Any] | None
    violations: Mapping[str, float]
    fence: int
    kept: Mapping[str, Any] | None
    created: float
    started: float | None
    finished: float | None
    artifacts: Mapping[str, ArtifactRecord] = field(default_factory=dict)
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Results that trials share, by name: seconds that making it took, and whether another trial
    did (`reused`).
    """
    origin: Mapping[str, Any] | None = None
    """The study and number from which the trial was imported."""

    @property
    def params(self) -> dict[str, Any]:
        """The plan, flat by parameter name."""
        if self.plan:
            return dict(self.plan["params"])
        return {}


@dataclass(frozen=True)
class Claim:
    """The right to work on one trial: only its fence may write results."""

    trial_id: int
    study_id: int
    key: str
    """The same as in the user attributes of Optuna's trial."""
    owner: str
    fence: int
    number: int
    plan: Mapping[str, Any] | None = None
    asked: Mapping[str, Any] | None = None
    """What the sampler drew, where the plan is frozen already."""
    seconds: float = 0.0
    taken_over: bool = False
    """Whether another worker had begun with it."""
    takeovers: int = 0
    """How many owners in a row died without training further."""
    stage: str | None = None
    """Where the last owner was."""
    kept: Mapping[str, Any] | None = None
    """Its checkpoints in a remote artifact location."""


@dataclass(frozen=True)
class DuplicateOf:
    """A trial with the same fingerprint."""

    number: int
    state: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class RungVerdict:
    """Whether a trial is promoted at a rung, and why."""

    go_on: bool
    reason: str = ""


@dataclass(frozen=True)
class RungRecord:
    """The values of a trial at a rung."""

    number: int
    rung: int
    step: int
    values: Mapping[str, float]
    go_on: bool
    seconds: float | None = None
    """Seconds that the trial had taken by then; unknown in stores of older versions."""
    reason: str = ""
    """Why it was promoted or stopped; empty in stores of older versions."""


@dataclass(frozen=True)
class PointRecord:
    """A point of a learning curve."""

    phase: str
    step: int
    loss: float | None
    rate: float | None
    images_per_second: float | None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EventRecord:
    """Something that happened."""

    kind: str
    text: str
    at: float
    number: int | None = None


@dataclass(frozen=True)
class Result:
    """What is written when a trial ends."""

    state: State
    values: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    duplicate_of: int | None = None
    artifacts: tuple[ArtifactRecord, ...] = ()
    violations: Mapping[str, float] = field(default_factory=dict)
    """By how much an infeasible plan breaks each constraint; samplers learn from it."""
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the trial took from, or gave to, the results that trials share."""
    detail: str = ""
    """A traceback or notes, kept as an event."""
