"""What is known of a plan before anything is trained: its costs on the meta device, and whether
they can fit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from automl_sr.errors import InfeasibleError
from automl_sr.evaluation.cost import helper_bytes, training_bytes
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.task import as_inputs
from automl_sr.plugin.technique import Slot
from automl_sr.study.limits import exact
from automl_sr.training.precision import resolve
from automl_sr.training.recipe import Recipe
from automl_sr.trial.measure import measure_device
from automl_sr.trial.setup import make_context
from automl_sr.trial.ship import export_module

if TYPE_CHECKING:
    from torch import nn

    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.plugin.metric import Metric
    from automl_sr.space.plan import TrialPlan
    from automl_sr.study.limits import Limits
    from automl_sr.training.loop import Observer
    from automl_sr.trial.context import Context
    from automl_sr.trial.types import Setting

NOISE = 0.9
"""A time at the gate counts for so much of what was measured: noise must not reject what would
fit.
"""
MEMORY_SHARE = 0.8
"""Share of the free memory that training may take by the estimate."""
MEMORY = "memory"


@dataclass(frozen=True)
class Verdict:
    """Costs of a plan as far as they were measured, and why it cannot be feasible, if so."""

    costs: Mapping[str, float]
    reason: str | None = None
    violations: Mapping[str, float] = field(default_factory=dict)
    """By how much each constraint is broken at best, relative to its limit; positive is broken."""


class Gate:
    """Checks plans against a study's constraints and the machine's memory; equal blueprints are
    measured once.
    """

    def __init__(self, setting: Setting, constraints: Mapping[str, Limits], scratch: Path) -> None:
        self.setting = setting
        self.constraints = dict(constraints)
        self._scratch = scratch
        registry = setting.registry
        named = dict.fromkeys(["params", *setting.metrics])
        self._metrics = [
            registry.metric(name) for name in named if self._asked(registry.metric(name))
        ]
        self._costs: dict[str, dict[str, float]] = {}
        self._memory: dict[tuple[str, int, int, bool], int] = {}

    def _asked(self, metric: Metric) -> bool:
        """Whether a metric is measured here: all that the blueprint tells, of the others those that
        are constrained.
        """
        if metric.level == "blueprint":
            return True
        return metric.level in ("artifact", "device") and metric.name in self.constraints

    def check(
        self, plan: TrialPlan, folder: Path | None = None, observer: Observer | None = None
    ) -> Verdict:
        """Measure what a plan can ship, and say whether it breaks a limit even at its very best.

        `folder` is the trial's own: what a blueprint takes from the shared results is told with the
        trial. The costs of the verdict are those of the largest model that can ship.
        """
        context = make_context(plan, self.setting, folder or self._scratch, observer)
        architecture = plan.techniques[Slot.ARCHITECTURE]
        blueprint = architecture.blueprint(self.setting.task, context.for_technique(architecture))
        smallest, largest = shippable(plan, blueprint, context)
        costs = self._measured(largest, context, self._metrics)
        lower, upper = self._bounds(plan, self._measured(smallest, context, self._metrics), costs)
        reasons, violations = self._broken(lower, upper)
        reasons += self._memory_problem(plan, [blueprint, largest], context, violations)
        return Verdict(costs, "; ".join(reasons) or None, violations)

    def still_fits(self, plan: TrialPlan, folder: Path, blueprint: Blueprint) -> None:
        """Raise InfeasibleError where a model that training has changed can no longer keep to the
        limits.

        Only what the blueprint itself tells is looked at: exporting and timing would hold up the
        training.
        """
        told = []
        for metric in self._metrics:
            if metric.level == "blueprint" and metric.name in self.constraints:
                told.append(metric)
        if not told:
            return
        context = make_context(plan, self.setting, folder)
        smallest, largest = shippable(plan, blueprint, context)
        lower, upper = self._bounds(
            plan, self._measured(smallest, context, told), self._measured(largest, context, told)
        )
        reasons, violations = self._broken(lower, upper)
        if reasons:
            raise InfeasibleError(
                f"{'; '.join(reasons)}, as training has changed the model", violations
            )

    def _broken(
        self, lower: Mapping[str, float], upper: Mapping[str, float]
    ) -> tuple[list[str], dict[str, float]]:
        """Say which limits are broken at best, and by how much each one is."""
        reasons, violations = [], {}
        for name, limits in self.constraints.items():
            if name not in lower:
                continue
            violations[name] = limits.violation(lower[name], upper[name])
            if violations[name] > 0:
                reasons.append(
                    f"{name} would be {_range(lower[name], upper[name])}, {limits.words()} is asked"
                )
        return reasons, violations

    def _bounds(
        self, plan: TrialPlan, smallest: Mapping[str, float], largest: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Let every technique say what it makes of the costs, in the order of the pipeline."""
        lower, upper = dict(smallest), dict(largest)
        for metric in self._metrics:
            if metric.level == "device" and metric.name in lower:
                lower[metric.name] *= NOISE
                upper[metric.name] /= NOISE
        for technique in plan.techniques.values():
            lower = technique.predict(lower, self.setting.task)[0]
            upper = technique.predict(upper, self.setting.task)[1]
        return lower, upper

    def _measured(
        self, blueprint: Blueprint, context: Context, metrics: Sequence[Metric]
    ) -> dict[str, float]:
        """Return the costs of a blueprint; those that were measured before are remembered by its
        digest.
        """
        known = self._costs.setdefault(blueprint.digest(), {})
        missing = []
        for metric in metrics:
            if metric.name not in known:
                missing.append(metric)
        told = []
        for metric in missing:
            if metric.level == "blueprint":
                told.append(metric)
        if told:
            module = self._on_meta(blueprint)
            example = as_inputs(self.setting.task.cost_example(module))
            known |= {metric.name: float(metric.function()(module, example)) for metric in told}
        others = []
        for metric in missing:
            if metric.level != "blueprint":
                others.append(metric)
        if others:
            known |= self._exported(blueprint, others, context)
        found: dict[str, float] = {}
        for metric in metrics:
            found[metric.name] = known[metric.name]
        return found

    def _exported(
        self, blueprint: Blueprint, metrics: list[Metric], context: Context
    ) -> dict[str, float]:
        """Export the untrained model and measure the file: neither its size nor its time depend on
        the weights.
        """
        model = build(blueprint, self.setting.registry)
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            path = Path(folder) / "untrained.onnx"
            export_module(model, blueprint, self.setting.task, path)
            found = {}
            for m in metrics:
                if m.level == "artifact":
                    found[m.name] = float(m.function()(path))
            timed = []
            for metric in metrics:
                if metric.level == "device":
                    timed.append(metric)
            return found | (measure_device(path, self.setting, timed, context) if timed else {})

    def _on_meta(self, blueprint: Blueprint) -> nn.Module:
        with torch.device("meta"):
            return build(blueprint, self.setting.registry)

    def _memory_problem(
        self,
        plan: TrialPlan,
        trained: Sequence[Blueprint],
        context: Context,
        violations: dict[str, float],
    ) -> list[str]:
        """Say whether training takes more memory than there is, at the most that it takes in any of
        its phases.
        """
        recipe = plan.techniques[Slot.RECIPE]
        if not isinstance(recipe, Recipe):
            return []
        needed = max(self._training_bytes(blueprint, recipe) for blueprint in trained)
        for technique in plan.techniques.values():
            own = context.for_technique(technique)
            for companion in technique.companions(trained[-1], self.setting.task, own):
                needed += self._companion_bytes(companion, recipe)
        free = free_memory(self.setting.train_device)
        violations[MEMORY] = needed / (MEMORY_SHARE * free) - 1
        if violations[MEMORY] <= 0:
            return []
        return [
            f"training would take about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
        ]

    def _training_bytes(self, blueprint: Blueprint, recipe: Recipe) -> int:
        half = (
            resolve(recipe.precision, self.setting.train_device, self.setting.precision) != "fp32"
        )
        key = (blueprint.digest(), recipe.batch, recipe.patch, half)
        if key not in self._memory:
            module = self._on_meta(blueprint)
            example = self.setting.task.training_example(
                module, batch=recipe.batch, patch=recipe.patch
            )
            self._memory[key] = training_bytes(module, *as_inputs(example), half=half)
        return self._memory[key]

    def _companion_bytes(self, blueprint: Blueprint, recipe: Recipe) -> int:
        module = self._on_meta(blueprint)
        example = self.setting.task.training_example(module, batch=recipe.batch, patch=recipe.patch)
        return helper_bytes(module, *as_inputs(example))


def shippable(
    plan: TrialPlan, blueprint: Blueprint, context: Context
) -> tuple[Blueprint, Blueprint]:
    """Return the smallest and the largest blueprint that can ship, every technique having had its
    say.
    """
    smallest = largest = blueprint
    for technique in plan.techniques.values():
        own = context.for_technique(technique)
        smallest = technique.shipped(smallest, context.task, own)[0]
        largest = technique.shipped(largest, context.task, own)[1]
    return smallest, largest


def free_memory(device: str) -> int:
    """Return the bytes that a trial may use on the device on which it trains."""
    if device.startswith("cuda"):
        kept = (
            torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        )  # torch keeps it, and will use it again
        return int(torch.cuda.mem_get_info()[0]) + kept
    return int(psutil.virtual_memory().available)


def _range(lower: float, upper: float) -> str:
    if lower == upper:
        return exact(lower)
    return f"{exact(lower)} to {exact(upper)}"
