"""Single weights that are zero: pruned in rounds, in groups of M, or shrunk on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from automl_sr.api import Choice, Fixed, Float, Int, Phase, Slot, Technique, When, hookimpl

if TYPE_CHECKING:
    from automl_sr.api import (
        Blueprint,
        Context,
        ModelUpdate,
        Run,
        Task,
        TrainedModel,
        TrainStep,
    )

Bounds = tuple[dict[str, float], dict[str, float]]


class _Unstructured(Technique):
    """A pruning that sets single weights of the body to zero and keeps every shape.

    Which weights are left is a mask in the run's state.
    """

    slot = Slot.PRUNING
    provides: ClassVar[frozenset[str]] = frozenset({"sparse_weights"})

    def least_left(self) -> float:
        """Return the smallest share of the body's weights that may be left."""
        raise NotImplementedError

    def refuses(self, blueprint: Blueprint, task: Task, ctx: Context) -> str | None:
        from automl_sr_plugins.unstructured_pruning.body import problem

        reason = problem(ctx.model(blueprint), task)
        if reason is None:
            return None
        return f"cannot prune its weights: this {reason}"

    def take_form(self, run: Run) -> ModelUpdate | None:
        """Go on with the net as it ships: zeros in blocks that are trained wide would be lost."""
        return run.as_shipped()

    def wrap_step(self, step: TrainStep, run: Run) -> TrainStep:
        """Hold what is pruned at zero from then on, in the cool-down and other tails too."""
        from automl_sr_plugins.unstructured_pruning.masks import holding, masks_of

        if not masks_of(run.state):
            return step
        return step.with_step_context(holding)

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        from automl_sr_plugins.unstructured_pruning.masks import noted

        return noted(finished)

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        from automl_sr_plugins.unstructured_pruning.masks import packed

        return packed(finished, ctx)

    def predict(self, cost: Mapping[str, float], task: Task) -> Bounds:
        """Bound the size: at best all weights are of the body, and zeros take no room at all."""
        lower, upper = dict(cost), dict(cost)
        if "size_bytes" in cost:
            lower["size_bytes"] = self.least_left() * cost["size_bytes"]
        return lower, upper


class _Rounds(_Unstructured):
    """Rounds of training within the trial's steps, each of which begins with the same weights."""

    scores: ClassVar[bool] = True

    rate: Annotated[
        float,
        Float(0.01, 0.2, log=True),
        Field(ge=0, lt=1, description="share of the weights left that each pruning drops"),
    ] = 0.1
    rounds: Annotated[
        int,
        Int(2, 10),
        Field(ge=1, le=100, description="times that it trains; it prunes once less"),
    ] = 4
    scope: Literal["layer", "global"] = Field(
        "layer", description="what weights are ranked among: their layer or all of the body"
    )
    rewind: Annotated[
        float,
        Choice(0.0, 0.01, 0.05),
        Field(ge=0, lt=1, description="where rounds begin, as a share of the first; 0: untrained"),
    ] = 0.0
    keep: Literal["best", "last"] = Field(
        "best", description="which round ships: the best by its score, or the sparsest"
    )

    def band(self) -> float:
        """Return how small weights are held still, as a share of their layer's deviation."""
        return 0.0

    def prunes(self) -> bool:
        """Return whether anything is dropped."""
        return self.rate > 0 and self.rounds > 1

    def canonical(self) -> Self:
        settled = super().canonical()
        if settled.prunes():
            return settled
        # One round, whichever of the two says so; the rest is about several.
        once = {"rate": 0.0, "rounds": 1, "scope": "layer", "rewind": 0.0, "keep": "best"}
        return settled.model_copy(update=once)

    def least_left(self) -> float:
        if not self.prunes():
            return 1.0
        return float((1 - self.rate) ** (self.rounds - 1))

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Divide the last phase of the trunk into rounds, with a rung at the end of each."""
        last = next(phase for phase in reversed(phases) if not phase.tail)
        at = phases.index(last)
        if self.prunes():
            return [*phases[:at], *self._in_rounds(last), *phases[at + 1 :]]
        if self.band() > 0:
            return [*phases[:at], self._beginning(last), *phases[at + 1 :]]
        return phases

    def _in_rounds(self, last: Phase) -> list[Phase]:
        """Lay out what comes before the weights that are kept, if anything, and the rounds."""
        whole = last.share / (self.rewind + self.rounds * (1 - self.rewind))
        each = replace(last, share=whole * (1 - self.rewind), on_leave=(), rung=True)
        later = replace(each, on_enter=(), inherits=False)

        made: list[Phase] = []
        if self.rewind > 0:
            start = replace(last, share=whole * self.rewind, on_leave=(), rung=False)
            first = replace(later, name=f"{last.name} round 1", resets=False)
            made += [start, self._beginning(first).entering(self.remember)]
        else:
            made.append(self._beginning(each).entering(self.remember))
        for number in range(2, self.rounds + 1):
            again = replace(later, name=f"{last.name} round {number}", resets=True)
            made.append(again.entering(self.prune, self.go_back))

        if self.keep == "best":
            made = [*made[: -self.rounds], *self._compared(made[-self.rounds :])]
        # Whoever waits for the end of the phase sees the model that was chosen.
        made[-1] = made[-1].leaving(*last.on_leave)
        return made

    def _beginning(self, phase: Phase) -> Phase:
        return phase.entering(self.take_form, self.begin)

    def _compared(self, rounds: list[Phase]) -> list[Phase]:
        found = [phase.leaving(self.compare) for phase in rounds]
        found[-1] = found[-1].leaving(self.choose)
        return found

    def begin(self, run: Run) -> None:
        """Take masks that leave everything into the run's state."""
        from automl_sr_plugins.unstructured_pruning.rounds import begin

        begin(run, self.band())

    def remember(self, run: Run) -> None:
        """Keep the weights with which every round begins."""
        from automl_sr_plugins.unstructured_pruning.rounds import remember

        remember(run)

    def prune(self, run: Run) -> None:
        """Drop the smallest of the weights that are left, by what they are at a round's end."""
        from automl_sr_plugins.unstructured_pruning.rounds import prune

        prune(run, self.rate, self.scope)

    def go_back(self, run: Run) -> ModelUpdate:
        """Begin again with the first weights that are left, and a new optimizer."""
        from automl_sr_plugins.unstructured_pruning.rounds import rewind

        return rewind(run)

    def compare(self, run: Run) -> None:
        """Score the round that ends."""
        from automl_sr_plugins.unstructured_pruning.rounds import compare

        compare(run, self.rounds)

    def choose(self, run: Run) -> ModelUpdate | None:
        """End with the round that was best."""
        from automl_sr_plugins.unstructured_pruning.rounds import choose

        return choose(run, self.rounds)

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        from automl_sr_plugins.unstructured_pruning.masks import noted
        from automl_sr_plugins.unstructured_pruning.rounds import words_on

        return noted(finished, words_on(finished.state, self.rounds))


