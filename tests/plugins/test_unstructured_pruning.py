"""Prunings of single weights do what their sources say, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pruning_toys import OnlyScored
from torch import Tensor, nn

from automl_sr.compression.packing import is_packed, unpack_weights
from automl_sr.errors import TrialError
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import installed
from automl_sr.plugin.technique import Technique
from automl_sr.testing.tiny import (
    TinyNet,
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.run import Run, continued
from automl_sr_plugins.reference import EDSR, SESR, MSRResNet
from automl_sr_plugins.reference.reparam import Wide
from automl_sr_plugins.unstructured_pruning import NM, DUPru, Shrink, UPru
from automl_sr_plugins.unstructured_pruning import learnt as sls
from automl_sr_plugins.unstructured_pruning.body import body, problem
from automl_sr_plugins.unstructured_pruning.groups import mask_of, order_of, rows
from automl_sr_plugins.unstructured_pruning.masks import BANDS, masks_of
from automl_sr_plugins.unstructured_pruning.rounds import FIRST

BODY = ["conv1.weight", "conv2.weight"]
"""What may be pruned of the contract's net."""
ENDS = ["head.weight", "tail.weight"]
SIZE = 8 * 8 * 9
"""Weights of each layer of its body."""


def trial_of(
    technique: Technique,
    folder: Path,
    *,
    steps: int = 20,
    net: Technique | None = None,
    **task: Any,
) -> TinyTrial:
    techniques = in_pipeline_order([technique, net or TinyNet()])
    return TinyTrial(
        registry=contract_registry([type(item) for item in techniques]),
        task=tiny_task(**task),
        data=tiny_samples(),
        techniques=techniques,
        steps=steps,
        folder=folder,
        recipe=tiny_recipe(),
    )


def begun(trial: TinyTrial) -> Run:
    architecture = trial.architecture
    return Run.start(trial.setup(), architecture.blueprint(trial.task, trial.context(architecture)))


def stepped(trial: TinyTrial) -> Iterator[Run]:
    """Train the trunk step by step, and leave its last phase."""
    run = begun(trial)
    while run.step < trial.timetable().trunk_steps:
        run.advance()
        yield run
    run.leave_phase()
    yield run


def weight_of(run: Run, name: str) -> Tensor:
    return run.model.get_parameter(name).detach().clone()


def zeros_in(weights: dict[str, Tensor], name: str) -> int:
    return int((weights[name] == 0).sum())


# ---- 1: what prunes nothing is plain training ----


@pytest.mark.parametrize(
    "technique",
    [UPru(rate=0), UPru(rounds=1), DUPru(rate=0, eps=0), DUPru(rounds=1, eps=0)],
    ids=lambda technique: f"{technique.name}-{technique.rate}-{technique.rounds}",
)
def test_without_a_rate_or_a_second_round_it_is_plain_training(
    technique: Technique, tmp_path: Path
) -> None:
    plain = trial_of(OnlyScored(), tmp_path / "plain").train()
    pruned = trial_of(technique, tmp_path / "pruned").train()
    assert pruned.setup.timetable.signature() == plain.setup.timetable.signature()
    wanted = plain.capture().tensors
    found = pruned.capture().tensors
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def test_what_prunes_nothing_is_one_plan_however_it_is_said() -> None:
    once = UPru(rate=0, scope="global").canonical()
    assert once == UPru(rounds=1, rate=0.1, rewind=0.05, keep="last").canonical()
    assert UPru().canonical() == UPru()


def test_without_a_band_the_dynamic_one_is_the_plain_one_bit_for_bit(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"rounds": 3, "rate": 0.2, "rewind": 0.05}
    plain = trial_of(UPru(**fields), tmp_path / "plain").train().capture()
    dynamic = trial_of(DUPru(**fields, eps=0), tmp_path / "dynamic").train().capture()
    banded = trial_of(DUPru(**fields, eps=1.0), tmp_path / "banded").train().capture()
    assert plain.tensors.keys() == dynamic.tensors.keys()
    for name, value in plain.tensors.items():
        assert torch.equal(dynamic.tensors[name], value), name
    assert not torch.equal(
        plain.tensors["model|conv1.weight"], banded.tensors["model|conv1.weight"]
    )


