"""What structured pruning promises: nets that are really smaller, cut where nothing is lost by it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr.api import Blueprint, Slot, Technique
from automl_sr.errors import TrialError
from automl_sr.evaluation.cost import count_macs, count_params
from automl_sr.evaluation.layers import layers
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import installed
from automl_sr.testing.observing import Trace, assert_same, cost_of
from automl_sr.testing.tiny import (
    TinyNet,
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run
from automl_sr_plugins.reference import (
    BSRN,
    CARNM,
    DRRN,
    ECBSR,
    EDSR,
    ESPCN,
    FSRCNN,
    IDN,
    IMDN,
    PAN,
    RDN,
    RLFN,
    SAFMN,
    SESR,
    SPAN,
    SRCNN,
    MSRResNet,
    PlainUSR,
    SwinIRLight,
)
from automl_sr_plugins.structured_pruning import L1, WEIGHT_NORM, Aligned, LowRank, Similarity
from automl_sr_plugins.structured_pruning.channels import Group, Role, groups_of
from automl_sr_plugins.structured_pruning.cutting import (
    Cut,
    kept_globally,
    kept_of,
    l1_scores,
    lowest,
    rounded,
    zero_channels,
)
from automl_sr_plugins.structured_pruning.growing import alignment, sizes
from automl_sr_plugins.structured_pruning.low_rank import divide_by_svd, ranks_by_energy
from automl_sr_plugins.structured_pruning.weight_norm import layers_of, merge, wrap

STEPS = 40


def net_of(technique: Technique, scale: int = 2, color: str = "y") -> nn.Module:
    """Return an architecture as it ships, with weights that are all alive."""
    blueprint, _ = blueprint_of(technique, scale, color)
    torch.manual_seed(0)
    net = build(blueprint, installed()).eval()
    with torch.no_grad():
        for value in net.parameters():
            # So large that a channel deep inside is seen in the output.
            value.copy_(torch.randn_like(value) / math.sqrt(value[0].numel()))
    return net


def blueprint_of(technique: Technique, scale: int = 2, color: str = "y") -> tuple[Blueprint, Any]:
    task = tiny_task(scale=scale, color=color)  # type: ignore[arg-type]
    blueprint = technique.blueprint(task, None)  # type: ignore[arg-type]
    blueprint, _ = technique.shipped(blueprint, task, None)  # type: ignore[arg-type]
    return blueprint, task


def groups_in(technique: Technique, scale: int = 2, color: str = "y") -> list[Group]:
    blueprint, task = blueprint_of(technique, scale, color)
    with torch.device("meta"):
        net = build(blueprint, installed())
    return groups_of(net, task)


def trial_of(
    technique: Technique, folder: Path, net: Technique | None = None, **options: Any
) -> TinyTrial:
    members = in_pipeline_order([technique, net or EDSR(width=8, blocks=1)])
    settings = {"steps": STEPS, "recipe": tiny_recipe(), **options}
    registry = contract_registry([])
    return TinyTrial(registry, tiny_task(), tiny_samples(), members, folder=folder, **settings)


def dropping(groups: list[Group], number: int, channels: list[int]) -> list[list[int]]:
    dropped: list[list[int]] = [[] for _ in groups]
    dropped[number] = channels
    return dropped


# ---- where channels lie ------------------------------------------------------------------------

EVERYDAY = [
    EDSR(width=8, blocks=1, tail="full"),
    MSRResNet(width=8, blocks=1),
    FSRCNN(d=8, s=6, m=1),
    DRRN(width=8, units=2),
    RLFN(blocks=1),
]
OTHERS = [
    *(cls() for cls in (SRCNN, ESPCN, IDN, IMDN, RDN, PAN, BSRN, CARNM, SAFMN)),
    *(cls() for cls in (SESR, ECBSR, SPAN, PlainUSR)),
    EDSR(reparam="edge"),
    FSRCNN(reparam="linear"),
    SwinIRLight(width=24, stages=1, depth=2),
]
CASES = [
    *(pytest.param(net, id=net.name) for net in EVERYDAY),
    *(pytest.param(net, id=net.name, marks=pytest.mark.ci) for net in OTHERS),
]


@pytest.mark.parametrize("color", ["y", pytest.param("rgb", marks=pytest.mark.ci)])
@pytest.mark.parametrize("technique", CASES)
def test_channels_without_weights_can_be_cut_and_nothing_changes(
    technique: Technique, color: str
) -> None:
    """In every group of every architecture: where it is cut, nothing else is."""
    whole = net_of(technique, 4, color)
    groups = groups_in(technique, 4, color)
    channels = tiny_task(color=color).dims()["channels"]  # type: ignore[arg-type]
    image = torch.rand(1, channels, 11, 9)
    tried = 0
    with torch.no_grad():
        before = whole(image)
        for number, group in enumerate(groups):
            if group.count == 1:
                continue
            net = copy.deepcopy(whole)
            gone = list(range(1, group.count))
            zero_channels(net, group, gone)
            wanted = net(image)
            assert not torch.equal(wanted, before), group.name

            smaller = Cut.of(net, groups, dropping(groups, number, gone)).apply(net)
            assert count_params(smaller) < count_params(whole)
            found = smaller(image)
            assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max(), group.name
            tried += 1
    assert tried > 0


def test_a_channel_behind_a_pixel_shuffle_goes_with_its_whole_block() -> None:
    technique = MSRResNet(width=8, blocks=1)
    [group] = [group for group in groups_in(technique, 3) if group.name == "upconv1.weight"]
    [filters] = group.filters
    assert group.count == 8
    assert group.indices(filters, 2) == list(range(18, 27))
    [reader] = group.having(Role.READER)
    assert (reader.tensor, group.indices(reader, 2)) == ("conv_hr.weight", [2])


def test_what_is_added_to_each_other_is_one_group() -> None:
    groups = {group.name: group for group in groups_in(EDSR(width=8, blocks=2))}
    stream = groups["conv_first.weight"]
    together = {place.tensor for place in stream.filters}
    assert together == {
        "conv_first.weight",
        "body.0.conv2.weight",
        "body.1.conv2.weight",
        "conv_after_body.weight",
    }
    assert set(groups) == {"conv_first.weight", "body.0.conv1.weight", "body.1.conv1.weight"}


def test_a_shared_weight_is_cut_once(tmp_path: Path) -> None:
    run = trial_of(L1(ratio=0.5), tmp_path, DRRN(width=8, units=3)).walk(Trace())
    shapes = {name: tuple(value.shape) for name, value in run.model.named_parameters()}
    assert shapes == {
        "input.weight": (4, 1, 3, 3),
        "conv1.weight": (4, 4, 3, 3),
        "conv2.weight": (4, 4, 3, 3),
        "output.weight": (1, 4, 3, 3),
    }


class Stubborn(nn.Module):
    """A net whose channels all pass something that looks at several of them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.tail = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.grouped(self.head(image)).softmax(dim=1)
        return functional.pixel_shuffle(self.tail(hidden), 2)


