"""Telling Optuna what our rows say: repeatable, by any worker, because Optuna itself cannot fence a result."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState, create_trial

from automl_sr.search.gate import violation
from automl_sr.search.study import SLOT_ATTRIBUTE
from automl_sr.search.view import RUNGS_ATTRIBUTE
from automl_sr.store.database import explained
from automl_sr.store.records import UNFINISHED

if TYPE_CHECKING:
    from automl_sr.search.study import OpenStudy
    from automl_sr.store.records import Claim


def attach(study: OpenStudy, claim: Claim) -> Trial:
    """Give the Optuna trial of a claim: a new one, or the one that a former owner made and may not have noted."""
    with explained(study.store.url):
        identity = claim.optuna_id
        if claim.adopted or identity is not None:
            for known in study.optuna.get_trials(deepcopy=False):  # the storage has to have seen it as well
                if known.user_attrs.get(SLOT_ATTRIBUTE) == claim.slot:
                    identity = known._trial_id
        if identity is None:
            template = create_trial(state=TrialState.RUNNING, user_attrs={SLOT_ATTRIBUTE: claim.slot})
            identity = study.storage.create_new_trial(study.optuna._study_id, template)
        return Trial(study.optuna, identity)


def tell(
    study: OpenStudy,
    number: int,
    state: str,
    values: Mapping[str, float],
    *,
    violations: Mapping[str, float] | None = None,
    rungs_of: int | None = None,
    asked: Trial | None = None,
) -> None:
    """Tell Optuna how a trial ended; one that it knows already is left as it is.

    `asked` is the trial as this worker asked it, which spares a look into the storage.

    A duplicate is told as what it repeats: `rungs_of` is that trial's number. Infeasible plans are told as pruned with
    their violations, from which samplers learn where not to go.
    """
    objectives = [values[name] for name in study.spec.objectives if name in values]
    complete = state in ("complete", "duplicate") and len(objectives) == len(study.spec.objectives)
    with explained(study.store.url):
        trial = asked or Trial(study.optuna, _identity(study, number))
        try:
            _annotate(
                study, trial, values if objectives else {}, violations or {}, number if rungs_of is None else rungs_of
            )
            if complete and not (state == "duplicate" and _was_pruned(study, rungs_of)):
                study.optuna.tell(number, objectives, skip_if_finished=True)
            else:
                ended = TrialState.FAIL if state == "failed" else TrialState.PRUNED
                study.optuna.tell(number, state=ended, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # another worker has told the same row


def _annotate(
    study: OpenStudy, trial: Trial, values: Mapping[str, float], violations: Mapping[str, float], rungs_of: int
) -> None:
    """Set what samplers need: constraints as Optuna has them, and the values at the rungs."""
    measured = {
        name: violation(limits, values[name]) for name, limits in study.spec.constraints.items() if name in values
    }
    amounts = {**violations, **measured}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a worker that was killed here may have set some already: they are the same
        for name, amount in amounts.items():
            trial.set_constraint(name, amount)
    if study.setting.rungs > 1:
        rows = study.store.rungs(study.record, rungs_of)
        if rows:
            kept = {str(row.rung): [row.values[name] for name in study.spec.objectives] for row in rows}
            trial.set_user_attr(RUNGS_ATTRIBUTE, kept)


def _was_pruned(study: OpenStudy, number: int | None) -> bool:
    return number is not None and study.store.trial(study.record, number).state == "pruned"


def _identity(study: OpenStudy, number: int) -> int:
    return int(study.storage.get_trial_id_from_study_id_trial_number(study.optuna._study_id, number))


def settle(study: OpenStudy) -> int:
    """Tell Optuna what a killed worker could not tell any more; gives the number of trials."""
    with explained(study.store.url):
        open_there = {trial.number for trial in study.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
    told = 0
    for row in study.store.trials(study.record) if open_there else []:
        if row.number in open_there and row.state not in UNFINISHED:
            tell(study, row.number, row.state, row.values, rungs_of=row.duplicate_of)
            told += 1
    return told
