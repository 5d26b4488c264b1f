"""Telling Optuna what our rows say: repeatable, by any worker, because Optuna itself cannot fence a
result.

An Optuna trial belongs to our row by its key. A worker that lost its lease at the wrong moment can
leave a second one with the same key; the first counts, and `reconcile` ends the others as failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import FrozenTrial, TrialState, create_trial

from automl_sr.search.optuna.sampler_view import RUNGS_ATTRIBUTE
from automl_sr.store.database import explained
from automl_sr.store.records import UNFINISHED, Result

if TYPE_CHECKING:
    from automl_sr.search.open_study import OpenStudy
    from automl_sr.store.records import Claim, TrialRecord

KEY_ATTRIBUTE = "automl_sr:slot"
"""Where an Optuna trial keeps the key of our row; stores have it under this name since their first
version.
"""
NUMBER_ATTRIBUTE = "automl_sr:number"


def project(study: OpenStudy, claim: Claim, asked: Mapping[str, Any]) -> FrozenTrial:
    """Return the Optuna trial of a claim: that of a former owner, or a new one with everything that
    was drawn.
    """
    ranges = study.space.parameters()
    template = create_trial(
        state=TrialState.RUNNING,
        params=dict(asked["params"]),
        distributions={name: ranges[name] for name in asked["params"]},
        user_attrs={KEY_ATTRIBUTE: claim.key, NUMBER_ATTRIBUTE: claim.number},
        system_attrs=dict(asked["notes"]),
    )
    may_be_there = claim.taken_over or claim.plan is not None

    def once() -> FrozenTrial:
        nonlocal may_be_there
        with explained(study.store.url):
            if may_be_there:
                known = _of_key(study, claim.key)
            else:
                known = []
            may_be_there = True  # should the connection get lost now
            if known:
                return known[0]
            template._trial_id = study.storage.create_new_trial(study.optuna._study_id, template)
            return template

    return study.store.retry(once)


def tell(study: OpenStudy, trial: FrozenTrial, number: int, result: Result) -> None:
    """Tell Optuna how a trial ended; one that it knows already is left as it is.

    The storage is told itself: `Study.tell` does the same, but reads the trial before and after it,
    and reading one takes six statements. A duplicate is told as what it repeats. Infeasible plans
    are told as pruned with their violations, from which samplers learn where not to go.
    """
    objectives = []
    for name in study.spec.objectives:
        if name in result.values:
            objectives.append(result.values[name])
    complete = result.state in ("complete", "duplicate") and len(objectives) == len(
        study.spec.objectives
    )
    if result.duplicate_of is None:
        repeated = number
    else:
        repeated = result.duplicate_of

    def once() -> None:
        with explained(study.store.url):
            try:
                _annotate(
                    study,
                    trial,
                    result if objectives or result.violations else Result(result.state),
                    repeated,
                )
                state, values = (
                    TrialState.FAIL if result.state == "failed" else TrialState.PRUNED,
                    None,
                )
                if complete and not (result.state == "duplicate" and _was_pruned(study, repeated)):
                    state, values = TrialState.COMPLETE, [float(value) for value in objectives]
                study.optuna.sampler.after_trial(study.optuna, trial, state, values)
                study.storage.set_trial_state_values(trial._trial_id, state, values)
            except UpdateFinishedTrialError:
                return  # another worker has told the same row

    study.store.retry(once)


def reconcile(study: OpenStudy) -> int:
    """Tell Optuna what a worker that died could not tell any more; gives the number of its trials
    that were ended.
    """
    return study.store.retry(lambda: _reconcile(study))


def _reconcile(study: OpenStudy) -> int:
    with explained(study.store.url):
        # Optuna's trials first, then the rows: a trial has its row before Optuna knows it.
        keys = {str(trial.user_attrs.get(KEY_ATTRIBUTE)) for trial in _running(study)}
        rows = study.store.by_key(study.record, keys)
        ended = {key for key in keys if key not in rows or rows[key].state not in UNFINISHED}
        if not ended:
            return 0  # nothing was left behind; all trials need not be looked at
        trials = study.optuna.get_trials(deepcopy=False)
    left = []
    for t in trials:
        if t.state is TrialState.RUNNING and str(t.user_attrs.get(KEY_ATTRIBUTE)) in ended:
            left.append(t)
    told = 0
    for trial in left:
        key = trial.user_attrs.get(KEY_ATTRIBUTE)
        row = rows.get(str(key))
        counts = row is not None and _counting(trials, key) is trial
        if counts and row is not None:
            result = _result_of(row)
        else:
            result = Result("failed")
        tell(study, trial, row.number if row is not None else -1, result)
        told += 1
    return told


def _running(study: OpenStudy) -> list[FrozenTrial]:
    """Return the trials that have not ended for Optuna; past its cache, which would read all others
    too.
    """
    storage = getattr(study.storage, "_backend", study.storage)
    return list(
        storage.get_all_trials(study.optuna._study_id, deepcopy=False, states=(TrialState.RUNNING,))
    )


def _result_of(row: TrialRecord) -> Result:
    return Result(
        row.state, values=row.values, violations=row.violations, duplicate_of=row.duplicate_of
    )


def _counting(trials: list[FrozenTrial], key: Any) -> FrozenTrial:
    """Return the one Optuna trial of a key that counts: one that has ended, else the first."""
    same = []
    for trial in trials:
        if trial.user_attrs.get(KEY_ATTRIBUTE) == key:
            same.append(trial)
    ended = []
    for trial in same:
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            ended.append(trial)
    return next(iter(ended), same[0])


def _of_key(study: OpenStudy, key: str) -> list[FrozenTrial]:
    trials = study.optuna.get_trials(deepcopy=False)
    same = []
    for trial in trials:
        if trial.user_attrs.get(KEY_ATTRIBUTE) == key:
            same.append(trial)
    if same:
        return [_counting(trials, key)]
    return []


def _annotate(study: OpenStudy, trial: FrozenTrial, result: Result, rungs_of: int) -> None:
    """Set what samplers need: constraints as Optuna has them, and the values at the rungs."""
    measured = {
        name: limits.violation(result.values[name])
        for name, limits in study.spec.constraints.items()
        if name in result.values
    }
    amounts = {**result.violations, **measured}
    for (
        name,
        amount,
    ) in (
        amounts.items()
    ):  # a worker that was killed here may have set some already: they are the same
        study.storage.set_trial_system_attr(
            trial._trial_id, f"{_CONSTRAINTS_KEY}:{name}", float(amount)
        )
    if study.setting.rungs > 1:
        rows = study.store.rungs(study.record, rungs_of)
        if rows:
            kept = {}
            for row in rows:
                kept[str(row.rung)] = [row.values[name] for name in study.spec.objectives]
            study.storage.set_trial_user_attr(trial._trial_id, RUNGS_ATTRIBUTE, kept)


def _was_pruned(study: OpenStudy, number: int) -> bool:
    return study.store.trial(study.record, number).state == "pruned"