class StubbornNet(TinyNet):
    """A net that cannot be cut; made for this test in 2026."""

    name = "stubborn"
    factories = {"test.stubborn": Stubborn}  # noqa: RUF012

    def blueprint(self, task: Any, ctx: Any) -> Blueprint:
        return Blueprint("test.stubborn")


def test_a_net_of_which_nothing_can_be_removed_is_refused_in_words(tmp_path: Path) -> None:
    trial = trial_of(L1(), tmp_path, StubbornNet())
    trial = replace(trial, registry=contract_registry([StubbornNet]))
    technique = trial.techniques[-1]
    context = trial.context(technique)
    blueprint = Blueprint("test.stubborn")
    words = "cannot cut this net: each of its channels is read by something"
    assert words in str(technique.refuses(blueprint, trial.task, context))
    assert technique.shipped(blueprint, trial.task, context) == (blueprint, blueprint)
    with pytest.raises(TrialError, match=words):
        trial.walk(Trace())


# ---- how many, and which -----------------------------------------------------------------------


def test_all_but_one_channel_can_go_and_never_all() -> None:
    assert kept_of(16, 0.0, 1) == 16
    assert kept_of(16, 0.3, 1) == 16 - 5
    assert kept_of(16, 0.99, 1) == 1
    assert kept_of(1, 0.9, 1) == 1


def test_counts_are_rounded_so_that_something_goes() -> None:
    assert rounded(32, 22, 8) == 24
    assert rounded(32, 30, 8) == 24
    assert rounded(32, 32, 8) == 32
    assert rounded(6, 4, 8) == 4, "no multiple fits"


def test_a_global_ranking_is_by_layer_means_and_keeps_a_floor() -> None:
    loud = torch.tensor([100.0, 300.0, 200.0, 200.0])
    soft = torch.tensor([0.1, 0.1, 0.1, 3.7])
    assert kept_globally([loud, soft], 0.375, 1, 1) == [4, 1], "three of the soft ones are weakest"
    assert kept_globally([loud, soft], 0.375, 2, 1) == [3, 2]
    assert kept_globally([100 * loud, soft], 0.375, 2, 1) == [3, 2]


