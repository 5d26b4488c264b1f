"""What is written of a study as a whole: its row, its notes, and which files are still there."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from automl_sr.store import models
from automl_sr.store.records import Claim, StudyRecord
from automl_sr.store.writer import Writer, add_event, lock_study, transaction


class StudyWriter(Writer):
    """Creates studies, and changes what is kept of them."""

    @transaction
    def create_study(self, session: Session, fields: Mapping[str, Any]) -> None:
        """Store a study with its first trial, the baseline, which waits.

        An existing one is left as it is.
        """
        same_name = select(models.Study.id).where(models.Study.name == fields["name"])
        if session.scalar(same_name) is not None:
            return
        study = models.Study(**fields)
        session.add(study)
        session.flush()  # the database gives the study its id, which the trial names
        key = uuid.uuid4().hex
        baseline = models.Trial(study_id=study.id, key=key, state="waiting", number=0, fence=0)
        session.add(baseline)

    @transaction
    def update_study(self, session: Session, study: StudyRecord, fields: Mapping[str, Any]) -> None:
        """Change fields of a study."""
        row = update(models.Study).where(models.Study.id == study.id)
        session.execute(row.values(dict(fields)))

    @transaction
    def settle_environment(
        self, session: Session, study: StudyRecord, name: str, value: str
    ) -> None:
        """Write an entry into a study's environment, unless somebody was first: that one stays."""
        lock_study(session, study.id)
        own = models.Study.id == study.id
        environment = session.scalar(select(models.Study.environment).where(own)) or {}
        if name in environment:
            return
        settled = {**environment, name: value}
        session.execute(update(models.Study).where(own).values(environment=settled))

    @transaction
    def note(
        self, session: Session, study: StudyRecord, kind: str, text: str, claim: Claim | None = None
    ) -> None:
        """Keep an event."""
        trial_id = None
        if claim is not None:
            trial_id = claim.trial_id
        add_event(session, study.id, trial_id, kind, text)

    @transaction
    def forget_artifacts(
        self, session: Session, study: StudyRecord, trial_ids: Iterable[int]
    ) -> None:
        """Forget the files of trials, before they are removed."""
        # A study that is importing these files holds the lock: its rows are seen afterwards.
        lock_study(session, study.id)
        file = models.Artifact
        own = select(models.Trial.id).where(
            models.Trial.study_id == study.id, models.Trial.id.in_(list(trial_ids))
        )
        with_files = select(file.trial_id).where(file.trial_id.in_(own)).distinct()
        reason = "nothing needed them: the trial is not in the front"
        for trial_id in session.scalars(with_files).all():
            add_event(session, study.id, trial_id, "files removed", reason)
        session.execute(delete(file).where(file.trial_id.in_(own)))
