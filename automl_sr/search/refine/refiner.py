"""`refine` from beginning to end: ask for refinements, make those that nobody else makes, give what came of them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from automl_sr.errors import AutomlSRError, StopRequestedError, StoreError, StoreUnreachableError, TrialError
from automl_sr.search.decide.gate import broken
from automl_sr.search.refine.callbacks import RefineCallback, RefineReporter
from automl_sr.search.refine.choice import CHECKPOINT, Request, chosen, no_checkpoint, steps_of, summary
from automl_sr.search.refine.run import Job, missing_test_sets, run_refinement
from automl_sr.search.study import join_study
from automl_sr.search.workers.reporter import check_finite
from automl_sr.search.workers.stop_signal import Stop
from automl_sr.search.workers.trial_folder import TrialFolder
from automl_sr.search.workers.watchdog import OverdueError, Watchdog
from automl_sr.search.workers.worker import one_line
from automl_sr.space.plan import TrialPlan
from automl_sr.store import refinements as stored
from automl_sr.store.artifacts import ArtifactError, FileLost, fetch
from automl_sr.store.leases import LeaseHeartbeat, LeaseLostError, new_owner
from automl_sr.store.reading import Reader
from automl_sr.store.refinements import RefinementClaim, RefinementResult
from automl_sr.study.spec import StudySpec

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.search.open_study import OpenStudy, Options
    from automl_sr.search.refine.run import Refined
    from automl_sr.store.records import TrialRecord
    from automl_sr.trial.observer import TrialObserver
    from automl_sr.trial.types import Setting

    RunRefinement = Callable[[TrialPlan, Setting, Job, TrialObserver, Path], Refined]

WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class RefineEnd:
    """How it ended: the JSON of `refine`, the metrics of the study, and the error with which the command ends."""

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
    callback: RefineCallback | None = None,
) -> RefineEnd:
    """Refine trials of a study that is in the store; the same call goes on where one was stopped.

    `run` replaces training and measuring in tests. Raises UseError, DataError, StoreError before anything runs; what
    happened to refinements that began stands in `RefineEnd`.
    """
    reader = Reader.open(options.store)  # a mistyped place makes no new store
    record = reader.study(name)
    StudySpec.from_json(record.spec, registry)  # says which plugin is missing
    trials = chosen(reader, record, asked, registry.metrics)
    reader.close()
    following = callback or RefineCallback()
    study = join_study(name, registry, options)
    try:
        seeds = range(asked.seeds)
        ids = stored.request(study.store, record, [trial.id for trial in trials], steps_of(record, asked), seeds)
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


def _end(study: OpenStudy, refiner: Refiner, stop: Stop) -> RefineEnd:
    found = summary(study.store, study.record, refiner.ids)
    states = [row["state"] for row in found["refinements"]]
    error = refiner.error
    if stop.signal_number is not None:
        error = StopRequestedError("Stopped; everything done so far is kept.", signal_number=stop.signal_number)
    elif error is None and set(states) == {"failed"}:
        error = AutomlSRError(
            f"No refinement was completed: {found['refinements'][0]['reason']}",
            f"Where it happened is shown by `automl-sr show {study.spec.name} NUMBER`.",
        )
    place = f"{study.artifacts.url}/{study.record.folder}"
    return RefineEnd(found, study.spec.metrics(), place, error)


class Refiner:
    """Makes the refinements with these ids, one after the other, but for those that others make."""

    def __init__(
        self, study: OpenStudy, ids: Sequence[int], run: RunRefinement, callback: RefineCallback, stop: Stop
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

    def work(self) -> None:
        """Work until all have ended, waiting for those of other processes, which may leave theirs behind."""
        try:
            while not self._stop.requested():
                claim = self._store.retry(lambda: stored.claim(self._store, self._study.record, self._owner, self.ids))
                if claim is not None:
                    self._try(claim)
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

    def _try(self, claim: RefinementClaim) -> None:
        """Make one refinement while a thread keeps its lease."""
        self._waits = False
        began = time.monotonic()

        def seconds() -> float:
            return claim.seconds + time.monotonic() - began

        def record(reason: str) -> None:
            stored.finish(self._store, claim, RefinementResult("failed", reason=reason), seconds())

        heartbeat = LeaseHeartbeat(lambda: stored.renew(self._store, claim, seconds()), every=self._store.renewal)
        stall = 60 * self._study.spec.budget.stall_minutes
        watchdog = Watchdog(None, stall, record, name=f"the refinement of {claim.title}")
        with heartbeat.running():
            try:
                self._make(claim, heartbeat, watchdog, seconds)
            except LeaseLostError as other:
                self._callback.note(str(other))

    def _make(
        self, claim: RefinementClaim, heartbeat: LeaseHeartbeat, watchdog: Watchdog, seconds: Callable[[], float]
    ) -> None:
        """Train and measure in a folder of this owner's own, and write down what came of it. Raises LeaseLostError."""
        reporter = RefineReporter(
            claim,
            self._callback,
            stop=lambda: self._stop.requested() or heartbeat.lost or watchdog.overdue(),
            alive=watchdog.alive,
        )
        self._callback.started(claim)
        trial_folder = self._open_folder(claim)
        result = (
            self._result(claim, trial_folder, reporter, watchdog)
            if isinstance(trial_folder, TrialFolder)
            else RefinementResult("failed", reason=one_line(trial_folder))
        )
        if heartbeat.lost:
            raise stored.lost(claim)
        if result is None:
            stored.release(self._store, claim, seconds())
            return
        spent = seconds()
        if isinstance(trial_folder, TrialFolder) and result.state == "failed":
            trial_folder.discard()  # a full disk may be why it failed, and the database may lie on the same one
        stored.finish(self._store, claim, result, spent)
        if isinstance(trial_folder, TrialFolder):
            trial_folder.close()
        self._callback.finished(claim, result, spent)

    def _open_folder(self, claim: RefinementClaim) -> TrialFolder | ArtifactError:
        """Open a folder of this owner's own, with what the former one left there."""
        names = (stored.WORK, f"{claim.steps}-{claim.seed}")
        place = "/".join([self._study.record.folder, *names])
        try:
            return TrialFolder.open(
                self._study.folder.joinpath(*names), place, claim.number, claim.fence, self._study.artifacts, None
            )
        except ArtifactError as full:
            return full

    def _result(
        self, claim: RefinementClaim, trial_folder: TrialFolder, reporter: TrialObserver, watchdog: Watchdog
    ) -> RefinementResult | None:
        """Give what is to be recorded, or nothing where it stops half-way and is kept for later."""
        try:
            with watchdog.watching():
                return self._refined(claim, trial_folder, reporter)
        except StopRequestedError as stopped:
            if self._stop.requested():
                return None
            if watchdog.overdue():
                return RefinementResult("failed", reason=watchdog.reason)
            raise stored.lost(claim) from stopped
        except OverdueError as overdue:
            return RefinementResult("failed", reason=str(overdue), detail=traceback.format_exc())
        except (ArtifactError, FileLost) as error:
            return RefinementResult("failed", reason=one_line(error))
        except (LeaseLostError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - a technique may fail in any way: the other refinements go on
            reason = watchdog.reason or one_line(error)
            return RefinementResult("failed", reason=reason, detail=traceback.format_exc())

    def _refined(self, claim: RefinementClaim, trial_folder: TrialFolder, reporter: TrialObserver) -> RefinementResult:
        """Go on from the trial's checkpoint, and keep the files beside the trial's, in a folder of their own."""
        study = self._study
        trial = study.store.trial(study.record, claim.number)
        if trial.plan is None:
            raise TrialError("The trial has no plan.")
        plan = TrialPlan.from_json(trial.plan, study.registry)
        job = Job(claim.steps, claim.seed, fetch_base(trial, trial_folder.folder / "base"))
        refined = self._run(plan, study.setting, job, reporter, trial_folder.folder)
        check_finite(refined.values)
        name = [study.record.folder, f"{claim.number:05d}", stored.folder_name(claim.steps, claim.seed)]
        name += [f"attempt-{claim.fence}"] * (claim.fence > 1)
        files = tuple(study.artifacts.put(path, kind, *name, path.name) for kind, path in refined.artifacts.items())
        said = [broken(study.spec.constraints, refined.values), *refined.untested]
        return RefinementResult(
            "complete",
            values=refined.values,
            tests=refined.tests,
            artifacts=files,
            reason="; ".join(text for text in said if text) or None,
            detail="\n".join(refined.notes),
        )


def fetch_base(trial: TrialRecord, folder: Path) -> Path:
    """Bring a trial's last checkpoint with its constants to a folder. Raises TrialError, FileLost, StoreError."""
    if CHECKPOINT not in trial.artifacts:
        said, hint = no_checkpoint(trial)
        raise TrialError(f"The trial {said}.", hint)
    for kind, file in trial.artifacts.items():
        if kind == CHECKPOINT or kind.startswith(f"{CHECKPOINT}-"):
            target = folder / PurePosixPath(file.url).name
            if not target.exists():  # whole, as it was renamed from a partial one
                fetch(file, target)
    return folder