def test_the_smallest_filters_go_over_all_layers_of_a_group() -> None:
    technique = EDSR(width=8, blocks=1)
    net = net_of(technique)
    stream = groups_in(technique)[0]
    with torch.no_grad():
        for place in stream.filters:
            net.get_parameter(place.tensor)[[2, 5]] *= 0.01
        # Small in one layer alone: the others outweigh that.
        net.get_parameter("conv_first.weight")[0] = 0
    assert lowest(l1_scores(net, stream), 6) == [2, 5]


# ---- what comes of it --------------------------------------------------------------------------


def test_without_a_ratio_the_net_is_what_it_was(tmp_path: Path) -> None:
    trial = trial_of(L1(ratio=0.0), tmp_path)
    run = trial.walk(Trace())
    plain = trial.architecture.blueprint(trial.task, trial.context(trial.architecture))
    assert run.blueprint == plain
    assert trial.shippable() == (plain, plain)


def test_half_of_the_channels_are_a_quarter_of_the_body() -> None:
    technique = EDSR(width=64, blocks=16, tail="full", skip="none")
    net = net_of(technique)
    groups = groups_in(technique)
    whole = count_params(net.body)
    dropped = [list(range(32)) for _ in groups]
    smaller = Cut.of(net, groups, dropped).apply(net)
    conv = 32 * 32 * 9 + 32
    assert count_params(smaller.body) == 32 * conv  # type: ignore[arg-type]
    assert count_params(smaller.body) / whole == pytest.approx(0.25, abs=0.001)  # type: ignore[arg-type]
    with torch.no_grad():
        assert smaller(torch.rand(2, 1, 7, 5)).shape == (2, 1, 14, 10)


def test_multiply_adds_are_those_of_the_formula(tmp_path: Path) -> None:
    trial = trial_of(L1(ratio=0.5), tmp_path, EDSR(width=8, blocks=2))
    blueprint, largest = trial.shippable()
    assert blueprint == largest
    net = trial.context(trial.architecture).outline(blueprint)
    wanted = 0
    height, width = 0, 0
    for layer in layers(net, trial.task):
        _, height, width = layer.output_shape
        weight = net.get_parameter(layer.weight)
        wanted += weight.numel() * height * width
    sizes_of = [tuple(net.get_parameter(layer.weight).shape) for layer in layers(net, trial.task)]
    assert sizes_of == [(4, 1, 3, 3)] + 5 * [(4, 4, 3, 3)] + [(4, 4, 3, 3)]
    skip = 25 * 4 * height * width
    assert count_macs(net, trial.task.cost_example(net)) == wanted + skip


TECHNIQUES = [
    pytest.param(L1(), id="l1"),
    pytest.param(L1(scope="global"), id="l1-global", marks=pytest.mark.ci),
    pytest.param(Similarity(), id="similarity", marks=pytest.mark.ci),
    pytest.param(LowRank(), id="low_rank", marks=pytest.mark.ci),
    pytest.param(Aligned(), id="aligned"),
    pytest.param(
        Aligned(alignment="shared_random", ratios="curvature"),
        id="aligned-srp",
        marks=pytest.mark.ci,
    ),
]


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize(
    "net",
    [
        pytest.param(EDSR(width=8, blocks=1), id="plain", marks=pytest.mark.ci),
        pytest.param(EDSR(width=8, blocks=1, reparam="linear"), id="wide"),
    ],
)
def test_the_gate_knows_what_ships_and_a_killed_run_ships_the_same(
    technique: Technique, net: Technique, tmp_path: Path
) -> None:
    """Also of a net that is trained wide, which is folded when it is cut."""
    trial = trial_of(technique, tmp_path / "whole", net)
    trace = Trace()
    finished = trial.shipped(trial.walk(trace))
    interrupted = trial_of(technique, tmp_path / "parts", net).train_interrupted()
    assert_same(interrupted.capture().tensors, trace.snapshot)

    smallest, largest = trial.shippable()
    low, high = trial.untrained_cost(smallest), trial.untrained_cost(largest)
    for name, value in cost_of(finished).items():
        assert low[name] <= value <= high[name] + 1024 * (name == "size_bytes"), name
    plain = count_params(net_of(net))
    assert count_params(finished.module) < plain
    if not isinstance(technique, L1 | Aligned) or smallest == largest:
        assert count_params(finished.module) == low["params"]


def test_a_penalty_comes_before_the_cut_and_training_after_it(tmp_path: Path) -> None:
    table = trial_of(Aligned(), tmp_path).timetable()
    names = [span.phase.name for span in table.spans]
    assert names == [f"train {part}" for part in ("whole", "align", "grow", "settle", "pruned")]
    assert [span.phase.rung for span in table.spans] == [False] * 4 + [True]


