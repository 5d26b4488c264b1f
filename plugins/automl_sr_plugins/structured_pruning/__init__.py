"""Structured pruning: whole filters go, or layers become products, and a smaller dense net ships.

Every change is an edit of the blueprint with the shapes that are left, so that the gate knows
before any training what a net will cost, and a net is rebuilt without its history.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from automl_sr.api import (
    Edit,
    Fixed,
    Float,
    Int,
    ModelUpdate,
    Phase,
    Slot,
    Technique,
    TrialError,
    When,
    hookimpl,
)
from automl_sr_plugins.structured_pruning.schedule import Stretch, divided

if TYPE_CHECKING:
    from automl_sr.api import Blueprint, Context, Run, Task, TrainStep
    from automl_sr_plugins.structured_pruning.channels import Group

FAMILY = "automl_sr_plugins.structured_pruning"
CUT = "structured_pruning.cut"
"""The edit that gives layers the shapes that they have without some channels."""
WEIGHT_NORM = "structured_pruning.weight_norm"
"""The edit that gives filters a scale of their own; it is there only until the net is cut."""
LOW_RANK = "structured_pruning.low_rank"
"""The edit that makes two convolutions of one."""
NOTHING_SMALLER = (
    "cannot divide this net: at the ranks that are asked for no convolution becomes smaller"
)

Bounds = tuple["Blueprint", "Blueprint"]

Multiple = Annotated[
    int,
    Fixed(),
    Int(1, 8),
    Field(ge=1, le=64, description="kept channels are rounded to a multiple of it, where it fits"),
]
At = Annotated[
    float,
    Float(0.2, 0.5),
    Field(gt=0, lt=1, description="share of the training after which the net is changed"),
]


class _Pruning(Technique):
    """Training in two stretches: the whole net, then the smaller one that is fine-tuned."""

    slot = Slot.PRUNING

    def is_done(self, blueprint: Blueprint) -> bool:
        """Return whether a net has been made smaller already."""
        return any(name in (CUT, LOW_RANK) for name, _ in blueprint.edits)

    def shipped(self, blueprint: Blueprint, task: Task, ctx: Context) -> Bounds:
        if self.is_done(blueprint):
            return blueprint, blueprint
        return self.bounds(blueprint, task, ctx)

    def refuses(self, blueprint: Blueprint, task: Task, ctx: Context) -> str | None:
        if self.is_done(blueprint):
            return None
        from automl_sr_plugins.structured_pruning import nets

        _, groups = nets.outlined(blueprint, task, ctx)
        return nets.problem(groups)

    def bounds(self, blueprint: Blueprint, task: Task, ctx: Context) -> Bounds:
        """Return the smallest and the largest net that can come of one that is whole."""
        raise NotImplementedError

    def smaller(self, run: Run) -> ModelUpdate | None:
        """Make the net of a run smaller; called once, at the entry of the last stretch."""
        raise NotImplementedError


class _InTwo(_Pruning):
    """A technique that changes the net at one moment."""

    at: At = 0.3

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        # Before the cut the net is larger than what ships: it is not compared at rungs.
        return divided(
            phases,
            [Stretch("whole", self.at, comparable=False)],
            Stretch("pruned", 1 - self.at, enters=(self.smaller,), resets=True, rung=True),
        )


class L1(_InTwo):
    """Remove the filters with the smallest weights, in all layers that are added to each other.

    Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, ICLR 2017. A channel
    goes from all places that belong to it (Fang et al., DepGraph, CVPR 2023); its importance is the
    mean size of its weights, summed over the layers that compute it.
    """

    name = "l1"
    edits: ClassVar = {CUT: Edit(f"{FAMILY}.cutting:narrow")}

    ratio: Annotated[
        float, Float(0.1, 0.7), Field(ge=0, lt=1, description="share of the channels that go")
    ] = 0.3
    scope: Literal["layer", "global"] = Field(
        "layer", description="channels are ranked within their layer, or all of the net together"
    )
    floor: Annotated[
        int,
        Fixed(),
        Int(2, 16),
        When(scope=["global"]),
        Field(ge=1, le=512, description="channels that a layer keeps at least"),
    ] = 4
    multiple: Multiple = 1

    def bounds(self, blueprint: Blueprint, task: Task, ctx: Context) -> Bounds:
        """Return the net with fewer channels; ranked globally, the fewest that it can keep."""
        from automl_sr_plugins.structured_pruning import nets

        floor = None
        if self.scope == "global":
            floor = self.floor
        return nets.bounds_by_ratio(
            blueprint, task, ctx, ratio=self.ratio, multiple=self.multiple, floor=floor
        )

    def smaller(self, run: Run) -> ModelUpdate | None:
        """Cut the filters with the smallest weights."""
        from automl_sr_plugins.structured_pruning import cutting, nets

        net, blueprint = nets.plain_form(run)
        groups = nets.cuttable(blueprint, run.task, run.context)
        scores = [cutting.l1_scores(net, group) for group in groups]
        kept = cutting.kept_of_each(groups, self.ratio, self.multiple)
        if self.scope == "global":
            kept = cutting.kept_globally(scores, self.ratio, self.floor, self.multiple)
        dropped = []
        for values, count in zip(scores, kept, strict=True):
            dropped.append(cutting.lowest(values, count))
        return nets.cut_update(net, blueprint, groups, dropped)


class Similarity(_InTwo):
    """Merge channels whose maps are alike: one stands for all of them from then on.

    Kivanc, Sen, Nar, Ok: Reducing Model Complexity in Neural Networks by Using Pyramid Training
    Approaches, preprint 202405.0951, 2024. The filters of merged channels are averaged, and the
    layers that read them weigh them by least squares on training crops, which is ours.
    """

    name = "similarity"
    asked_only = True
    edits: ClassVar = {CUT: Edit(f"{FAMILY}.cutting:narrow")}

    metric: Literal["cosine", "euclidean", "centred"] = Field(
        "cosine", description="how alike two maps are: the angle, the distance, the correlation"
    )
    merge: Literal["mean", "weighted"] = Field(
        "mean", description="mean of two channels, or weighted by how many each stands for"
    )
    largest: Annotated[
        float,
        Float(0.1, 0.6),
        Field(ge=0, lt=1, description="share by which layers of `many` channels are reduced"),
    ] = 0.5
    few: Annotated[
        int, Fixed(), Int(2, 16), Field(ge=1, le=512, description="so many are not reduced")
    ] = 4
    many: Annotated[
        int,
        Fixed(),
        Int(32, 256),
        Field(ge=2, le=4096, description="so many are reduced by the whole share"),
    ] = 64
    multiple: Multiple = 1
    batches: Annotated[
        int, Fixed(), Field(ge=1, le=256, description="batches on which maps are compared")
    ] = 8

    def bounds(self, blueprint: Blueprint, task: Task, ctx: Context) -> Bounds:
        """Return the net with as many channels as the reduction leaves."""
        from automl_sr_plugins.structured_pruning import nets

        net, groups = nets.outlined(blueprint, task, ctx)
        same = nets.with_counts(blueprint, net, groups, self.counts(groups))
        return same, same

    def counts(self, groups: list[Group]) -> list[int]:
        """Return how many channels of each group are left."""
        from automl_sr_plugins.structured_pruning import cutting, merging

        found = []
        for group in groups:
            left = merging.reduced(group.count, self.largest, self.few, self.many)
            found.append(cutting.rounded(group.count, left, self.multiple))
        return found

    def smaller(self, run: Run) -> ModelUpdate | None:
        """Merge channels that are alike on training crops."""
        from automl_sr_plugins.structured_pruning import merging, nets

        net, blueprint = nets.plain_form(run)
        groups = nets.cuttable(blueprint, run.task, run.context)
        maps = merging.recorded(net, groups, run, self.batches)
        kept = self.counts(groups)
        dropped = []
        for group, count in zip(groups, kept, strict=True):
            alike = merging.likeness(group, maps, centred=self.metric == "centred")
            partition = merging.merged(alike, count, self.metric, weighted=self.merge == "weighted")
            merging.fold_into(net, group, partition, maps)
            dropped.append(merging.absorbed(partition))
        return nets.cut_update(net, blueprint, groups, dropped)


class LowRank(_InTwo):
    """Make two convolutions of one: fewer filters, and a 1x1 convolution that combines them.

    Jaderberg, Vedaldi, Zisserman: Speeding up Convolutional Neural Networks with Low Rank
    Expansions, BMVC 2014; the form k x k then 1 x 1 with the singular value decomposition is that
    of Zhang, Zou, He, Sun: Accelerating Very Deep Convolutional Networks, TPAMI 2016. Only layers
    that become smaller are divided.
    """

    name = "low_rank"
    asked_only = True
    edits: ClassVar = {LOW_RANK: Edit(f"{FAMILY}.low_rank:divide")}

    by: Literal["share", "energy"] = Field(
        "share", description="ranks are a share of the full ones, or keep a share of the energy"
    )
    share: Annotated[
        float,
        Float(0.2, 0.7),
        When(by=["share"]),
        Field(gt=0, le=1, description="rank as a share of the full one"),
    ] = 0.4
    energy: Annotated[
        float,
        Float(0.7, 0.99),
        When(by=["energy"]),
        Field(gt=0, le=1, description="kept share of the squared singular values"),
    ] = 0.9

    def bounds(self, blueprint: Blueprint, task: Task, ctx: Context) -> Bounds:
        """Return the divided net; by energy, one of rank 1 and the whole one."""
        from automl_sr_plugins.structured_pruning import low_rank

        net = ctx.outline(blueprint)
        if self.by == "share":
            ranks = low_rank.ranks_by_share(net, task, self.share)
        else:
            # Which ranks keep the energy is known when the weights are.
            ranks = low_rank.least_ranks(net, task)
        if not ranks:
            return blueprint, blueprint
        divided = blueprint.edited(LOW_RANK, ranks=ranks)
        if self.by == "share":
            return divided, divided
        return divided, blueprint

    def refuses(self, blueprint: Blueprint, task: Task, ctx: Context) -> str | None:
        """Say so where no layer becomes smaller."""
        smallest, _ = self.shipped(blueprint, task, ctx)
        if self.is_done(smallest):
            return None
        return NOTHING_SMALLER

    def smaller(self, run: Run) -> ModelUpdate | None:
        """Divide layers by their singular values."""
        from automl_sr_plugins.structured_pruning import low_rank, nets

        net, blueprint = nets.plain_form(run)
        if self.by == "share":
            ranks = low_rank.ranks_by_share(net, run.task, self.share)
        else:
            ranks = low_rank.ranks_by_energy(net, run.task, self.energy)
        if not ranks:
            raise TrialError(f"The pruning {NOTHING_SMALLER}.")
        module = low_rank.divide_by_svd(net, ranks)
        edited = blueprint.edited(LOW_RANK, ranks=ranks)
        return ModelUpdate(module, edited, optimizer="reset", ema="reset")


class Aligned(_Pruning):
    """Let the filters that will go shrink under a growing penalty, then cut them.

    Zhang, Wang, Qin, Fu: Learning Efficient Image Super-Resolution Networks via Structure-
    Regularized Pruning (SRP), ICLR 2022, and Aligned Structured Sparsity Learning (ASSL), NeurIPS
    2021; the penalty is that of Wang et al., Neural Pruning via Growing Regularization, ICLR 2021.
    Ratios by curvature follow the public GReg-2 in the place of GASSL's HAIR (TPAMI 2023), of which
    no code is known.
    """

    name = "aligned"
    asked_only = True
    edits: ClassVar = {
        CUT: Edit(f"{FAMILY}.cutting:narrow"),
        WEIGHT_NORM: Edit(f"{FAMILY}.weight_norm:wrap", after=(CUT,)),
    }

    ratio: Annotated[
        float, Float(0.1, 0.7), Field(ge=0, lt=1, description="share of the channels that go")
    ] = 0.3
    alignment: Literal["shared_random", "weight_norm"] = Field(
        "weight_norm",
        description="how layers that are added to each other agree: by chance, the same for all"
        " (SRP), or by learnt scales that are pulled to the same filters (ASSL)",
    )
    ratios: Literal["uniform", "curvature"] = Field(
        "uniform", description="every layer loses the same share, or flat ones more (GReg-2)"
    )
    floor: Annotated[
        int,
        Fixed(),
        Int(2, 16),
        When(ratios=["curvature"]),
        Field(ge=1, le=512, description="channels that a layer keeps at least"),
    ] = 4
    multiple: Multiple = 1
    at: Annotated[
        float,
        Float(0.1, 0.25),
        Field(gt=0, le=0.25, description="share of the training before any penalty"),
    ] = 0.2
    align: Annotated[
        float,
        Float(0.02, 0.15),
        When(alignment=["weight_norm"]),
        Field(gt=0, le=0.15, description="share in which scales are pulled together"),
    ] = 0.1
    pull: Annotated[
        float,
        Float(0.01, 10.0, log=True),
        When(alignment=["weight_norm"]),
        Field(ge=0, le=1000, description="weight of the loss that pulls them"),
    ] = 1.0
    probe: Annotated[
        float,
        Fixed(),
        Float(0.02, 0.1),
        When(ratios=["curvature"]),
        Field(gt=0, le=0.1, description="share in which all filters are under a small penalty"),
    ] = 0.05
    grow: Annotated[
        float,
        Float(0.1, 0.3),
        Field(gt=0, le=0.3, description="share in which the penalty grows"),
    ] = 0.2
    settle: Annotated[
        float,
        Float(0.05, 0.15),
        Field(gt=0, le=0.15, description="share in which it stays at its height"),
    ] = 0.1
    ceiling: Annotated[
        float, Float(0.1, 1.0), Field(gt=0, le=100, description="height of the penalty")
    ] = 0.5
    every: Annotated[
        int, Fixed(), Int(5, 50), Field(ge=1, le=1000, description="steps between two raises")
    ] = 5

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Train the whole net, put filters under a penalty, cut them, and fine-tune what is left.

        No net is compared at rungs before it is cut.
        """
        stretches = [Stretch("whole", self.at)]
        if self.ratios == "curvature":
            stretches.append(
                Stretch("probe", self.probe, enters=(self.note_sizes,), wraps=(self.probing,))
            )
        if self.alignment == "weight_norm":
            stretches.append(
                Stretch("align", self.align, enters=(self.count,), wraps=(self.pulling,))
            )
        stretches.append(
            Stretch("grow", self.grow, enters=(self.count, self.choose), wraps=(self.growing,))
        )
        stretches.append(Stretch("settle", self.settle, wraps=(self.settling,)))

        # The first stretch after the whole net begins with the form that is regularised.
        first = stretches[1]
        enters = (self.prepare, *first.enters)
        stretches[1] = first._replace(enters=enters, resets=True)
        rest = 1 - sum(stretch.share for stretch in stretches)
        last = Stretch("pruned", rest, enters=(self.smaller,), resets=True, rung=True)
        before = [stretch._replace(comparable=False) for stretch in stretches]
        return divided(phases, before, last)

    def bounds(self, blueprint: Blueprint, task: Task, ctx: Context) -> Bounds:
        """Return the net with fewer channels; by curvature, the fewest that it can keep."""
        from automl_sr_plugins.structured_pruning import nets

        floor = None
        if self.ratios == "curvature":
            floor = self.floor
        return nets.bounds_by_ratio(
            nets.without(blueprint, WEIGHT_NORM),
            task,
            ctx,
            ratio=self.ratio,
            multiple=self.multiple,
            floor=floor,
        )

    def prepare(self, run: Run) -> ModelUpdate | None:
        """Take the form that ships, with a scale for each filter where scales are pulled."""
        from automl_sr_plugins.structured_pruning import nets, weight_norm

        net, blueprint = nets.plain_form(run)
        groups = nets.cuttable(blueprint, run.task, run.context)
        if self.alignment == "weight_norm":
            layers = weight_norm.layers_of(net, groups)
            blueprint = blueprint.edited(WEIGHT_NORM, layers=layers)
            net = weight_norm.wrap(net, layers=layers)
        if blueprint == run.blueprint:
            return None
        return ModelUpdate(net, blueprint, optimizer="reset", ema="reset")

    def note_sizes(self, run: Run) -> None:
        """Remember how large filters are before all of them are under a penalty."""
        from automl_sr_plugins.structured_pruning import growing

        for number, group in enumerate(self.groups(run)):
            run.state[f"{BEFORE}{number}"] = growing.sizes(run.model, group)

    def count(self, run: Run) -> None:
        """Decide, once, how many channels each group keeps."""
        from automl_sr_plugins.structured_pruning import cutting, growing

        if KEPT in run.state:
            return
        groups = self.groups(run)
        run.state[KEPT] = cutting.kept_of_each(groups, self.ratio, self.multiple)
        if self.ratios == "uniform":
            return

        # What is under the same penalty shrinks less where the loss is steeper.
        left = []
        for number, group in enumerate(groups):
            before = run.state.pop(f"{BEFORE}{number}")
            left.append(growing.share_left(run.model, group, before))
        run.state[KEPT] = cutting.kept_globally(left, self.ratio, self.floor, self.multiple)

    def choose(self, run: Run) -> None:
        """Choose the channels that will go, the same ones in all layers of a group."""
        from automl_sr_plugins.structured_pruning import cutting, growing

        groups = self.groups(run)
        kept = run.state.pop(KEPT)
        dropped = []
        for group, count in zip(groups, kept, strict=True):
            scores = growing.sizes(run.model, group)
            if self.alignment == "shared_random" and len(group.filters) > 1:
                scores = growing.by_chance(group, run.generator("aligned", group.name))
            dropped.append(cutting.lowest(scores, count))
        run.state[DROPPED] = dropped

    def smaller(self, run: Run) -> ModelUpdate | None:
        """Cut the chosen channels, and merge scales into weights."""
        from automl_sr_plugins.structured_pruning import nets, weight_norm

        net = weight_norm.merge(run.copy_model())
        plain = nets.without(run.blueprint, WEIGHT_NORM)
        update = nets.cut_update(net, plain, self.groups(run), run.state.pop(DROPPED))
        if update is None and plain != run.blueprint:
            return ModelUpdate(net, plain, optimizer="reset", ema="reset")
        return update

    def probing(self, step: TrainStep, run: Run) -> TrainStep:
        """Put all filters under a small penalty that grows."""
        from automl_sr_plugins.structured_pruning import growing

        groups = self.groups(run)
        everything = [list(range(group.count)) for group in groups]
        strength = functools.partial(self.strength, height=PROBE * self.ceiling)
        return growing.under_penalty(step, run, groups, everything, strength)

    def pulling(self, step: TrainStep, run: Run) -> TrainStep:
        """Pull the scales of layers that are added to each other to the same filters."""
        from automl_sr_plugins.structured_pruning import growing

        if KEPT not in run.state:
            return step  # the phase is being entered; once it is, the step is composed again
        groups = self.groups(run)
        removed = []
        for group, count in zip(groups, run.state[KEPT], strict=True):
            removed.append(group.count - count)
        return growing.pulled_together(step, run, groups, removed, self.pull)

    def growing(self, step: TrainStep, run: Run) -> TrainStep:
        """Put the chosen filters under a penalty that grows."""
        from automl_sr_plugins.structured_pruning import growing

        if DROPPED not in run.state:
            return step  # the phase is being entered; once it is, the step is composed again
        dropped = run.state[DROPPED]
        strength = functools.partial(self.strength, height=self.ceiling)
        return growing.under_penalty(step, run, self.groups(run), dropped, strength)

    def settling(self, step: TrainStep, run: Run) -> TrainStep:
        """Keep the chosen filters under the whole penalty."""
        from automl_sr_plugins.structured_pruning import growing

        dropped = run.state[DROPPED]
        return growing.under_penalty(
            step, run, self.groups(run), dropped, functools.partial(full, height=self.ceiling)
        )

    def strength(self, run: Run, height: float) -> float:
        """Return the penalty at a step: raised every few steps, at its height in the end."""
        span = run.span
        if span is None or span.phase.continued:
            return height
        raises = max(1, span.steps // self.every)
        done = (run.step - span.start) // self.every + 1
        return height * min(1.0, done / raises)

    def groups(self, run: Run) -> list[Group]:
        """Return the groups of channels of the net, whatever form its filters have now."""
        from automl_sr_plugins.structured_pruning import nets

        plain = nets.without(run.blueprint, WEIGHT_NORM)
        _, groups = nets.outlined(plain, run.task, run.context)
        return groups


KEPT = "aligned.kept"
DROPPED = "aligned.dropped"
BEFORE = "aligned.before."
PROBE = 0.02
"""The penalty under which curvature shows is so much of the one under which filters vanish: the
public GReg-2 has 0.01 against 0.5 to 1.
"""


def full(run: Run, height: float) -> float:
    """Return the penalty at its height, whatever the step."""
    return height


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the ways of pruning of this family."""
    return [L1, Aligned, Similarity, LowRank]
