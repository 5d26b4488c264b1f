"""`refine` from beginning to end: ask for refinements, make those that nobody else makes, give what
came of them.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from automl_sr.errors import (
    AutomlSRError,
    Offer,
    StopRequestedError,
    StoreUnreachableError,
    TrialError,
)
from automl_sr.plugin.foreign import Mishap, contained, detail_of, one_line, text_of
from automl_sr.plugin.process_state import ProcessState
from automl_sr.search.refine.callbacks import RefineCallback, RefineReporter
from automl_sr.search.refine.choice import (
    CHECKPOINT,
    Request,
    chosen,
    no_checkpoint,
    steps_begun,
    steps_in,
    steps_of,
    summary,
)
from automl_sr.search.refine.pace import steps_per_second
from automl_sr.search.refine.run import Job, missing_test_sets, run_refinement
from automl_sr.search.study import join_study
from automl_sr.search.workers.failures import detail_to_keep, failure_words
from automl_sr.search.workers.reporter import check_finite
from automl_sr.search.workers.stop_signal import Stop
from automl_sr.search.workers.trial_folder import TrialFolder
from automl_sr.search.workers.watchdog import IMPORT_SECONDS, OverdueError, Watchdog
from automl_sr.space.plan import TrialPlan
from automl_sr.store import refinements as stored
from automl_sr.store.artifacts import ArtifactError, FileLost, fetch
from automl_sr.store.leases import LeaseHeartbeat, LeaseLostError, new_owner
from automl_sr.store.reading import Reader
from automl_sr.store.refinements import RefinementClaim, RefinementResult
from automl_sr.study.limits import broken
from automl_sr.study.spec import StudySpec
from automl_sr.trial.imports import LATE, import_for

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.search.open_study import OpenStudy, Options
    from automl_sr.search.refine.run import Refined
    from automl_sr.store.records import TrialRecord
    from automl_sr.trial.observer import TrialObserver
    from automl_sr.trial.types import Setting

    RunRefinement = Callable[[TrialPlan, Setting, Job, TrialObserver, Path], Refined]
    MeasurePace = Callable[[TrialPlan, Setting, Path, Path], float]

WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class RefineEnd:
    """How it ended: the JSON of `refine`, the metrics of the study, and the error with which the
    command ends.
    """

    summary: dict[str, Any]
    metrics: tuple[str, ...]
    artifacts: str
    error: AutomlSRError | None = None


def refine(
    name: str,
    registry: Registry,
    options: Options,
    asked: Request,
    *,
    run: RunRefinement = run_refinement,
    measure_pace: MeasurePace = steps_per_second,
    callback: RefineCallback | None = None,
) -> RefineEnd:
    """Refine trials of a study that is in the store; the same call goes on where one was stopped.

    `run` and `measure_pace` replace training and measuring in tests. Raises UseError, DataError,
    StoreError, TrialError before anything runs; what happened to refinements that began stands in
    `RefineEnd`.
    """
    reader = Reader.open(options.store)  # a mistyped place makes no new store
    record = reader.study(name)
    StudySpec.from_json(record.spec, registry)  # says which plugin is missing
    trials = chosen(reader, record, asked, registry.metrics)
    reader.close()
    following = callback or RefineCallback()
    study = join_study(name, registry, options)
    try:
        lengths = dict.fromkeys([trial.id for trial in trials], steps_of(record, asked))
        if asked.minutes is not None:
            lengths = _lengths(study, trials, asked, measure_pace)
        ids = stored.request(study.store, record, lengths, range(asked.seeds))
        stop = Stop(None, following.note)
        refiner = Refiner(study, ids, run, following, stop)
        following.opened(study, len(ids))
        for text in missing_test_sets(study.setting.task):
            following.note(f"warning: {text}")
        with stop.listening():
            refiner.work()
        return _end(study, refiner, stop)
    finally:
        study.store.close()


def _lengths(
    study: OpenStudy,
    trials: Sequence[TrialRecord],
    asked: Request,
    measure_pace: MeasurePace,
) -> dict[int, int]:
    """Return by trial's id the steps that fit into its share of the minutes that are asked.

    What was begun goes on with the steps that it has. Raises TrialError.
    """
    seconds = 60 * (asked.minutes or 0) / (len(trials) * asked.seeds)
    begun = steps_begun(study.store, study.record)
    lengths = {}
    for trial in trials:
        if trial.id in begun:
            lengths[trial.id] = begun[trial.id]
        else:
            pace = _pace(study, trial, measure_pace)
            lengths[trial.id] = steps_in(seconds, pace)
    return lengths


def _pace(study: OpenStudy, trial: TrialRecord, measure_pace: MeasurePace) -> float:
    """Return a trial's steps per second. Raises TrialError."""
    plan = TrialPlan.from_json(trial.plan or {}, study.registry)
    with tempfile.TemporaryDirectory(prefix="automl-sr-pace-") as scratch:
        base = fetch_base(trial, Path(scratch) / "base")
        found = contained(
            lambda: measure_pace(plan, study.setting, base, Path(scratch) / "work"),
            words=failure_words,
        )
    if isinstance(found, Mishap):
        raise TrialError(f"Trial {trial.number} cannot be trained on: {found.reason}")
    return found