@pytest.mark.parametrize("technique", [L1(), Aligned(at=0.1, align=0.02, grow=0.1, settle=0.05)])
def test_no_net_is_compared_before_it_is_cut(technique: Technique, tmp_path: Path) -> None:
    table = trial_of(technique, tmp_path, steps=4000).timetable()
    points = table.branches(4, 2)
    assert [point.rung for point in points] == [2, 3], "0 and 1 lie before the cut"
    assert all(point.step > table.spans[-1].start for point in points)


def test_layers_of_one_group_keep_the_same_channels(tmp_path: Path) -> None:
    """Also where they are chosen by chance, which the trial's seed decides."""
    technique = Aligned(alignment="shared_random", ratio=0.5)
    dropped = []
    for name in ("one", "again"):
        trial = trial_of(technique, tmp_path / name)
        run = until_cut(trial)
        dropped.append(run.state["aligned.dropped"])
    assert dropped[0] == dropped[1]

    groups = technique.groups(run)
    cut = Cut.of(run.model, groups, dropped[0])
    together = [cut.kept[place.tensor, 0] for place in groups[0].filters]
    assert len(together) == 3
    assert together == 3 * [together[0]]
    assert len(together[0]) == 4


def until_cut(trial: TinyTrial) -> Run:
    """Train up to the step before which the net is cut."""
    setup = trial.setup()
    run = Run.start(setup, trial._blueprint())
    while run.step < setup.timetable.spans[-1].start:
        run.advance()
    return run


# ---- aligned -----------------------------------------------------------------------------------


def test_aligned_masks_have_the_least_loss() -> None:
    mask = torch.zeros(16)
    mask[[1, 4, 6, 9, 15]] = 1
    assert alignment(mask.repeat(6, 1)) == pytest.approx(-5.0)
    found = []
    for seed in range(50):
        numbers = torch.Generator().manual_seed(seed)
        soft = torch.stack([mask[torch.randperm(16, generator=numbers)] for _ in range(6)])
        pairs = (soft @ soft.T).mean()
        assert alignment(soft) == pytest.approx(-float(pairs), abs=1e-5)
        found.append(float(pairs))
    assert sum(found) / 50 == pytest.approx(2.14, abs=0.1)


def test_scales_leave_the_net_as_it_is() -> None:
    technique = EDSR(width=8, blocks=2)
    net = net_of(technique)
    groups = groups_in(technique)
    names = list(net.state_dict())
    image = torch.rand(1, 1, 9, 7)
    with torch.no_grad():
        before = net(image)
        paths = layers_of(net, groups)
        assert len(paths) == 6, "all but the last layer, whose channels stay"
        wrapped = wrap(net, layers=paths)
        assert count_params(wrapped) == count_params(net_of(technique)) + 6 * 8
        tolerance = 1e-6 * before.abs().max()
        assert (wrapped(image) - before).abs().max() < tolerance
        merged = merge(wrapped)
        assert sorted(merged.state_dict()) == sorted(names)
        assert (merged(image) - before).abs().max() < tolerance


def quality(net: nn.Module) -> float:
    """Return the PSNR in dB on crops."""
    numbers = torch.Generator().manual_seed(0)
    batch = tiny_task().draw(tiny_samples(), numbers, batch=32, patch=24)
    with torch.no_grad():
        error = (net.eval()(batch.inputs) - batch.target).square().mean()
    return -10 * math.log10(float(error))


def lost_at_the_cut(technique: L1 | Aligned, folder: Path) -> tuple[float, list[float]]:
    """Return by how much the cut lowers the PSNR, and the size of what goes relative to the rest."""
    recipe = Recipe(batch=2, patch=16, precision="fp32", ema=0.0, lr=3e-3)
    trial = trial_of(technique, folder, steps=400, recipe=recipe)
    run = until_cut(trial)
    ratios = []
    if isinstance(technique, Aligned):
        for group, gone in zip(technique.groups(run), run.state["aligned.dropped"], strict=True):
            found = sizes(run.model, group)
            kept = [channel for channel in range(group.count) if channel not in gone]
            ratios.append(float(found[gone].mean() / found[kept].mean()))
    before = quality(run.copy_model())
    update = technique.smaller(run)
    assert update is not None
    assert update.model is not None
    return before - quality(update.model), ratios