# ---- 2: masks ----


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_masks_only_shrink_and_each_pruning_takes_its_share(scope: Any, tmp_path: Path) -> None:
    technique = UPru(rounds=4, rate=0.15, scope=scope, keep="last")
    trial = trial_of(technique, tmp_path)
    starts = [span.start for span in trial.timetable().spans]
    seen: list[dict[str, Tensor]] = []
    for run in stepped(trial):
        if run.step - 1 in starts and run.span is not None and run.step - 1 == run.span.start:
            seen.append(masks_of(run.state))

    assert len(seen) == 4
    differ = False
    for prunings, masks in enumerate(seen):
        assert list(masks) == BODY
        wanted = 1 - (1 - 0.15) ** prunings
        counts = [int((~masks[name]).sum()) for name in BODY]
        if scope == "layer":
            assert counts == [pytest.approx(wanted * SIZE, abs=1)] * 2
        assert sum(counts) == pytest.approx(wanted * 2 * SIZE, abs=2)
        differ = differ or counts[0] != counts[1]
        if prunings:
            for name in BODY:
                assert not (masks[name] & ~seen[prunings - 1][name]).any()
    assert differ is (scope == "global")


def test_the_smallest_of_those_left_are_dropped(tmp_path: Path) -> None:
    technique = UPru(rounds=3, rate=0.2, keep="last")
    trial = trial_of(technique, tmp_path)
    run = begun(trial)
    second, third = trial.timetable().spans[1:]
    while run.step < third.start:
        run.advance()
    assert run.span == second
    before = weight_of(run, "conv1.weight")
    left = masks_of(run.state)["conv1.weight"]
    run.advance()
    still_left = masks_of(run.state)["conv1.weight"]
    dropped = left & ~still_left
    assert int(dropped.sum()) > 0
    assert before[dropped].abs().max() <= before[still_left].abs().min()


# ---- 3: steps ----


@pytest.mark.parametrize(
    "technique",
    [UPru(rounds=2, rate=0.2, keep="last"), DUPru(rounds=2, rate=0.2, eps=0.5, keep="last")],
    ids=["upru", "dupru"],
)
def test_no_step_moves_what_is_pruned_or_within_the_band(
    technique: Technique, tmp_path: Path
) -> None:
    trial = trial_of(technique, tmp_path)
    run = begun(trial)
    starts = [span.start for span in trial.timetable().spans]
    held = 0
    moved = 0
    while run.step < trial.timetable().trunk_steps:
        entering = run.step in starts
        before = {name: weight_of(run, name) for name in BODY}
        run.advance()
        for name, mask in masks_of(run.state).items():
            weight = weight_of(run, name)
            assert not weight[~mask].any()
            if entering:
                continue
            still = ~mask | (before[name].abs() < run.state[BANDS][name])
            assert torch.equal(weight[still], before[name][still])
            held += int(still.sum())
            moved += int((weight[~still] != before[name][~still]).sum())
            average = run.moments(name)["exp_avg"]
            assert not average[still].any()
    assert held > 0
    assert moved > 0


def test_what_is_held_does_not_count_for_the_norm_of_the_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(trial_of(DUPru(rounds=2, eps=0.5), tmp_path))
    run.advance()
    clipped: list[int] = []
    real = nn.utils.clip_grad_norm_

    def look(parameters: Any, most: float) -> Tensor:
        for name in BODY:
            weight = run.model.get_parameter(name)
            band = weight.detach().abs() < run.state[BANDS][name]
            assert weight.grad is not None
            assert not weight.grad[band].any()
            assert weight.grad[~band].any()
            clipped.append(int(band.sum()))
        return real(parameters, most)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", look)
    run.advance()
    assert min(clipped) > SIZE / 10


def test_a_step_moves_a_weight_by_what_adam_remembers_unless_that_is_cleared(
    tmp_path: Path,
) -> None:
    """A weight that is held keeps no momentum for the time when it is free again."""
    run = begun(trial_of(UPru(rounds=2), tmp_path))
    run.advance()
    moments = run.moments("conv1.weight")
    assert moments["exp_avg"].any()
    moments["exp_avg"].zero_()
    assert not run.optimizers.state()["main|conv1.weight|exp_avg"].any()
    assert run.moments("no.weight") == {}


