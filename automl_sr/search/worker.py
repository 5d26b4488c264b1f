"""One worker: take a trial up or ask for a new one, check it at the gate, run it, write down what came of it."""

from __future__ import annotations

import gc
import re
import shutil
import statistics
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from automl_sr.errors import AutomlSRError, Interrupted, StoreError, TrialError
from automl_sr.search import projection
from automl_sr.search.gate import Gate, broken
from automl_sr.search.journal import StoreJournal, check_finite
from automl_sr.search.results import FINISHED
from automl_sr.search.scheduler import make_scheduler
from automl_sr.search.stopping import Stop
from automl_sr.search.watch import Nobody, Watcher
from automl_sr.space import TrialPlan
from automl_sr.store.leases import Keeper, LeaseLost, new_owner
from automl_sr.store.records import Claim, Result, Twin

if TYPE_CHECKING:
    from optuna.trial import Trial

    from automl_sr.search.study import OpenStudy
    from automl_sr.trial import Journal, Outcome, Setting

    RunTrial = Callable[[TrialPlan, Setting, Journal, Path], Outcome]

MOST_FREE = 50
"""So many infeasible or duplicate plans in a row end a study."""
MOST_FAILURES = 5
"""So many failures in a row with the same cause stop a search."""
LEAST_SHARE = 0.5
"""No trial begins when less than this share of a usual one's time is left."""