def _end(study: OpenStudy, refiner: Refiner, stop: Stop) -> RefineEnd:
    found = summary(study.store, study.record, refiner.ids)
    states = set()
    for row in found["refinements"]:
        states.add(row["state"])

    error = refiner.error
    if stop.signal_number is not None:
        error = StopRequestedError(
            "Stopped; everything done so far is kept.", signal_number=stop.signal_number
        )
    elif error is None and states == {"failed"}:
        first = found["refinements"][0]
        command = f"show {study.spec.name} NUMBER"
        error = AutomlSRError(
            f"No refinement was completed: {first['reason']}",
            offer=Offer("Where it happened is shown by", command, quoted=True),
        )
    place = f"{study.artifacts.url}/{study.record.folder}"
    return RefineEnd(found, study.spec.metrics(), place, error)


class Refiner:
    """Makes the refinements with these ids, one after the other, but for those that others make."""

    def __init__(
        self,
        study: OpenStudy,
        ids: Sequence[int],
        run: RunRefinement,
        callback: RefineCallback,
        stop: Stop,
    ) -> None:
        self.ids = list(ids)
        self.error: AutomlSRError | None = None
        """Why it cannot go on, if so."""
        self._study = study
        self._store = study.store
        self._run = run
        self._callback = callback
        self._stop = stop
        self._owner = new_owner()
        self._waits = False
        self._process = ProcessState()

    def work(self) -> None:
        """Work until all have ended, waiting for those of other processes, which may leave theirs
        behind.
        """
        self._process = ProcessState()
        try:
            while not self._stop.requested():
                claim = self._store.retry(
                    lambda: stored.claim(self._store, self._study.record, self._owner, self.ids)
                )
                if claim is not None:
                    self._with_lease(claim)
                elif not self._wait():
                    break
        except StoreUnreachableError as silent:
            self.error = silent

    def _wait(self) -> bool:
        """Wait a moment while others work; False where all have ended."""
        others = self._store.retry(lambda: stored.unfinished(self._store, self.ids))
        if others and not self._waits:
            self._callback.note(f"waiting for refinements of other processes: {others}")
        self._waits = bool(others)
        if others:
            self._stop.wait(WAIT_SECONDS)
        return bool(others)

    # One refinement, from the outside to the inside: its lease, its folder, its watchdog

    def _with_lease(self, claim: RefinementClaim) -> None:
        """Make one refinement while a thread keeps its lease."""
        self._waits = False
        began = time.monotonic()

        def seconds() -> float:
            return claim.seconds + time.monotonic() - began

        heartbeat = LeaseHeartbeat(
            lambda: stored.renew(self._store, claim, seconds()), every=self._store.renewal
        )
        stall = 60 * self._study.spec.budget.stall_minutes
        watchdog = Watchdog(
            None, stall, self._recorder(claim), name=f"the refinement of {claim.title}"
        )
        with heartbeat.running():
            try:
                self._with_trial_folder(claim, heartbeat, watchdog, seconds)
            except LeaseLostError as other:
                self._callback.note(str(other))

    def _recorder(self, claim: RefinementClaim) -> Callable[[str], None]:
        """Return what records a refinement as failed from another thread, because it hangs."""
        began = time.monotonic()

        def record(reason: str) -> None:
            seconds = claim.seconds + time.monotonic() - began
            stored.finish(self._store, claim, RefinementResult("failed", reason=reason), seconds)

        return record

    def _with_trial_folder(
        self,
        claim: RefinementClaim,
        heartbeat: LeaseHeartbeat,
        watchdog: Watchdog,
        seconds: Callable[[], float],
    ) -> None:
        """Train and measure in a folder of this owner's own, and write down what came of it.

        Raises LeaseLostError.
        """
        reporter = RefineReporter(
            claim,
            self._callback,
            stop=lambda: self._stop.requested() or heartbeat.lost or watchdog.overdue(),
            alive=watchdog.alive,
        )
        self._callback.started(claim)
        trial_folder = self._open_folder(claim)
        result: RefinementResult | None
        if isinstance(trial_folder, TrialFolder):
            result = self._with_watchdog(claim, trial_folder, reporter, watchdog)
        else:
            result = RefinementResult("failed", reason=one_line(trial_folder))

        # First of all: who has lost the lease has no say any more, whatever else happened.
        if heartbeat.lost:
            raise stored.lost(claim)
        if result is None:
            stored.release(self._store, claim, seconds())
            return

        spent = seconds()
        if isinstance(trial_folder, TrialFolder) and result.state == "failed":
            # A full disk may be why it failed, and the database may lie on the same one.
            trial_folder.discard()
        stored.finish(self._store, claim, result, spent)
        # Last of all: until the row is written, the next owner needs the checkpoints.
        if isinstance(trial_folder, TrialFolder):
            trial_folder.close()
        self._callback.finished(claim, result, spent)

    def _open_folder(self, claim: RefinementClaim) -> TrialFolder | ArtifactError:
        """Open a folder of this owner's own, with what the former one left there."""
        names = (stored.WORK, f"{claim.steps}-{claim.seed}")
        place = "/".join([self._study.record.folder, *names])
        try:
            return TrialFolder.open(
                self._study.folder.joinpath(*names),
                place,
                claim.number,
                claim.fence,
                self._study.artifacts,
                None,
            )
        except ArtifactError as full:
            return full

    def _with_watchdog(
        self,
        claim: RefinementClaim,
        trial_folder: TrialFolder,
        reporter: RefineReporter,
        watchdog: Watchdog,
    ) -> RefinementResult | None:
        """Return what is to be recorded, or nothing where it stops half-way and is kept for
        later.
        """
        found: RefinementResult | Mishap
        try:
            self._import_for(claim)
            # `OverdueError` may come at any moment inside of `watching`: it is caught outside.
            with watchdog.watching():
                found = contained(
                    lambda: self._refine_and_keep(claim, trial_folder, reporter),
                    through=(OverdueError,),
                    words=failure_words,
                )
        except OverdueError as overdue:
            found = Mishap(OverdueError, text_of(overdue), detail_of(overdue))
        except KeyboardInterrupt:  # a technique had put Python's own handler in the place of ours
            self._stop.signal_number = signal.SIGINT
            return None
        finally:
            self._put_process_back(claim)
        if isinstance(found, Mishap):
            return self._explained(found, reporter, watchdog)
        return found

    def _explained(
        self, mishap: Mishap, reporter: RefineReporter, watchdog: Watchdog
    ) -> RefinementResult | None:
        """Return why a refinement fails, or nothing where it is to go on later."""
        # What the reporter knows comes first: layers in between may have made another exception
        # of what was raised.
        if isinstance(reporter.problem, ArtifactError | FileLost):
            return RefinementResult("failed", reason=one_line(reporter.problem))
        if reporter.problem is not None:
            raise reporter.problem
        if reporter.told_to_stop and self._stop.requested():
            return None
        reason = watchdog.reason or mishap.reason
        return RefinementResult("failed", reason=reason, detail=detail_to_keep(mishap))

    def _import_for(self, claim: RefinementClaim) -> None:
        """Import what the refinement needs, in time of its own. Raises OverdueError, StoreError."""
        trial = self._store.trial(self._study.record, claim.number)
        late: Sequence[str] = ()
        if self._run is run_refinement:
            late = LATE

        def work() -> None:
            plan = TrialPlan.from_json(trial.plan or {}, self._study.registry)
            import_for(plan, (), late)

        watchdog = Watchdog(None, IMPORT_SECONDS, self._recorder(claim), name=claim.title)
        with watchdog.watching():
            contained(work, through=(OverdueError,))
        # What an import may change for the process is as it should be from now on.
        self._process.restore_after_import()

    def _put_process_back(self, claim: RefinementClaim) -> None:
        """Undo what techniques have changed for the whole process, and say so."""
        changed = self._process.restore()
        if changed:
            self._callback.note(
                f"{claim.title} changed {', '.join(sorted(changed))} for all: it was put back"
            )

    def _refine_and_keep(
        self, claim: RefinementClaim, trial_folder: TrialFolder, reporter: RefineReporter
    ) -> RefinementResult:
        """Go on from the trial's checkpoint, and keep the files beside the trial's, in a folder of
        their own.
        """
        study = self._study
        with reporter.reporting():
            trial = study.store.trial(study.record, claim.number)
            if trial.plan is None:
                raise TrialError("The trial has no plan.")
            base = fetch_base(trial, trial_folder.folder / "base")
        plan = TrialPlan.from_json(trial.plan, study.registry)
        job = Job(claim.steps, claim.seed, base)
        refined = self._run(plan, study.setting, job, reporter, trial_folder.folder)
        check_finite(refined.values)

        place = [
            study.record.folder,
            f"{claim.number:05d}",
            stored.folder_name(claim.steps, claim.seed),
        ]
        if claim.fence > 1:
            # A place of each owner's own: one that lost its lease overwrites nothing.
            place.append(f"attempt-{claim.fence}")
        files = []
        with reporter.reporting():
            for kind, path in refined.artifacts.items():
                files.append(study.artifacts.put(path, kind, *place, path.name))

        reasons = []
        for reason in (broken(study.spec.constraints, refined.values), *refined.untested):
            if reason:
                reasons.append(reason)
        return RefinementResult(
            "complete",
            values=refined.values,
            tests=refined.tests,
            artifacts=tuple(files),
            reason="; ".join(reasons) or None,
            detail="\n".join(refined.notes),
        )


def fetch_base(trial: TrialRecord, folder: Path) -> Path:
    """Bring a trial's last checkpoint with its constants to a folder.

    Raises TrialError, FileLost, StoreError.
    """
    if CHECKPOINT not in trial.artifacts:
        said, hint = no_checkpoint(trial)
        raise TrialError(f"The trial {said}.", hint)
    for kind, file in trial.artifacts.items():
        if kind == CHECKPOINT or kind.startswith(f"{CHECKPOINT}-"):
            target = folder / PurePosixPath(file.url).name
            if not target.exists():  # whole, as it was renamed from a partial one
                fetch(file, target)
    return folder