def test_the_band_is_in_deviations_of_the_first_weights(tmp_path: Path) -> None:
    run = begun(trial_of(DUPru(eps=0.1), tmp_path))
    for name in BODY:
        deviation = float(weight_of(run, name).std(correction=0))
        assert run.state[BANDS][name] == pytest.approx(0.1 * deviation)


# ---- 4: rewinding ----


@pytest.mark.parametrize("rewind", [0.0, 0.4])
def test_every_round_begins_with_the_same_weights(rewind: float, tmp_path: Path) -> None:
    technique = UPru(rounds=3, rate=0.2, rewind=rewind, keep="last")
    trial = trial_of(technique, tmp_path)
    run = begun(trial)
    first = {name: value.clone() for name, value in run.model.state_dict().items()}
    spans = trial.timetable().spans
    *begins, second, third = spans
    assert len(begins) == (2 if rewind else 1)
    if rewind:
        while run.step < begins[1].start:
            run.advance()
        drawn, first = (
            first,
            {name: value.clone() for name, value in run.model.state_dict().items()},
        )
        assert not torch.equal(drawn["conv1.weight"], first["conv1.weight"])

    for again in (second, third):
        while run.step < again.start:
            run.advance()
        run.leave_phase()
        run._enter(again)
        masks = masks_of(run.state)
        assert not all(mask.all() for mask in masks.values())
        for name, value in run.model.state_dict().items():
            wanted = first[name]
            if name in masks:
                wanted = wanted * masks[name]
            assert torch.equal(value, wanted), name
        assert run.moments("conv1.weight") == {}
        assert run.ema is not None
        assert torch.equal(run.ema.values["conv1.weight"], run.model.get_parameter("conv1.weight"))
    assert run.constants[FIRST].keys() == first.keys()


def test_rounds_are_equally_long_and_fit_into_the_trials_steps(tmp_path: Path) -> None:
    trial = trial_of(UPru(rounds=4, rewind=0.05), tmp_path, steps=1000)
    start, *rounds = trial.timetable().spans
    lengths = {span.steps for span in rounds}
    assert max(lengths) - min(lengths) <= 1
    assert start.steps == pytest.approx(0.05 / 0.95 * rounds[0].steps, abs=1)
    assert rounds[-1].stop == trial.timetable().trunk_steps == 900
    assert [span.phase.rung for span in trial.timetable().spans] == [False, True, True, True, True]


# ---- which round ships ----


@pytest.mark.parametrize(
    ("scores", "best"), [([30.0, 32.0, 31.0], 2), ([30.0, 31.0, 31.0], 3), ([33.0, 32.0, 31.0], 1)]
)
def test_the_best_round_ships_and_of_equal_ones_the_sparser(
    scores: list[float], best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(scores)
    scored: list[dict[str, Tensor]] = []

    def score(run: Run) -> float:
        scored.append(run.evaluation_state())
        return next(told)

    monkeypatch.setattr(Run, "score", score)
    trial = trial_of(UPru(rounds=3, rate=0.2), tmp_path)
    *_, run = stepped(trial)
    ended = run.evaluation_state()
    for name, value in scored[best - 1].items():
        assert torch.equal(ended[name], value), name
    assert not [key for key in run.state if "kept" in key], "later checkpoints are without it"

    told = iter(scores)
    branch = trial.train()
    wanted = SIZE - round(0.8 ** (best - 1) * SIZE)
    for name in BODY:
        assert zeros_in(branch.evaluation_state(), name) == wanted
    notes = trial.shipped(branch).notes
    assert f"round {best} of 3" in notes[0]
    assert f"{2 * wanted:,} of 1,152 weights" in notes[0]


def test_the_last_round_ships_where_that_is_asked(tmp_path: Path) -> None:
    trial = trial_of(UPru(rounds=3, rate=0.2, keep="last"), tmp_path)
    finished = trial.shipped(trial.train())
    for name in BODY:
        assert zeros_in(dict(finished.module.named_parameters()), name) == SIZE - round(0.64 * SIZE)


def test_what_is_pruned_stays_zero_where_training_goes_on_later(tmp_path: Path) -> None:
    trial = trial_of(UPru(rounds=2, rate=0.5, keep="last"), tmp_path)
    *_, run = stepped(trial)
    snapshot = run.capture()
    longer = Run.go_on(continued(trial.setup(), snapshot, 10), snapshot)
    before = weight_of(longer, "conv1.weight")
    for _ in range(4):
        longer.advance()
    after = weight_of(longer, "conv1.weight")
    assert torch.equal(after == 0, before == 0)
    assert int((after == 0).sum()) == SIZE / 2
    assert not torch.equal(after, before)


# ---- 5: N of M ----


def test_a_group_lies_along_the_input_channels_of_one_place() -> None:
    weight = torch.arange(2 * 8 * 3 * 3).reshape(2, 8, 3, 3).float()
    assert torch.equal(rows(weight, 4)[0], weight[0, :4, 0, 0])
    assert torch.equal(rows(weight, 4)[1], weight[0, 4:, 0, 0])
    assert torch.equal(rows(weight, 4)[2], weight[0, :4, 0, 1])


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 8), (5, 8)])
def test_exactly_n_of_every_m_are_left_and_they_are_the_largest(n: int, m: int) -> None:
    torch.manual_seed(n)
    weight = torch.randn(6, 16, 3, 3).round(decimals=1)  # some are equal
    mask = rows(mask_of(weight, n, m), m)
    assert (mask.sum(1) == n).all()
    sizes = rows(weight.abs(), m)
    smallest_left = sizes.masked_fill(~mask, 9).min(1).values
    largest_dropped = sizes.masked_fill(mask, -1).max(1).values
    assert (largest_dropped <= smallest_left).all()


