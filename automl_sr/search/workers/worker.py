"""One worker: take a trial up or ask for a new one, check it at the gate, run it, write down what
came of it.
"""

from __future__ import annotations

import functools
import gc
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import (
    AutomlSRError,
    InfeasibleError,
    StoreError,
    StoreUnreachableError,
    TrialError,
)
from automl_sr.plugin.foreign import Mishap, contained, detail_of, one_line, text_of
from automl_sr.plugin.process_state import ProcessState
from automl_sr.search.decide.gate import Gate
from automl_sr.search.decide.scheduler import make_scheduler
from automl_sr.search.optuna import sync
from automl_sr.search.optuna.proposal import Proposal
from automl_sr.search.workers.callbacks import SearchCallback
from automl_sr.search.workers.failures import FailuresInARow, failed, failure_words
from automl_sr.search.workers.reporter import TrialReporter, check_finite
from automl_sr.search.workers.stop_signal import Stop
from automl_sr.search.workers.trial_folder import TrialFolder
from automl_sr.search.workers.watchdog import IMPORT_SECONDS, OverdueError, Watchdog
from automl_sr.space.plan import TrialPlan
from automl_sr.store.artifacts import ArtifactError
from automl_sr.store.database import explained
from automl_sr.store.leases import LeaseHeartbeat, LeaseLostError, new_owner
from automl_sr.store.records import Claim, DuplicateOf, Result
from automl_sr.study.limits import broken
from automl_sr.trial.imports import LATE, import_for
from automl_sr.trial.observer import CurveObserver
from automl_sr.trial.run import run_trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl_sr.search.open_study import OpenStudy
    from automl_sr.trial.observer import TrialObserver
    from automl_sr.trial.types import Outcome, Setting

    RunTrial = Callable[[TrialPlan, Setting, TrialObserver, Path], Outcome]

MOST_FREE = 50
"""So many infeasible or duplicate plans in a row end a study."""
MOST_TAKEOVERS = 8
"""So often a trial's worker may die without training further; then the trial itself is to blame."""
WAIT_SECONDS = 1.0
LEAST_SHARE = 0.5
"""No trial begins when less than this share of a usual one's time is left."""


