"""What a worker writes of the trial that it holds: plan, curve, rungs and result, always under its
fence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import case, delete, insert, select
from sqlalchemy.orm import Session

from automl_sr.store import models
from automl_sr.store.encoding import finite_only, storable_text
from automl_sr.store.fence import change_held, is_ended_by, is_held, lost
from automl_sr.store.leases import GIVEN_BACK
from automl_sr.store.models import now
from automl_sr.store.records import (
    ArtifactRecord,
    Claim,
    DuplicateOf,
    PointRecord,
    Result,
    RungVerdict,
)
from automl_sr.store.writer import Writer, add_event, lock_study, transaction


class TrialWriter(Writer):
    """Writes what a trial does and what comes of it."""

    @transaction
    def freeze(
        self,
        session: Session,
        claim: Claim,
        plan: Mapping[str, Any] | None,
        fingerprint: str | None,
        asked: Mapping[str, Any] | None,
    ) -> DuplicateOf | None:
        """Write down what the trial does, once; gives an earlier trial that does the same, if there
        is one.

        Raises LeaseLostError.
        """
        if fingerprint is not None:
            # Of two equal plans that are frozen at once, one has to see the other.
            lock_study(session, claim.study_id)
        if claim.plan is None:
            held = change_held(session, claim, plan=plan, fingerprint=fingerprint, asked=asked)
        else:
            held = is_held(session, claim)  # a former owner froze it
        if not held:
            raise lost(claim)
        if fingerprint is None:
            return None
        return _equal_trial(session, claim, fingerprint)

    @transaction
    def stage(self, session: Session, claim: Claim, stage: str, seconds: float) -> None:
        """Write down where a trial is. Raises LeaseLostError."""
        if not change_held(session, claim, stage=stage, seconds=seconds):
            raise lost(claim)

    @transaction
    def keep(self, session: Session, claim: Claim, kept: Mapping[str, Any]) -> None:
        """Write down which checkpoints lie in the remote artifact location.

        Raises LeaseLostError.
        """
        if not change_held(session, claim, kept=dict(kept)):
            raise lost(claim)

    @transaction
    def points(self, session: Session, claim: Claim, points: Sequence[PointRecord]) -> None:
        """Add points to the learning curve; the same point again replaces the former one.

        Raises LeaseLostError.
        """
        if not points:
            return
        trial = models.Trial
        farthest = max(item.step for item in points)
        gone_on = trial.position < farthest
        # A trial that trains further than ever is not to blame for the workers that died of it.
        progress = {
            "position": case((gone_on, farthest), else_=trial.position),
            "takeovers": case((gone_on, 0), else_=trial.takeovers),
        }
        if not change_held(session, claim, **progress):
            raise lost(claim)

        point = models.CurvePoint
        newest: dict[tuple[str, int], PointRecord] = {}
        for item in points:
            newest[item.phase, item.step] = item
        for phase, step in newest:
            same = (
                point.trial_id == claim.trial_id,
                point.phase == phase,
                point.step == step,
            )
            session.execute(delete(point).where(*same))
        rows = []
        for item in newest.values():
            rows.append(_point_row(claim, item))
        session.execute(insert(point), rows)

    @transaction
    def record_rung(
        self,
        session: Session,
        claim: Claim,
        rung: int,
        step: int,
        seconds: float,
        values: Mapping[str, float],
        decide: Callable[[list[Mapping[str, float]]], RungVerdict],
    ) -> RungVerdict:
        """Write a trial's values at a rung and the verdict on it, in one transaction.

        `decide` gets the values of all other trials at this rung. Raises LeaseLostError.
        """
        rows = models.Rung
        # Two trials that reach a rung at once take turns: the second one is judged with the first.
        lock_study(session, claim.study_id)
        if not is_held(session, claim):
            raise lost(claim)
        known = session.get(rows, (claim.trial_id, rung))
        if known is not None:  # a takeover reads the answer, which is never given twice
            return RungVerdict(known.go_on, known.reason or "")

        at_rung = (rows.study_id == claim.study_id, rows.rung == rung)
        query = select(rows.values).where(*at_rung).order_by(rows.trial_id)
        others: list[Mapping[str, float]] = [*session.scalars(query)]
        verdict = decide(others)
        row = {
            "trial_id": claim.trial_id,
            "rung": rung,
            "study_id": claim.study_id,
            "step": step,
            "seconds": seconds,
            "values": dict(values),
            "go_on": verdict.go_on,
            "reason": verdict.reason,
        }
        session.execute(insert(rows).values(**row, at=now()))
        return verdict

    @transaction
    def finish(self, session: Session, claim: Claim, result: Result, seconds: float) -> None:
        """Write the result of a trial: the authoritative row.

        Raises LeaseLostError where the trial was taken over.
        """
        written = change_held(
            session,
            claim,
            state=result.state,
            values=dict(result.values) or None,
            costs=finite_only(result.costs) or None,
            violations=finite_only(result.violations) or None,
            reason=result.reason and storable_text(result.reason),
            stage_seconds=finite_only(result.stage_seconds) or None,
            shared=dict(result.shared) or None,
            duplicate_of=result.duplicate_of,
            seconds=seconds,
            stage=None,
            kept=None,
            **GIVEN_BACK,
            finished=now(),
        )
        if not written:
            if is_ended_by(session, claim):
                return
            raise lost(claim)

        artifact = models.Artifact
        session.execute(delete(artifact).where(artifact.trial_id == claim.trial_id))
        files = []
        for file in result.artifacts:
            files.append(_file_row(claim, file))
        if files:
            session.execute(insert(artifact), files)
        if result.detail:
            add_event(session, claim.study_id, claim.trial_id, result.state, result.detail)


def finite(value: float | None) -> float | None:
    """Keep what a number column of every database can hold."""
    if value is not None and math.isfinite(value):
        return value
    return None


def _equal_trial(session: Session, claim: Claim, fingerprint: str) -> DuplicateOf | None:
    """Find a trial with the same plan: one that has a model, else one that began before this one.

    A later one that is running does not count, or each of the two would wait for the other.
    """
    trial = models.Trial
    query = select(trial).where(
        trial.study_id == claim.study_id,
        trial.fingerprint == fingerprint,
        trial.id != claim.trial_id,
        trial.state.in_(["complete", "pruned", "running"]),
    )
    done = []
    earlier = []
    for row in session.scalars(query.order_by(trial.number)):
        if row.state != "running":
            done.append(row)
        elif row.id < claim.trial_id:
            earlier.append(row)
    equals = done or earlier
    if not equals:
        return None
    first = equals[0]
    return DuplicateOf(first.number or 0, first.state, first.values or {})


def _point_row(claim: Claim, item: PointRecord) -> dict[str, Any]:
    return {
        "trial_id": claim.trial_id,
        "phase": item.phase,
        "step": item.step,
        "loss": finite(item.loss),
        "rate": finite(item.rate),
        "images_per_second": finite(item.images_per_second),
        "values": dict(item.values) or None,
    }


def _file_row(claim: Claim, file: ArtifactRecord) -> dict[str, Any]:
    return {
        "trial_id": claim.trial_id,
        "kind": file.kind,
        "url": file.url,
        "sha256": file.sha256,
        "bytes": file.bytes,
    }