@pytest.mark.parametrize("technique", [NM(n=1), NM(mode="learnt", budget=0.5)], ids=["one", "own"])
def test_what_ships_has_n_of_m_in_every_group(technique: NM, tmp_path: Path) -> None:
    trial = trial_of(technique, tmp_path)
    module = trial.shipped(trial.train()).module
    shares = []
    for name in BODY:
        counts = {int(count) for count in (rows(module.get_parameter(name), 4) != 0).sum(1)}
        assert len(counts) == 1
        shares.append(counts.pop() / 4)
    wanted = 0.25 if technique.mode == "uniform" else technique.budget
    assert sum(shares) / 2 <= wanted
    assert min(shares) >= 0.25
    for name in ENDS:
        assert module.get_parameter(name).all()


def test_with_all_scores_at_one_the_layer_is_dense() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(8, 8, 3)
    scores = sls.Scores(1, 4)
    order = order_of(convolution.weight, 4)
    mask = sls.mask_by_units(scores.units(0), order, convolution.weight)
    image = torch.randn(1, 8, 6, 6)
    masked = convolution._conv_forward(image, convolution.weight * mask, convolution.bias)
    assert torch.equal(masked, convolution(image))
    assert scores.left() == [4]


def test_n_never_grows_when_a_score_falls() -> None:
    torch.manual_seed(1)
    scores = sls.Scores(1, 8)
    for _ in range(50):
        with torch.no_grad():
            scores.scores[0].uniform_(0.6, 1.1)
        before = scores.left()[0]
        place = int(torch.randint(7, ()))
        with torch.no_grad():
            scores.scores[0][place] -= 0.3
        assert scores.left()[0] <= before


def test_units_are_turned_off_from_the_smallest_weights_on_and_scores_learn_from_them() -> None:
    scores = sls.Scores(1, 4)
    with torch.no_grad():
        scores.scores[0].copy_(torch.tensor([1.0, 0.4, 1.0]))
    assert scores.units(0).tolist() == [1, 1, 0, 0], "the third product is 0.4 too"
    weight = torch.tensor([0.1, -0.4, 0.2, 0.3]).reshape(1, 4, 1, 1)
    mask = sls.mask_by_units(scores.units(0), order_of(weight, 4), weight)
    assert mask.flatten().tolist() == [0, 1, 0, 1]
    (mask * weight.abs()).sum().backward()
    gradient = scores.scores[0].grad
    assert gradient is not None
    assert gradient.all(), "units that are off learn too"