class Worker:
    """Works on one study until its budget is spent, the time is up, or a signal comes."""

    def __init__(
        self, study: OpenStudy, run: RunTrial, *, watcher: Watcher | None = None, stop: Stop | None = None
    ) -> None:
        self.study = study
        self.run = run
        self.watcher = watcher or Nobody()
        self.stop = stop or Stop()
        self.owner = new_owner()
        self.error: AutomlSRError | None = None
        """Why the search cannot go on, if so."""
        self.short_of_time = False
        """Whether what is left of the time is too little for another trial."""
        self._store = study.store
        self._scheduler = make_scheduler(study.spec, study.objectives)
        scratch = study.folder / "gate"
        scratch.mkdir(parents=True, exist_ok=True)
        self._gate = Gate(study.setting, study.spec.constraints, scratch)
        self._asked: Trial | None = None
        self._free = 0
        self._causes: list[str] = []

    def work(self) -> None:
        """Run trials, one after the other."""
        projection.settle(self.study)
        while not self.stop.requested() and self.error is None:
            claim = self._store.adopt(self.study.record, self.owner)
            if claim is None and self._time_for_another():
                claim = self._store.claim_new(self.study.record, self.owner, self.study.spec.budget.trials)
            if claim is None:
                return
            try:
                self._attempt(claim)
            except LeaseLost as lost:
                self.watcher.note(str(lost))

    def _time_for_another(self) -> bool:
        """Whether enough time is left for a trial of the usual length."""
        left = self.stop.seconds_left()
        if left is None:
            return True
        usual = [row.seconds for row in self._store.trials(self.study.record, ["complete", "pruned"])]
        self.short_of_time = bool(usual) and left < LEAST_SHARE * statistics.median(usual)
        return not self.short_of_time

    def _attempt(self, claim: Claim) -> None:
        """Work on one trial while a thread keeps its lease."""
        began = StoreJournal(self._store, claim, -1, self._scheduler, self.watcher, lambda: False)
        try:
            plan, number, twin = self._plan(claim)
        except TrialError as refused:
            number = self._number_of_refused(claim)
            self._record(claim, number, Result("infeasible", reason=one_line(refused)), began.seconds())
            return
        if twin is not None:
            self._repeat(claim, number, twin, began.seconds())
            return
        keeper = Keeper(lambda: self._store.renew(claim, began.seconds()))
        timed_out = self._timer(began)
        journal = StoreJournal(
            self._store,
            claim,
            number,
            self._scheduler,
            self.watcher,
            lambda: self.stop.requested() or keeper.lost or timed_out(),
        )
        with keeper.running():
            result = self._result(claim, plan, number, journal, timed_out)
        if keeper.lost:
            raise LeaseLost(f"Another worker has taken trial {number} over.", "It goes on there.")
        if result is None:
            self._store.release(claim, journal.seconds())
        else:
            self._record(claim, number, result, journal.seconds())

    def _timer(self, journal: StoreJournal) -> Callable[[], bool]:
        minutes = self.study.spec.budget.trial_minutes
        return lambda: minutes is not None and journal.seconds() > 60 * minutes

    def _plan(self, claim: Claim) -> tuple[TrialPlan, int, Twin | None]:
        """Ask the sampler, once, and freeze what it proposes; gives the plan, its number and an equal earlier trial."""
        self._asked = None
        if claim.plan is not None and claim.number is not None and claim.optuna_id is not None:
            plan, number = TrialPlan.from_json(claim.plan, self.study.registry), claim.number
            twin = self._store.freeze(claim, number, claim.optuna_id, None, plan.fingerprint)
            return plan, number, twin
        self._asked = trial = projection.attach(self.study, claim)
        number, identity = trial.number, trial._trial_id
        try:
            plan = self.study.space.suggest(trial)
        except TrialError:
            self._store.freeze(claim, number, identity, None, None)
            raise
        return plan, number, self._store.freeze(claim, number, identity, plan.to_json(), plan.fingerprint)

    def _number_of_refused(self, claim: Claim) -> int:
        if claim.number is not None:
            return claim.number
        return (self._asked or projection.attach(self.study, claim)).number

    def _repeat(self, claim: Claim, number: int, twin: Twin, seconds: float) -> None:
        """Copy what an equal trial gave, or let the trial wait until that one has ended."""
        if twin.state == "running":
            self._store.release(claim, seconds, waiting_for=twin.number)
            self.watcher.note(f"trial {number} repeats trial {twin.number}, which is running: it waits for it")
            return
        reason = f"the same plan as trial {twin.number}"
        self._record(claim, number, Result("duplicate", twin.values, reason=reason, duplicate_of=twin.number), seconds)

    def _result(
        self, claim: Claim, plan: TrialPlan, number: int, journal: StoreJournal, timed_out: Callable[[], bool]
    ) -> Result | None:
        """Give what is to be recorded, or nothing where the trial stops half-way and is kept for later."""
        self.watcher.started(number, plan.params, resumed=claim.adopted)
        try:
            verdict = self._gate.check(plan)
            if verdict.reason is not None:
                return Result("infeasible", costs=verdict.costs, reason=verdict.reason, violations=verdict.violations)
            outcome = self.run(plan, self.study.setting, journal, self._folder(number))
            check_finite(outcome.values)
            return self._kept(claim, number, outcome, dict(verdict.costs))
        except Interrupted as stopped:
            if timed_out() and not self.stop.requested():
                minutes = self.study.spec.budget.trial_minutes
                return Result("failed", reason=f"it took longer than budget.trial_minutes ({minutes:g})")
            if self.stop.requested():
                return None
            raise LeaseLost(str(stopped)) from stopped
        except (LeaseLost, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - a technique may fail in any way: the trial fails, not the search
            _free_memory()
            return Result("failed", reason=one_line(error), detail=traceback.format_exc())

    def _kept(self, claim: Claim, number: int, outcome: Outcome, costs: dict[str, float]) -> Result:
        """Keep the files, and hold the measured values against the constraints: the exported file has the last word."""
        files = tuple(
            self.study.artifacts.put(path, kind, self.study.record.folder, f"{number:05d}", path.name)
            for kind, path in outcome.artifacts.items()
        )
        return Result(
            outcome.state,
            values=outcome.values,
            costs=costs,
            reason=broken(self.study.spec.constraints, outcome.values),
            stage_seconds=outcome.seconds,
            artifacts=files,
            detail="\n".join(outcome.notes),
        )

    def _record(self, claim: Claim, number: int, result: Result, seconds: float) -> None:
        """Write the authoritative row, then tell Optuna, and see whether going on makes sense."""
        self._store.finish(claim, result, seconds)
        projection.tell(
            self.study,
            number,
            result.state,
            result.values,
            violations=result.violations,
            rungs_of=result.duplicate_of,
            asked=self._asked,
        )
        self._clean(number, result)
        self.watcher.finished(number, result, seconds)
        self._free = self._free + 1 if result.state in ("infeasible", "duplicate") else 0
        if self._free >= MOST_FREE:
            self.error = self._nothing_new(result)
        if result.state not in ("infeasible", "duplicate"):
            self._count_failure(result)

    def _count_failure(self, result: Result) -> None:
        self._causes = [*self._causes, cause_of(result.reason or "")] if result.state == "failed" else []
        last = self._causes[-MOST_FAILURES:]
        if len(last) == MOST_FAILURES and len(set(last)) == 1:
            name = self.study.spec.name
            self.error = AutomlSRError(
                f"{MOST_FAILURES} trials in a row failed with the same cause: {result.reason}",
                f"Where it happened is shown by `automl-sr show {name} NUMBER`.",
            )

    def _nothing_new(self, result: Result) -> AutomlSRError:
        if result.state == "duplicate":
            hint = "Everything in this space has been tried, or nearly so: widen the space."
        else:
            hint = f"Relax the constraints or narrow the space; the last one: {result.reason}."
        return Exhausted(
            f"{MOST_FREE} plans in a row were infeasible or had been tried before, so the study ends.", hint
        )

    def _folder(self, number: int) -> Path:
        return self.study.folder / f"{number:05d}"

    def _clean(self, number: int, result: Result) -> None:
        """Remove what only a resume needs; the trunk's last checkpoints of a finished model are kept to go on from."""
        folder = self._folder(number)
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if result.state in FINISHED and path.name == "trunk":
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


class Exhausted(AutomlSRError):  # noqa: N818 - the word for what happened
    """Nothing new can be proposed; what was found is the result."""


def one_line(error: BaseException) -> str:
    """Put an error into one line, of at most 500 characters."""
    text = " ".join(str(error).split())
    named = text if isinstance(error, AutomlSRError) else f"{type(error).__name__}: {text}".rstrip(": ")
    return named if len(named) <= 500 else f"{named[:497]}..."


def cause_of(reason: str) -> str:
    """Give what two failures with the same cause have in common: the reason without its numbers."""
    return re.sub(r"[-+]?\d[\d.,e+-]*", "#", reason)


def _free_memory() -> None:
    """Give memory back after a failure, so that the next trial starts as the first one did."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
