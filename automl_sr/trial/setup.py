"""The surroundings of a trial and the layout of its training.

They are made of a plan and the setting of its study.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from automl_sr.errors import PluginError
from automl_sr.plugin.technique import Slot
from automl_sr.training.loop import Observer, Silent
from automl_sr.training.phases import Phase, Timetable
from automl_sr.training.randomness import derive, seed_all
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Setup
from automl_sr.training.score import Scorer, asked, hold_out
from automl_sr.trial.cache import Cache
from automl_sr.trial.context import Context

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.task import Samples
    from automl_sr.space.plan import TrialPlan
    from automl_sr.trial.types import Setting


def make_context(
    plan: TrialPlan,
    setting: Setting,
    folder: Path,
    observer: Observer | None = None,
) -> Context:
    """Make the surroundings of one trial, or of its check at the gate, which nobody watches.

    The seed depends on the study's and on the plan, not on the trial's number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seed = derive(setting.seed, plan.fingerprint)
    # Techniques that draw from the generators of the process, against the advice, do not depend on
    # the trials before at least.
    seed_all(seed)
    return Context(
        registry=setting.registry,
        task=setting.task,
        seed=seed,
        device=setting.train_device,
        scratch=folder,
        cache=Cache(setting.cache or folder / "cache", record=folder / "shared.json"),
        data_fingerprint=setting.data.train.fingerprint,
        observer=observer or Silent(),
        precision=setting.precision,
        fits=setting.fits,
        files=plan.files,
    )


def training_data(plan: TrialPlan, setting: Setting) -> Samples:
    """Return what a trial may train on: all training samples, but for those held out for scores."""
    samples = setting.data.train
    if asked(plan.techniques.values()):
        samples, _ = hold_out(samples, setting.seed)
    return samples


def _scorer(plan: TrialPlan, setting: Setting) -> Scorer | None:
    if not asked(plan.techniques.values()):
        return None
    _, held = hold_out(setting.data.train, setting.seed)
    return Scorer.of(setting.task, _first_quality(setting), held, setting.train_device)


def _first_quality(setting: Setting) -> Metric:
    """Return the study's first quality objective, or the task's first metric where it has none."""
    for name in setting.objectives:
        metric = setting.registry.metric(name)
        if metric.level == "quality":
            return metric
    return setting.task.metrics[0]


def make_setup(
    plan: TrialPlan,
    setting: Setting,
    context: Context,
    data: Samples,
) -> Setup:
    """Lay out the training of a plan."""
    recipe = plan.techniques[Slot.RECIPE]
    if not isinstance(recipe, Recipe):
        raise PluginError(f"The recipe is a {type(recipe).__name__}, not core's Recipe.")
    pipeline = list(plan.techniques.values())
    # In the order of the slots: each technique sees the phases of those before it.
    phases = [Phase("train", 1.0)]
    for technique in pipeline:
        phases = technique.phases(phases, context.for_technique(technique))
    setting.task.check_training(data, patch=recipe.patch)
    return Setup(
        context=context,
        task=setting.task,
        data=data.to(setting.train_device),
        recipe=recipe,
        techniques=tuple(pipeline),
        timetable=Timetable.of(phases, setting.steps, recipe.cooldown),
        seed=context.seed,
        device=setting.train_device,
        full_data=training_data(plan, setting),
        scorer=_scorer(plan, setting),
        architecture=plan.techniques[Slot.ARCHITECTURE],
    )