class Worker:
    """Works on one study until its budget is spent, the time is up, or a signal comes."""

    def __init__(
        self,
        study: OpenStudy,
        run: RunTrial,
        *,
        callback: SearchCallback | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.study = study
        self.run = run
        self.callback = callback or SearchCallback()
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
        self._trial: FrozenTrial | None = None
        """Optuna's trial of the claim at hand."""
        self._waits = False
        self._free = 0
        self._failures = FailuresInARow(study.spec.name)
        self._process = ProcessState()
        """What techniques share with this worker and with each other, as it is to be for each of
        them.
        """
        self._put_back: set[str] = set()

    def work(self) -> None:
        """Run trials, one after the other, and wait for those of other workers, which may leave
        theirs behind.
        """
        self._process = ProcessState()
        try:
            # Before the first draw: no trial may look as if it ran to the sampler that has ended.
            sync.reconcile(self.study)
            while not self.stop.requested() and self.error is None:
                claim = self._next()
                if claim is not None:
                    self._work_on(claim)
                elif not self._wait():
                    break
            sync.reconcile(self.study)
        except StoreError as error:
            self.error = error

    def _next(self) -> Claim | None:
        """Take up what another worker left behind, or begin a new trial; nothing where there is
        nothing to do now.
        """
        claim = self._store.retry(lambda: self._store.take_over(self.study.record, self.owner))
        if claim is not None or not self._time_for_another():
            return claim
        # Read each time: another process may have resumed the study with a larger budget.
        budget = self._store.retry(lambda: self._store.budget(self.study.record))
        return self._store.claim_new(self.study.record, self.owner, budget.get("trials"))

    def _time_for_another(self) -> bool:
        """Return whether enough time is left for a trial of the usual length."""
        left = self.stop.seconds_left()
        if left is None:
            return True
        usual = self._store.retry(lambda: self._store.usual_seconds(self.study.record))
        self.short_of_time = bool(usual) and left < LEAST_SHARE * statistics.median(usual)
        return not self.short_of_time

    def _wait(self) -> bool:
        """Wait a moment while others have trials; False where all have ended."""
        others = self._store.retry(lambda: self._store.unfinished(self.study.record))
        if others and not self._waits:
            self.callback.note(f"waiting for the trials of other workers: {others}")
        self._waits = bool(others)
        if others:
            self.stop.wait(WAIT_SECONDS)
        return bool(others)

    # One trial, from the outside to the inside: its lease, its folder, its watchdog

    def _work_on(self, claim: Claim) -> None:
        self._waits = False
        try:
            self._with_lease(claim)
        except LeaseLostError as lost:
            self.callback.note(str(lost))
        if claim.taken_over:
            # A former owner may have left a second Optuna trial with the same key.
            sync.reconcile(self.study)

    def _with_lease(self, claim: Claim) -> None:
        """Work on one trial while a thread keeps its lease."""
        began = time.monotonic()
        heartbeat = LeaseHeartbeat(
            lambda: self._store.renew(claim, self._seconds(claim, began)), every=self._store.renewal
        )
        # The thread runs before the plan is drawn: a sampler may need longer than a lease lasts.
        with heartbeat.running():
            try:
                planned = self._planned(claim)
            except TrialError as refused:
                result = Result("infeasible", reason=one_line(refused))
                self._finish(claim, result, self._seconds(claim, began))
                return
            if isinstance(planned, Mishap):
                self._finish(claim, failed(planned), self._seconds(claim, began))
                return

            plan, duplicate = planned
            if duplicate is not None:
                self._repeat(claim, duplicate, self._seconds(claim, began))
                return
            if claim.takeovers >= MOST_TAKEOVERS:
                result = Result("failed", reason=_fatal(claim))
                self._finish(claim, result, self._seconds(claim, began))
                return
            self._with_trial_folder(claim, plan, heartbeat)

    def _with_trial_folder(self, claim: Claim, plan: TrialPlan, heartbeat: LeaseHeartbeat) -> None:
        """Train and measure in a folder of this owner's own, and record what came of it."""
        try:
            self._import_for(claim, plan)
            trial_folder = self._open_trial_folder(claim)
        except (ArtifactError, OverdueError) as problem:
            self._finish(claim, Result("failed", reason=one_line(problem)), claim.seconds)
            return

        watchdog = self._watchdog(claim)
        reporter = TrialReporter(
            self._store,
            claim,
            trial_folder,
            self._scheduler,
            self.callback,
            stop=lambda: self.stop.requested() or heartbeat.lost or watchdog.overdue(),
            alive=watchdog.alive,
        )
        try:
            result = self._with_watchdog(claim, plan, reporter, trial_folder, watchdog)
        except StoreUnreachableError:
            raise
        except StoreError:
            # The artifact location does not take the files: another worker may have more luck.
            self._store.release(claim, reporter.seconds())
            raise

        # First of all: who has lost the lease has no say any more, whatever else happened.
        if heartbeat.lost:
            raise LeaseLostError(
                f"Another worker has taken trial {claim.number} over.", "It goes on there."
            )
        if result is not None:
            self._finish(claim, result, reporter.seconds(), trial_folder)
            return
        if reporter.silent is not None:
            # Nothing can be released in a silent database: the lease runs out by itself.
            raise reporter.silent
        self._store.release(claim, reporter.seconds())

    def _open_trial_folder(self, claim: Claim) -> TrialFolder:
        # Watched, as an artifact location that is far away may never answer.
        with self._watchdog(claim).watching():
            return TrialFolder.open(
                self.study.folder,
                self.study.record.folder,
                claim.number,
                claim.fence,
                self.study.artifacts,
                claim.kept,
            )

    def _with_watchdog(
        self,
        claim: Claim,
        plan: TrialPlan,
        reporter: TrialReporter,
        trial_folder: TrialFolder,
        watchdog: Watchdog,
    ) -> Result | None:
        """Return what is to be recorded, or nothing where the trial stops half-way and is kept for
        later.
        """
        self.callback.started(claim.number, plan.params, resumed=claim.taken_over)
        found: Result | Mishap
        try:
            # `OverdueError` may come at any moment inside of `watching`: it is caught outside.
            with watchdog.watching():
                found = contained(
                    lambda: self._check_and_train(claim, plan, reporter, trial_folder),
                    through=(OverdueError,),
                    words=failure_words,
                )
        except OverdueError as overdue:
            found = Mishap(OverdueError, text_of(overdue), detail_of(overdue))
        except KeyboardInterrupt:  # a technique had put Python's own handler in the place of ours
            self.stop.signal_number = signal.SIGINT
            return None
        finally:
            self._put_process_back(claim)
        if isinstance(found, Mishap):
            return self._explained(found, reporter, watchdog)
        return found

    def _explained(
        self, mishap: Mishap, reporter: TrialReporter, watchdog: Watchdog
    ) -> Result | None:
        """Return why a trial fails, or nothing where it is to go on later."""
        _free_memory()
        # What the reporter knows comes first: layers in between, and techniques, may have made
        # another exception of what was raised.
        if isinstance(reporter.problem, ArtifactError):
            return Result("failed", reason=one_line(reporter.problem))
        if reporter.problem is not None:
            raise reporter.problem
        if reporter.told_to_stop and (self.stop.requested() or reporter.silent is not None):
            return None
        return failed(mishap, watchdog.reason)

    def _check_and_train(
        self, claim: Claim, plan: TrialPlan, reporter: TrialReporter, trial_folder: TrialFolder
    ) -> Result:
        """Check a plan at the gate, train it, and keep its files."""
        folder = trial_folder.folder
        observer = CurveObserver(reporter, self.study.setting.steps)
        verdict = self._gate.check(plan, folder, observer)
        # A trial that has begun passed before: memory that is short now is no reason to lose it.
        begun = claim.stage is not None
        if verdict.reason is not None and not begun:
            return Result(
                "infeasible",
                costs=verdict.costs,
                reason=verdict.reason,
                violations=verdict.violations,
            )

        # What a former attempt could not write, before this one adds to it.
        reporter.send_pending()
        fits = functools.partial(self._gate.still_fits, plan, folder)
        setting = replace(self.study.setting, fits=fits)
        try:
            outcome = self.run(plan, setting, reporter, folder)
        except InfeasibleError as error:
            return Result("infeasible", reason=one_line(error), violations=error.violations)
        check_finite(outcome.values)
        with reporter.reporting():
            return self._keep_files(claim, outcome, dict(verdict.costs), reporter.stopped)

    def _keep_files(
        self, claim: Claim, outcome: Outcome, costs: dict[str, float], stopped: str | None
    ) -> Result:
        """Keep the files, and hold the measured values against the constraints: the exported file
        has the last word.
        """
        place = [self.study.record.folder, f"{claim.number:05d}"]
        if claim.fence > 1:
            # A place of each owner's own: one that lost its lease overwrites nothing.
            place.append(f"attempt-{claim.fence}")
        # Files first, the row that names them afterwards: a crash in between leaves files that no
        # row names, which `automl-sr gc` finds.
        files = []
        for kind, path in outcome.artifacts.items():
            files.append(self.study.artifacts.put(path, kind, *place, path.name))

        reasons = []
        for reason in (broken(self.study.spec.constraints, outcome.values), stopped):
            if reason:
                reasons.append(reason)
        return Result(
            outcome.state,
            values=outcome.values,
            costs=costs,
            reason="; ".join(reasons) or None,
            stage_seconds=outcome.seconds,
            shared=outcome.shared,
            artifacts=tuple(files),
            detail="\n".join(outcome.notes),
        )

    # The plan of a trial

    def _planned(self, claim: Claim) -> tuple[TrialPlan, DuplicateOf | None] | Mishap:
        """Return a plan as `_plan` does, or what came up when techniques were asked for it."""
        try:
            return contained(lambda: self._plan(claim), through=(AutomlSRError,))
        finally:
            self._put_process_back(claim)

    def _plan(self, claim: Claim) -> tuple[TrialPlan, DuplicateOf | None]:
        """Draw a plan, once, freeze it, and let Optuna know; gives it and an equal earlier trial.

        Raises TrialError where a technique refuses what was drawn.
        """
        self._trial = None
        if claim.plan is not None and claim.asked is not None:
            plan = TrialPlan.from_json(claim.plan, self.study.registry)
            duplicate = self._store.freeze(claim, None, plan.fingerprint, None)
            self._trial = sync.project(self.study, claim, claim.asked)
            return plan, duplicate

        asked, drawn = self._store.retry(lambda: self._draw(claim))
        # Frozen before Optuna is told: a trial has its row before Optuna knows it, and a worker
        # that dies in between leaves a plan that the next owner tells.
        if isinstance(drawn, TrialError):
            self._store.freeze(claim, None, None, asked)
            self._trial = sync.project(self.study, claim, asked)
            raise drawn
        duplicate = self._store.freeze(claim, drawn.to_json(), drawn.fingerprint, asked)
        self._trial = sync.project(self.study, claim, asked)
        return drawn, duplicate

    def _draw(self, claim: Claim) -> tuple[dict[str, Any], TrialPlan | TrialError]:
        """Let the sampler draw, and make a plan of it."""
        fixed: Mapping[str, Any] = {}
        if claim.asked is not None:
            fixed = claim.asked["params"]  # what a former owner drew for a refused plan
        elif claim.number == 0:
            fixed = self.study.space.default_params()  # the baseline
        with explained(self._store.url):
            proposal = Proposal(self.study.optuna, claim.number, fixed)
            try:
                plan: TrialPlan | TrialError = self.study.space.suggest(proposal)
            except TrialError as refused:
                plan = refused
        return proposal.asked(), plan

    def _repeat(self, claim: Claim, duplicate: DuplicateOf, seconds: float) -> None:
        """Copy what an equal trial gave, or let the trial wait until that one has ended."""
        if duplicate.state == "running":
            self._store.release(claim, seconds, waiting_for=duplicate.number)
            self.callback.note(
                f"trial {claim.number} repeats trial {duplicate.number}, which is running: it waits"
                " for it"
            )
            return
        result = Result(
            "duplicate",
            duplicate.values,
            reason=f"the same plan as trial {duplicate.number}",
            duplicate_of=duplicate.number,
        )
        self._finish(claim, result, seconds)

    # What surrounds a trial

    @staticmethod
    def _seconds(claim: Claim, began: float) -> float:
        """Return the seconds of a trial, those of former attempts included."""
        return claim.seconds + time.monotonic() - began

    def _watchdog(self, claim: Claim) -> Watchdog:
        budget = self.study.spec.budget
        limit = None
        if budget.trial_minutes is not None:
            limit = 60 * budget.trial_minutes - claim.seconds
        return Watchdog(
            limit,
            60 * budget.stall_minutes,
            self._recorder(claim),
            minutes=budget.trial_minutes,
            name=f"trial {claim.number}",
        )

    def _recorder(self, claim: Claim) -> Callable[[str], None]:
        """Return what records a trial as failed from another thread, because it hangs."""
        began = time.monotonic()

        def record(reason: str) -> None:
            result = Result("failed", reason=reason)
            self._store.finish(claim, result, self._seconds(claim, began))

        return record

    def _import_for(self, claim: Claim, plan: TrialPlan) -> None:
        """Import what the trial needs, in time of its own. Raises OverdueError."""
        metrics = []
        for name in self.study.setting.metrics:
            metrics.append(self.study.registry.metric(name))
        late: Sequence[str] = ()
        if self.run is run_trial:
            late = LATE
        watchdog = Watchdog(
            None, IMPORT_SECONDS, self._recorder(claim), name=f"trial {claim.number}"
        )
        with watchdog.watching():
            import_for(plan, metrics, late)
        # What an import may change for the process is as it should be from now on.
        self._process.restore_after_import()

    def _put_process_back(self, claim: Claim) -> None:
        """Undo what techniques have changed for the whole process, and say so once."""
        changed = set(self._process.restore()) - self._put_back
        if not changed:
            return
        self._put_back |= changed
        self.callback.note(
            f"trial {claim.number} changed {', '.join(sorted(changed))} for all: it was put back"
        )

    # The end of a trial

    def _finish(
        self, claim: Claim, result: Result, seconds: float, trial_folder: TrialFolder | None = None
    ) -> None:
        """Write the authoritative row, then tell Optuna, and see whether going on makes sense."""
        if trial_folder is not None and result.state == "failed":
            # A full disk may be why it failed, and the database may lie on the same one.
            trial_folder.discard()
        # The row first, as it is fenced: a worker that has lost the trial gets no further, and
        # what it leaves untold Optuna learns from `reconcile`.
        self._store.finish(claim, result, seconds)
        if self._trial is not None:
            sync.tell(self.study, self._trial, claim.number, result)
        # Last of all: until the row is written, the next owner needs the checkpoints.
        if trial_folder is not None:
            trial_folder.close()
        else:
            of_former_owners = self.study.folder / f"{claim.number:05d}"
            shutil.rmtree(of_former_owners, ignore_errors=True)
        self.callback.finished(claim.number, result, seconds)
        self._see_whether_to_go_on(result)

    def _see_whether_to_go_on(self, result: Result) -> None:
        """Set the error with which the search ends, if this result is one too many of its kind."""
        free = result.state in ("infeasible", "duplicate")
        if free:
            self._free += 1
        else:
            self._free = 0
            self.error = self._failures.after(result) or self.error
        if self._free >= MOST_FREE:
            self.error = self._nothing_new(result)

    def _nothing_new(self, result: Result) -> AutomlSRError:
        if result.state == "duplicate":
            hint = "Everything in this space has been tried, or nearly so: widen the space."
        else:
            hint = f"Relax the constraints or narrow the space; the last one: {result.reason}."
        return ExhaustedError(
            f"{MOST_FREE} plans in a row were infeasible or had been tried before, so the study"
            " ends.",
            hint,
        )


class ExhaustedError(AutomlSRError):
    """Nothing new can be proposed; what was found is the result."""


def _fatal(claim: Claim) -> str:
    where = ""
    if claim.stage:
        where = f" (stage {claim.stage})"
    return (
        f"its worker died {claim.takeovers} times at the same place{where}: perhaps it needs more"
        " memory than there is"
    )


def _free_memory() -> None:
    """Free memory after a failure, so that the next trial starts as the first one did."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