def test_its_costs_are_the_multiply_adds_that_hooks_count(tmp_path: Path) -> None:
    run = begun(trial_of(NM(mode="learnt"), tmp_path, net=MSRResNet(width=8, blocks=1)))
    counted: dict[str, int] = {}

    def count(part: nn.Module, _: Any, output: Tensor) -> None:
        name = f"{names[part]}.weight"
        counted[name] = output[0, 0].numel() * part.weight.numel()

    with torch.device("meta"):
        meta = build(run.blueprint, run.context.registry)
    names = {part: name for name, part in meta.named_modules()}
    for part in names:
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(count)
    meta(run.task.cost_example(meta))
    found = body(run.model, run.task)
    macs = [sls.macs_of(layer, run.model.get_parameter(layer.weight)) for layer in found]
    assert macs == [counted[layer.weight] for layer in found]
    assert sls.share_left([4] * len(macs), macs, 4) == 1
    assert sls.share_left([2] * len(macs), macs, 4) == 0.5


def test_the_budget_is_kept_to_where_learning_ends_too_early() -> None:
    scores = sls.Scores(2, 4)
    with torch.no_grad():
        scores.scores[0].fill_(0.9)
    assert sls.within(scores, [100, 100], 4, 0.75) == [2, 4], "the least sure go first"
    assert sls.within(scores, [100, 300], 4, 0.25) == [1, 1]
    assert sls.within(scores, [100, 300], 4, 1.0) == [4, 4]


def test_scores_and_weights_are_learnt_until_the_budget_is_reached(tmp_path: Path) -> None:
    trial = trial_of(NM(mode="learnt", budget=0.6, start=0.1), tmp_path, steps=120)
    run = begun(trial)
    learning = trial.timetable().spans[1]
    while run.step < learning.stop - 1:
        run.advance()
    scores = run.train_step.aux[sls.SCORES]
    assert isinstance(scores, sls.Scores)
    progress = run.state[sls.PROGRESS]
    assert progress["frozen"]
    assert progress["shares"][-1] <= 0.6
    frozen = scores.left()
    run.advance()
    assert scores.left() == frozen
    assert run.model.get_parameter("conv1.weight").all(), "they may come back until it ends"


def test_as_many_as_there_are_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="n must be below m"):
        NM(n=4, m=4)
    assert NM(mode="learnt", n=4, m=4).canonical().n == 2, "it means nothing there"
    assert NM(mode="learnt", budget=0.06, m=8).canonical().budget == 1 / 8


# ---- 6: what stays dense ----


@pytest.mark.parametrize(
    ("technique", "color"),
    [
        (UPru(rounds=2, rate=0.5, keep="last"), "y"),
        (NM(), "rgb"),
        pytest.param(UPru(rounds=2, rate=0.5, keep="last"), "rgb", marks=pytest.mark.ci),
        pytest.param(Shrink(), "rgb", marks=pytest.mark.ci),
        pytest.param(Shrink(), "y", marks=pytest.mark.ci),
    ],
    ids=str,
)
def test_head_up_sampling_and_tail_stay_dense(
    technique: Technique, color: Any, tmp_path: Path
) -> None:
    trial = trial_of(technique, tmp_path, net=MSRResNet(width=8, blocks=1), color=color)
    module = trial.shipped(trial.train()).module
    weights = {name: value for name, value in module.named_parameters() if value.dim() > 1}
    pruned = [name for name, value in weights.items() if (value == 0).any()]
    assert pruned == ["body.0.conv1.weight", "body.0.conv2.weight"]
    for name in pruned:
        assert zeros_in(dict(module.named_parameters()), name) == SIZE / 2


def test_msrresnet_has_the_weights_to_prune_that_its_paper_has(tmp_path: Path) -> None:
    task = tiny_task(scale=4, color="rgb")
    with torch.device("meta"):
        net = build(
            MSRResNet(width=64, blocks=16).blueprint(task, None),  # type: ignore[arg-type]
            installed(),
        )
    found = body(net, task)
    assert len(found) == 32
    assert sum(net.get_parameter(layer.weight).numel() for layer in found) == 1_179_648


# ---- shrinking ----


def test_the_smallest_shrink_in_every_step_and_may_come_back_until_they_are_dropped(
    tmp_path: Path,
) -> None:
    trial = trial_of(Shrink(sparsity=0.5, until=0.5), tmp_path)
    run = begun(trial)
    soft, fixed = trial.timetable().spans
    run.advance()
    small = weight_of(run, "conv1.weight").abs()
    run.advance()
    after = weight_of(run, "conv1.weight").abs()
    smallest = small < small.median()
    assert after[smallest].mean() < small[smallest].mean()
    assert after.all()
    assert masks_of(run.state) == {}
    while run.step <= fixed.start:
        run.advance()
    assert soft.stop == fixed.start
    assert int((weight_of(run, "conv1.weight") == 0).sum()) == SIZE / 2
    assert run.ema is not None
    assert int((run.ema.values["conv1.weight"] == 0).sum()) == SIZE / 2


