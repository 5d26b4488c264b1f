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
    from torch import Tensor, nn

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
REFUSED = "refused"
"""Under which name samplers see that a technique refused the model of a plan."""
GIB = 2**30

Costs = dict[str, float]
"""What a model costs, or how far it breaks each limit, by metric."""
Bounds = tuple[Costs, Costs]
"""The least and the most that a model can cost."""


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
        self._task = setting.task
        self._registry = setting.registry
        self._scratch = scratch
        self._metrics = self._measured_here()
        self._costs: dict[str, Costs] = {}
        """By digest of the blueprint, then by metric."""
        self._memory: dict[tuple[object, ...], int] = {}
        """Bytes that training takes, by blueprint, batch, patch and half precision."""

    def _measured_here(self) -> list[Metric]:
        """Return what is measured at the gate."""
        found = []
        names = ["params", *self.setting.metrics]
        for name in dict.fromkeys(names):  # each once
            metric = self._registry.metric(name)
            # What takes an export or a timing is measured only where a plan may be rejected for it.
            costly = metric.level in ("artifact", "device")
            if metric.level == "blueprint" or (costly and name in self.constraints):
                found.append(metric)
        return found

    def check(
        self, plan: TrialPlan, folder: Path | None = None, observer: Observer | None = None
    ) -> Verdict:
        """Measure what a plan can ship, and say whether it breaks a limit even at its very best.

        `folder` is the trial's own: what a blueprint takes from the shared results is told with the
        trial. The costs of the verdict are those of the largest model that can ship.
        """
        scratch = folder or self._scratch
        context = make_context(plan, self.setting, scratch, observer)
        architecture = plan.techniques[Slot.ARCHITECTURE]
        own = context.for_technique(architecture)
        blueprint = architecture.blueprint(self._task, own)
        refusals = self._refusals(plan, blueprint, context)
        if refusals:
            return Verdict({}, "; ".join(refusals), {REFUSED: 1.0})
        smallest, largest = shippable(plan, blueprint, context)

        costs = self._measured(largest, context, self._metrics)
        lowest = self._measured(smallest, context, self._metrics)
        lower, upper = self._bounds(plan, lowest, costs)
        reasons, violations = self._broken(lower, upper)
        memory = self._memory_problem(plan, [blueprint, largest], context, violations)
        if memory is not None:
            reasons.append(memory)
        reason = "; ".join(reasons)
        return Verdict(costs, reason or None, violations)

    def _refusals(self, plan: TrialPlan, blueprint: Blueprint, context: Context) -> list[str]:
        """Let every technique say why it can do nothing with what those before it ship."""
        reasons = []
        smallest = blueprint
        for slot, technique in plan.techniques.items():
            own = context.for_technique(technique)
            reason = technique.refuses(smallest, self._task, own)
            smallest, _ = technique.shipped(smallest, self._task, own)
            if reason is not None:
                reasons.append(f"{slot}.{technique.name} {reason}")
        return reasons

    def still_fits(self, plan: TrialPlan, folder: Path, blueprint: Blueprint) -> None:
        """Raise InfeasibleError where a model that training has changed can no longer keep to the
        limits.
        """
        # What the blueprint itself tells, and no more: exporting and timing would hold up the
        # training.
        told = []
        for metric in self._metrics:
            if metric.level == "blueprint" and metric.name in self.constraints:
                told.append(metric)
        if not told:
            return

        context = make_context(plan, self.setting, folder)
        smallest, largest = shippable(plan, blueprint, context)
        lowest = self._measured(smallest, context, told)
        highest = self._measured(largest, context, told)
        lower, upper = self._bounds(plan, lowest, highest)
        reasons, violations = self._broken(lower, upper)
        if reasons:
            reason = "; ".join(reasons)
            raise InfeasibleError(f"{reason}, as training has changed the model", violations)

    def _broken(self, lower: Costs, upper: Costs) -> tuple[list[str], Costs]:
        """Say which limits are broken at best, and by how much each one is."""
        reasons = []
        violations = {}
        for name, limits in self.constraints.items():
            if name not in lower:
                continue
            least = lower[name]
            most = upper[name]
            violation = limits.violation(least, most)
            violations[name] = violation
            if violation > 0:
                expected = _range(least, most)
                asked = limits.words()
                reasons.append(f"{name} would be {expected}, {asked} is asked")
        return reasons, violations

    def _bounds(self, plan: TrialPlan, smallest: Costs, largest: Costs) -> Bounds:
        """Let every technique say what it makes of the costs, in the order of the pipeline."""
        lower = dict(smallest)
        upper = dict(largest)
        for metric in self._metrics:
            if metric.level == "device" and metric.name in lower:
                lower[metric.name] *= NOISE
                upper[metric.name] /= NOISE
        for technique in plan.techniques.values():
            lower, _ = technique.predict(lower, self._task)
            _, upper = technique.predict(upper, self._task)
        return lower, upper

    def _measured(self, blueprint: Blueprint, context: Context, metrics: Sequence[Metric]) -> Costs:
        """Return the costs of a blueprint; those that were measured before are remembered."""
        digest = blueprint.digest()
        known = self._costs.setdefault(digest, {})
        told = []
        others = []
        for metric in metrics:
            if metric.name in known:
                continue
            if metric.level == "blueprint":
                told.append(metric)
            else:
                others.append(metric)
        if told:
            known |= self._counted(blueprint, told)
        if others:
            known |= self._exported(blueprint, others, context)

        found: Costs = {}
        for metric in metrics:
            found[metric.name] = known[metric.name]
        return found

    def _counted(self, blueprint: Blueprint, metrics: Sequence[Metric]) -> Costs:
        """Measure what the blueprint itself tells."""
        module = self._on_meta(blueprint)
        example = self._task.cost_example(module)
        inputs = as_inputs(example)
        found = {}
        for metric in metrics:
            count = metric.function()
            found[metric.name] = float(count(module, inputs))
        return found

    def _exported(self, blueprint: Blueprint, metrics: Sequence[Metric], context: Context) -> Costs:
        """Export the untrained model and measure the file."""
        # Neither the size of the file nor its time depend on the weights.
        model = build(blueprint, self._registry)
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            path = Path(folder) / "untrained.onnx"
            export_module(model, blueprint, self._task, path)
            found: Costs = {}
            timed = []
            for metric in metrics:
                if metric.level == "device":
                    timed.append(metric)
                elif metric.level == "artifact":
                    measure = metric.function()
                    found[metric.name] = float(measure(path))
            if timed:
                found |= measure_device(path, self.setting, timed, context)
            return found

    def _on_meta(self, blueprint: Blueprint) -> nn.Module:
        """Build a model without weights: for counting, shapes are enough."""
        with torch.device("meta"):
            return build(blueprint, self._registry)

    def _memory_problem(
        self,
        plan: TrialPlan,
        trained: Sequence[Blueprint],
        context: Context,
        violations: Costs,
    ) -> str | None:
        """Say whether training takes more memory than there is, at the most that it takes in any of
        its phases.
        """
        recipe = plan.techniques[Slot.RECIPE]
        if not isinstance(recipe, Recipe):
            return None
        needed = 0
        for blueprint in trained:
            needed = max(needed, self._training_bytes(blueprint, recipe))
        # Nets that are used in training beside the model, such as a teacher, come on top.
        for technique in plan.techniques.values():
            own = context.for_technique(technique)
            for companion in technique.companions(trained[-1], self._task, own):
                needed += self._companion_bytes(companion, recipe)

        free = free_memory(self.setting.train_device)
        usable = MEMORY_SHARE * free
        violation = needed / usable - 1
        violations[MEMORY] = violation
        if violation <= 0:
            return None
        wanted = needed / GIB
        there = free / GIB
        return f"training would take about {wanted:.1f} GiB, {there:.1f} GiB are free"

    def _training_bytes(self, blueprint: Blueprint, recipe: Recipe) -> int:
        kind = resolve(recipe.precision, self.setting.train_device, self.setting.precision)
        half = kind != "fp32"
        key = (blueprint.digest(), recipe.batch, recipe.patch, half)
        known = self._memory.get(key)
        if known is not None:
            return known
        module = self._on_meta(blueprint)
        batch = self._batch(module, recipe)
        needed = training_bytes(module, *batch, half=half)
        self._memory[key] = needed
        return needed

    def _companion_bytes(self, blueprint: Blueprint, recipe: Recipe) -> int:
        module = self._on_meta(blueprint)
        batch = self._batch(module, recipe)
        return helper_bytes(module, *batch)

    def _batch(self, module: nn.Module, recipe: Recipe) -> tuple[Tensor, ...]:
        """Return the inputs of one training step."""
        example = self._task.training_example(module, batch=recipe.batch, patch=recipe.patch)
        return as_inputs(example)


def shippable(
    plan: TrialPlan, blueprint: Blueprint, context: Context
) -> tuple[Blueprint, Blueprint]:
    """Return the smallest and the largest blueprint that can ship, every technique having had its
    say.
    """
    smallest = blueprint
    largest = blueprint
    for technique in plan.techniques.values():
        own = context.for_technique(technique)
        smallest, _ = technique.shipped(smallest, context.task, own)
        _, largest = technique.shipped(largest, context.task, own)
    return smallest, largest


def free_memory(device: str) -> int:
    """Return the bytes that a trial may use on the device on which it trains."""
    if not device.startswith("cuda"):
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info()
    # What torch keeps of former trials counts as used there, and torch will use it again.
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(free) + kept


def _range(lower: float, upper: float) -> str:
    if lower == upper:
        return exact(lower)
    return f"{exact(lower)} to {exact(upper)}"
