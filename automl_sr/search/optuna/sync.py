"""Telling Optuna what our rows say: repeatable, by any worker, because Optuna itself cannot fence a
result.

An Optuna trial belongs to our row by its key. A worker that lost its lease at the wrong moment can
leave a second one with the same key; the first counts, and `reconcile` ends the others as failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    params = dict(asked["params"])
    own = {KEY_ATTRIBUTE: claim.key, NUMBER_ATTRIBUTE: claim.number}
    template = create_trial(
        state=TrialState.RUNNING,
        params=params,
        distributions={name: ranges[name] for name in params},
        user_attrs=own,
        system_attrs=dict(asked["notes"]),
    )
    # Of a new trial nobody can have told before: all trials need not be looked at.
    may_be_there = claim.taken_over or claim.plan is not None

    def once() -> FrozenTrial:
        nonlocal may_be_there
        with explained(study.store.url):
            known = None
            if may_be_there:
                known = _of_key(study, claim.key)
            may_be_there = True  # should the connection get lost now
            if known is not None:
                return known
            template._trial_id = study.storage.create_new_trial(study.optuna._study_id, template)
            return template

    return study.store.retry(once)


def tell(study: OpenStudy, trial: FrozenTrial, number: int, result: Result) -> None:
    """Tell Optuna how a trial ended; one that it knows already is left as it is.

    A duplicate is told as what it repeats. Infeasible plans are told as pruned with their
    violations, from which samplers learn where not to go.
    """
    objectives = []
    for name in study.spec.objectives:
        if name in result.values:
            objectives.append(float(result.values[name]))
    measured = len(objectives) == len(study.spec.objectives)
    complete = result.state in ("complete", "duplicate") and measured
    repeated = number
    if result.duplicate_of is not None:
        repeated = result.duplicate_of
    noted = result
    if not objectives and not result.violations:
        noted = Result(result.state)

    def once() -> None:
        with explained(study.store.url):
            try:
                # Notes first: a trial that has ended takes none any more.
                _annotate(study, trial, noted, repeated)
                state = TrialState.PRUNED
                values = None
                if result.state == "failed":
                    state = TrialState.FAIL
                elif complete and not _repeats_pruned(study, result, repeated):
                    state = TrialState.COMPLETE
                    values = objectives
                # The storage is told itself: `Study.tell` does the same, but reads the trial before
                # and after it, and reading one takes six statements.
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
        keys = {_key(trial) for trial in _running(study)}
        rows = study.store.by_key(study.record, keys)
        ended = set()
        for key in keys:
            if key not in rows or rows[key].state not in UNFINISHED:
                ended.add(key)
        if not ended:
            return 0  # nothing was left behind; all trials need not be looked at
        trials = study.optuna.get_trials(deepcopy=False)

    left = []
    for trial in trials:
        if trial.state is TrialState.RUNNING and _key(trial) in ended:
            left.append(trial)
    for trial in left:
        _tell_left(study, trial, trials, rows.get(_key(trial)))
    return len(left)


def _tell_left(
    study: OpenStudy,
    trial: FrozenTrial,
    trials: Collection[FrozenTrial],
    row: TrialRecord | None,
) -> None:
    """Tell how a trial ended that was left running: as its row says, or as failed."""
    if row is None:
        tell(study, trial, -1, Result("failed"))
        return
    result = Result("failed")
    if _counting(trials, _key(trial)) is trial:
        result = Result(
            row.state, values=row.values, violations=row.violations, duplicate_of=row.duplicate_of
        )
    tell(study, trial, row.number, result)


def _key(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(KEY_ATTRIBUTE))


def _running(study: OpenStudy) -> list[FrozenTrial]:
    """Return the trials that have not ended for Optuna."""
    # Past Optuna's cache, which would read all others too.
    storage = getattr(study.storage, "_backend", study.storage)
    own = study.optuna._study_id
    running = (TrialState.RUNNING,)
    return list(storage.get_all_trials(own, deepcopy=False, states=running))


def _counting(trials: Collection[FrozenTrial], key: str) -> FrozenTrial | None:
    """Return the one Optuna trial of a key that counts: one that has ended, else the first."""
    first = None
    for trial in trials:
        if _key(trial) != key:
            continue
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            return trial
        if first is None:
            first = trial
    return first


def _of_key(study: OpenStudy, key: str) -> FrozenTrial | None:
    return _counting(study.optuna.get_trials(deepcopy=False), key)


def _annotate(study: OpenStudy, trial: FrozenTrial, result: Result, rungs_of: int) -> None:
    """Set what samplers need: constraints as Optuna has them, and the values at the rungs."""
    amounts = dict(result.violations)
    for name, limits in study.spec.constraints.items():
        if name in result.values:
            amounts[name] = limits.violation(result.values[name])
    # A worker that was killed here may have set some already: they are the same.
    for name, amount in amounts.items():
        key = f"{_CONSTRAINTS_KEY}:{name}"
        study.storage.set_trial_system_attr(trial._trial_id, key, float(amount))

    if study.setting.rungs <= 1:
        return
    kept = {}
    for row in study.store.rungs(study.record, rungs_of):
        values = [row.values[name] for name in study.spec.objectives]
        kept[str(row.rung)] = values
    if kept:
        study.storage.set_trial_user_attr(trial._trial_id, RUNGS_ATTRIBUTE, kept)


def _repeats_pruned(study: OpenStudy, result: Result, number: int) -> bool:
    """Return whether a trial repeats one that was stopped at a rung."""
    if result.state != "duplicate":
        return False
    repeated = study.store.trial(study.record, number)
    return repeated.state == "pruned"