# ---- what ships, and what is refused ----


def test_zeros_are_left_out_of_the_file_and_can_be_put_back(tmp_path: Path) -> None:
    technique = UPru(rounds=2, rate=0.8, keep="last")
    trial = trial_of(technique, tmp_path / "pruned", net=TinyNet(width=32))
    finished = trial.shipped(trial.train())
    assert finished.onnx is not None
    assert is_packed(finished.onnx)
    plain = unpack_weights(finished.onnx, tmp_path / "plain.onnx")
    size = finished.onnx.stat().st_size
    body_bytes = 2 * 4 * 32 * 32 * 9
    assert size < plain.size_bytes - 0.7 * body_bytes
    image = torch.rand(1, 1, 9, 7).numpy()
    assert (OnnxModel(finished.onnx)(image) == OnnxModel(plain.path)(image)).all()


@pytest.mark.parametrize(
    "technique",
    [UPru(rounds=2, rate=0.5, rewind=0.4, keep="last"), NM(), Shrink()],
    ids=lambda technique: technique.name,
)
def test_a_net_that_is_trained_wide_is_pruned_in_the_form_in_which_it_ships(
    technique: Technique, tmp_path: Path
) -> None:
    net = EDSR(width=8, blocks=1, reparam="linear")
    trial = trial_of(technique, tmp_path, net=net)
    wide = build(net.blueprint(trial.task, trial.context(net)), trial.registry)
    assert any(isinstance(part, Wide) for part in wide.modules())
    finished = trial.shipped(trial.train())
    weights = dict(finished.module.named_parameters())
    for name in ("body.0.conv1.weight", "body.0.conv2.weight"):
        assert zeros_in(weights, name) == SIZE / 2
    assert zeros_in(weights, "conv_first.weight") == 0

    context = trial.context(net)
    shipped = net.shipped(net.blueprint(trial.task, context), trial.task, context)
    assert shipped == (finished.blueprint, finished.blueprint), "folded once"


def test_taking_the_form_in_which_it_ships_changes_nothing_that_a_net_computes(
    tmp_path: Path,
) -> None:
    wide = begun(trial_of(UPru(rewind=0.4), tmp_path, net=EDSR(width=8, blocks=1, reparam="edge")))
    wide.advance()
    change = wide.as_shipped()
    assert change is not None
    assert change.model is not None
    image = torch.rand(1, 1, 9, 7)
    with torch.no_grad():
        difference = (change.model(image) - wide.model(image)).abs().max()
    assert difference < 1e-6
    assert all(value.requires_grad for value in change.model.parameters())
    assert begun(trial_of(UPru(), tmp_path)).as_shipped() is None


def test_weights_that_make_up_other_weights_are_refused_in_words(tmp_path: Path) -> None:
    technique = UPru()
    trial = trial_of(technique, tmp_path)
    ctx = trial.context(technique)
    wide = SESR(m=1).blueprint(trial.task, ctx)
    words = technique.refuses(wide, trial.task, ctx)
    assert words == (
        "cannot prune its weights: this net has weights that make up another layer's"
        " ('first.expand'), so that zeros in them would not ship"
    )
    folded, _ = SESR(m=1).shipped(wide, trial.task, ctx)
    assert technique.refuses(folded, trial.task, ctx) is None
    with pytest.raises(TrialError, match="make up another layer's"):
        body(build(wide, installed()), trial.task)


def test_a_net_without_a_body_is_refused_in_words() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2)
    )
    words = problem(net, tiny_task())
    assert words == "net has no convolution between its first layer and its enlargement"


def test_groups_that_no_layer_has_are_refused_in_words(tmp_path: Path) -> None:
    technique = NM(m=32)
    trial = trial_of(technique, tmp_path)
    ctx = trial.context(technique)
    words = technique.refuses(TinyNet().blueprint(trial.task, ctx), trial.task, ctx)
    assert words == "finds no groups of 32 input channels: the convolutions have 8"
