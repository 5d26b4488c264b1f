"""One trial, from plan to measured artefact, in the order in which it happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from automl_sr.plugin.technique import Slot
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import finish_branch, save, start_or_resume, train
from automl_sr.trial.layers_file import with_layers
from automl_sr.trial.measure import measure
from automl_sr.trial.observer import CurveObserver, StageClock
from automl_sr.trial.setup import make_context, make_setup, training_data
from automl_sr.trial.ship import artifacts_of, ship
from automl_sr.trial.types import Outcome

if TYPE_CHECKING:
    from automl_sr.space.plan import TrialPlan
    from automl_sr.trial.observer import TrialObserver
    from automl_sr.trial.types import Setting


def run_trial(
    plan: TrialPlan,
    setting: Setting,
    observer: TrialObserver,
    folder: Path,
) -> Outcome:
    """Train, compress, export and measure one plan; what a resume needs is kept in `folder`.

    Raises StopRequestedError (after a checkpoint) when the observer asks to stop, TrialError and
    its like when the trial fails.
    """
    with StageClock(observer, folder / "seconds.json") as clock:
        return _run(plan, setting, observer, folder, clock)


def _run(
    plan: TrialPlan,
    setting: Setting,
    observer: TrialObserver,
    folder: Path,
    clock: StageClock,
) -> Outcome:
    curve = CurveObserver(observer, setting.steps)
    context = make_context(plan, setting, folder, curve)
    pipeline = list(plan.techniques.values())
    architecture = plan.techniques[Slot.ARCHITECTURE]
    blueprint = architecture.blueprint(setting.task, context.for_technique(architecture))

    clock.stage("select")
    data = training_data(plan, setting)
    for technique in pipeline:
        data = technique.select_data(data, context.for_technique(technique, data.fingerprint))
    # From here on what is shared depends on the data that were selected.
    context = replace(context, data_fingerprint=data.fingerprint)
    setup = make_setup(plan, setting, context, data)

    clock.stage("train")
    checkpoints = Checkpoints(folder / "trunk")
    trunk = start_or_resume(setup, blueprint, checkpoints)
    timetable = setup.timetable
    branches = timetable.branches(setting.rungs, setting.reduction, setting.first_rung)
    for index, point in enumerate(branches):
        if point.step < trunk.step:
            continue  # decided before this trial was interrupted
        clock.stage("train")
        train(trunk, point.step, curve, checkpoints)
        # A rung at the end of a phase measures what the phase has made of the model.
        if trunk.span is not None and point.step == trunk.span.stop:
            trunk.leave_phase()
        save(trunk, curve, checkpoints)

        clock.stage("branch")
        tail = Checkpoints(folder / f"branch-{index}")
        branch = finish_branch(trunk, curve, tail)
        finished = branch.finish(folder / f"rung-{index}")

        clock.stage("export")
        finished = ship(finished, pipeline, context)
        clock.stage("evaluate")
        values = measure(finished, pipeline, setting, context, clock.seconds())
        # Not before: until it is measured, an interrupted branch goes on from there.
        tail.clear()

        if point.step == timetable.trunk_steps:
            break
        if point.rung is None:
            curve.measured(trunk, values)
        elif not observer.rung(point.rung, point.step, values, artifacts_of(finished)):
            break

    state: Literal["complete", "pruned"] = "pruned"
    if point.step == timetable.trunk_steps:
        state = "complete"
    finished, layers = with_layers(finished, architecture, context)
    return Outcome(
        state=state,
        values=values,
        artifacts={**artifacts_of(finished), **layers, **checkpoints.files()},
        seconds=clock.seconds(),
        notes=finished.notes,
        shared=context.cache.shared(),
    )