class UPru(_Rounds):
    """Drop the smallest weights in rounds, each of which begins again with the first ones.

    J. Frankle, M. Carbin: The Lottery Ticket Hypothesis, ICLR 2019; late rewinding: J. Frankle et
    al., Stabilizing the Lottery Ticket Hypothesis, arXiv 1903.01611, 2019; for super-resolution
    S. Zhang, R. Yin, M. Zhang: Dynamic Unstructured Pruning Neural Network Image Super-Resolution
    Reconstruction, Informatica 48(7), 2024.
    """

    name = "upru"


class DUPru(_Rounds):
    """Drop the smallest weights in rounds, and in each hold those still that become very small.

    S. Zhang, R. Yin, M. Zhang: Dynamic Unstructured Pruning Neural Network Image Super-Resolution
    Reconstruction, Informatica 48(7), 2024. The paper's EPS is one number for all layers; ours is a
    share of the deviation of each layer's first weights, so that it suits any initialization.
    """

    name = "dupru"

    eps: Annotated[
        float,
        Float(0.001, 0.2, log=True),
        Field(ge=0, le=2, description="weights below it, in deviations of their layer, are held"),
    ] = 0.02

    def band(self) -> float:
        """Return the share of the deviation below which weights are held."""
        return self.eps


class NM(_Unstructured):
    """Keep the N largest of every M weights that follow each other along the input channels.

    J. Oh, H. Kim, S. Nah, C. Hong, J. Choi, K. M. Lee: Attentive Fine-Grained Structured Sparsity
    for Image Restoration, CVPR 2022, for N learnt by layer; A. Zhou et al., Learning N:M
    Fine-grained Structured Sparse Neural Networks From Scratch, ICLR 2021, for one N.
    """

    name = "nm"

    mode: Literal["uniform", "learnt"] = Field(
        "uniform", description="one N for all layers, or one for each, which is learnt"
    )
    m: Annotated[
        int, Choice(4, 8, 16, 32), Field(ge=2, le=64, description="weights in a group")
    ] = 4
    n: Annotated[
        int,
        Int(1, 3),
        When(mode=["uniform"]),
        Field(ge=1, le=63, description="how many of them are left; fewer than m"),
    ] = 2
    budget: Annotated[
        float,
        Float(0.06, 0.5),
        When(mode=["learnt"]),
        Field(gt=0, lt=1, description="share of the pruned layers' multiply-adds that is left"),
    ] = 0.25
    start: Annotated[
        float,
        Float(0.1, 0.6),
        Field(gt=0, lt=1, description="share of the training before anything is pruned"),
    ] = 0.4
    learning: Annotated[
        float,
        Fixed(),
        When(mode=["learnt"]),
        Field(gt=0, lt=1, description="share of the rest in which N is learnt"),
    ] = 0.4

    @model_validator(mode="after")
    def _some_are_dropped(self) -> Self:
        if self.mode == "uniform" and self.n >= self.m:
            raise ValueError(f"n = {self.n} of m = {self.m} drops nothing: n must be below m")
        return self

    def canonical(self) -> Self:
        """Say a budget that no N can keep to as the least that one can."""
        settled = super().canonical()
        # One of each M is the least that can be left.
        least = 1 / settled.m
        if settled.mode == "learnt" and settled.budget < least:
            return settled.model_copy(update={"budget": least})
        return settled

    def refuses(self, blueprint: Blueprint, task: Task, ctx: Context) -> str | None:
        """Say so too where no layer has groups of M."""
        from automl_sr_plugins.unstructured_pruning.groups import no_groups

        reason = super().refuses(blueprint, task, ctx)
        if reason is not None:
            return reason
        return no_groups(ctx.model(blueprint), task, self.m)

    def least_left(self) -> float:
        """Return N of M, or one of M where N is learnt."""
        if self.mode == "uniform":
            return self.n / self.m
        return 1 / self.m

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Train densely, learn N where that is asked, then train what is left."""
        last = next(phase for phase in reversed(phases) if not phase.tail)
        at = phases.index(last)
        rest = last.share * (1 - self.start)
        dense = replace(last, share=last.share * self.start, on_leave=(), rung=False)
        # Just after the cut the model is not what it becomes: no rung lies there.
        sparse = replace(
            last,
            name=f"{last.name} sparse",
            share=rest,
            on_enter=(),
            inherits=False,
            resets=True,
        )
        if self.mode == "uniform":
            made = [dense, sparse.entering(self.take_form, self.cut)]
            return [*phases[:at], *made, *phases[at + 1 :]]

        # What learns with zeros is measured without them: no rung lies there either.
        search = replace(
            sparse,
            name=f"{last.name} learning N",
            share=rest * self.learning,
            on_leave=(),
            comparable=False,
            resets=False,
            rung=False,
        )
        search = search.entering(self.take_form, self.begin_learning)
        search = search.wrapping(self.learn).leaving(self.settle)
        made = [dense, search, replace(sparse, share=rest * (1 - self.learning))]
        return [*phases[:at], *made, *phases[at + 1 :]]

    def cut(self, run: Run) -> ModelUpdate:
        """Keep N of every M weights in all layers."""
        from automl_sr_plugins.unstructured_pruning.groups import cut

        return cut(run, self.n, self.m)

    def begin_learning(self, run: Run) -> None:
        """Rank the weights within their groups."""
        from automl_sr_plugins.unstructured_pruning.learnt import begin

        begin(run, self.m)

    def learn(self, step: TrainStep, run: Run) -> TrainStep:
        """Let each layer learn how many of every M weights it needs."""
        from automl_sr_plugins.unstructured_pruning.learnt import learning

        return learning(step, run, self.m, self.budget)

    def settle(self, run: Run) -> ModelUpdate:
        """Keep what was learnt, within the budget."""
        from automl_sr_plugins.unstructured_pruning.learnt import settle

        return settle(run, self.m, self.budget)


class Shrink(_Unstructured):
    """Shrink the smallest weights a little in every step, then drop those that are smallest.

    J. Wang et al.: Iterative Soft Shrinkage Learning for Efficient Image Super-Resolution (ISS-P),
    ICCV 2023. With `factor` 0 they are set to zero in every step, as iterative hard thresholding
    does.
    """

    name = "shrink"

    sparsity: Annotated[
        float, Float(0.3, 0.95), Field(gt=0, lt=1, description="share of each layer that is zero")
    ] = 0.5
    factor: Annotated[
        float,
        Choice(0.0, 0.95),
        Field(ge=0, lt=1, description="what the smallest are multiplied by in every step"),
    ] = 0.95
    until: Annotated[
        float,
        Float(0.3, 0.8),
        Field(gt=0, lt=1, description="share of the training after which the zeros stay"),
    ] = 0.5

    def least_left(self) -> float:
        """Return the share that is not shrunk."""
        return 1 - self.sparsity

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Shrink in the first part of the last phase, and train on with fixed zeros."""
        last = next(phase for phase in reversed(phases) if not phase.tail)
        at = phases.index(last)
        soft = replace(last, share=last.share * self.until, on_leave=(), rung=False)
        fixed = replace(
            last,
            name=f"{last.name} sparse",
            share=last.share * (1 - self.until),
            on_enter=(),
            inherits=False,
        )
        soft = soft.entering(self.take_form).wrapping(self.shrinking)
        made = [soft, fixed.entering(self.fix)]
        return [*phases[:at], *made, *phases[at + 1 :]]

    def shrinking(self, step: TrainStep, run: Run) -> TrainStep:
        """Multiply the smallest weights after each step of the optimizer."""
        from automl_sr_plugins.unstructured_pruning.shrinkage import shrinking

        return shrinking(step, run, self.sparsity, self.factor)

    def fix(self, run: Run) -> ModelUpdate:
        """Drop the smallest weights for good."""
        from automl_sr_plugins.unstructured_pruning.shrinkage import fix

        return fix(run, self.sparsity)


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the prunings of this family."""
    return [UPru, DUPru, NM, Shrink]