@pytest.mark.ci
@pytest.mark.parametrize(
    "alignment",
    ["shared_random", pytest.param("weight_norm", marks=pytest.mark.ci)],
)
def test_a_growing_penalty_takes_from_filters_what_they_do(alignment: Any, tmp_path: Path) -> None:
    """Less is lost when they are cut than by a cut of the smallest filters."""
    one_shot, _ = lost_at_the_cut(L1(ratio=0.4, at=0.6), tmp_path / "l1")
    technique = Aligned(
        ratio=0.4, alignment=alignment, align=0.05, at=0.15, grow=0.25, settle=0.15, every=2
    )
    grown, ratios = lost_at_the_cut(technique, tmp_path / "grown")
    assert max(ratios) < 0.01
    assert grown < 0.02
    assert one_shot > grown + 0.05


def test_filters_that_shrink_are_the_flat_ones(tmp_path: Path) -> None:
    """By curvature another layer may lose more than another one; how much in all is the ratio."""
    technique = Aligned(ratio=0.4, ratios="curvature", alignment="shared_random", floor=2)
    run = until_cut(trial_of(technique, tmp_path, steps=60))
    counts = [len(gone) for gone in run.state["aligned.dropped"]]
    assert sum(counts) == math.ceil(0.4 * 16)
    assert not any(key.startswith("aligned.before") for key in run.state)


@pytest.mark.ci
@pytest.mark.parametrize("technique", [Aligned(), Similarity(), LowRank()])
def test_nets_for_three_channels_are_cut_too(technique: Technique, tmp_path: Path) -> None:
    trial = replace(trial_of(technique, tmp_path), task=tiny_task(color="rgb"))
    finished = trial.shipped(trial.walk(Trace()))
    smallest, largest = trial.shippable()
    assert smallest == largest == finished.blueprint
    assert cost_of(finished) == trial.untrained_cost(smallest)


def test_the_cut_net_has_plain_weights(tmp_path: Path) -> None:
    trial = trial_of(Aligned(), tmp_path)
    run = until_cut(trial)
    assert WEIGHT_NORM in [name for name, _ in run.blueprint.edits]
    run.advance()
    assert [name for name, _ in run.blueprint.edits] == ["structured_pruning.cut"]
    assert "conv_first.weight" in run.model.state_dict()


# ---- low rank ----------------------------------------------------------------------------------


def test_at_full_rank_a_divided_net_computes_the_same() -> None:
    net = net_of(EDSR(width=8, blocks=1))
    image = torch.rand(1, 1, 9, 7)
    with torch.no_grad():
        before = net(image)
        divided = divide_by_svd(net, {"body.0.conv1": 8, "conv_after_body": 8})
        assert (divided(image) - before).abs().max() < 1e-5


def test_the_error_of_a_rank_is_what_its_singular_values_leave() -> None:
    net = net_of(EDSR(width=8, blocks=1))
    weight = net.get_parameter("body.0.conv1.weight").detach().flatten(1).double()
    values = torch.linalg.svdvals(weight)
    divided = divide_by_svd(net, {"body.0.conv1": 3})
    front = divided.get_parameter("body.0.conv1.0.weight").detach().flatten(1).double()
    back = divided.get_parameter("body.0.conv1.1.weight").detach().flatten(1).double()
    error = (back @ front - weight).square().sum()
    assert error == pytest.approx(float(values[3:].square().sum()), rel=1e-4)


def test_ranks_by_energy_are_the_least_that_keep_it() -> None:
    net = net_of(EDSR(width=8, blocks=1))
    weight = net.get_parameter("body.0.conv1.weight").detach().flatten(1).double()
    squares = torch.linalg.svdvals(weight).square()
    rank = ranks_by_energy(net, tiny_task(), 0.7)["body.0.conv1"]
    assert squares[:rank].sum() >= 0.7 * squares.sum() > squares[: rank - 1].sum()


def test_what_would_not_become_smaller_is_refused_in_words(tmp_path: Path) -> None:
    technique = LowRank(share=1.0)
    trial = trial_of(technique, tmp_path)
    blueprint = trial.architecture.blueprint(trial.task, trial.context(trial.architecture))
    context = trial.context(technique)
    assert "cannot divide" in str(technique.refuses(blueprint, trial.task, context))
    assert LowRank(share=0.4).refuses(blueprint, trial.task, context) is None
    with pytest.raises(TrialError, match="no convolution becomes smaller"):
        trial.walk(Trace())


# ---- declaration -------------------------------------------------------------------------------


def test_they_are_in_the_slot_of_pruning_and_only_l1_is_searched_unasked() -> None:
    registry = installed()
    known = registry.techniques[Slot.PRUNING]
    assert {"l1", "aligned", "similarity", "low_rank"} <= set(known)
    assert not known["l1"].asked_only
    assert all(known[name].asked_only for name in ("aligned", "similarity", "low_rank"))
