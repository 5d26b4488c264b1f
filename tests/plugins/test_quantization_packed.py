"""Weights of few bits: what grids and codebooks promise, which layers get which, and what ships."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from automl_sr.compression.onnx_file import load_onnx
from automl_sr.compression.packing import is_packed
from automl_sr.errors import ExportError, TrialError
from automl_sr.evaluation.layers import layers
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.plugin.technique import Technique
from automl_sr.testing.tiny import (
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.run import Run, TrainedModel
from automl_sr.trial.ship import ship
from automl_sr_plugins.quantization import (
    FixedPoint,
    HalfPrecision,
    Int8PTQ,
    Integer,
    Vector,
    codebook,
)
from automl_sr_plugins.quantization.grids import (
    Grid,
    binary_point,
    bits_by_layer,
    plain_integers,
    scaled_integers,
    set_point,
)
from automl_sr_plugins.reference import EDSR, FSRCNN, SwinIRLight

FILTERS, SPREAD = 64, 16


def filters() -> Tensor:
    """64 filters of a convolution, the largest 16 times as large as the smallest."""
    numbers = torch.Generator().manual_seed(0)
    sizes = torch.logspace(0, math.log10(SPREAD), FILTERS) / SPREAD
    return torch.randn(FILTERS, 32, 3, 3, generator=numbers) * sizes[:, None, None, None] * 0.1


GRIDS: dict[str, Callable[[Tensor], Grid]] = {
    "integer of 4 bits, tensor": lambda weight: scaled_integers(weight, 4, "tensor", 0),
    "integer of 4 bits, channel": lambda weight: scaled_integers(weight, 4, "channel", 0),
    "integer of 2 bits, channel": lambda weight: scaled_integers(weight, 2, "channel", 0),
    "fixed point of 5 bits, tensor": lambda weight: binary_point(weight, 5, "tensor", 0),
    "fixed point of 5 bits, channel": lambda weight: binary_point(weight, 5, "channel", 0),
    "fixed point with 6 bits behind the point": lambda weight: set_point(weight, 6),
    "integers themselves": lambda weight: plain_integers(4),
}
grids = pytest.mark.parametrize("grid_of", GRIDS.values(), ids=GRIDS)


def sqnr(weight: Tensor, rounded: Tensor) -> float:
    """Signal to quantization noise in dB."""
    noise = (weight - rounded).double().square().mean()
    return float(10 * torch.log10(weight.double().square().mean() / noise))


@grids
def test_rounding_twice_is_rounding_once(grid_of: Callable[[Tensor], Grid]) -> None:
    weight = filters()
    grid = grid_of(weight)
    once = grid.round(weight)
    assert torch.equal(grid.round(once), once)


@grids
def test_rounding_keeps_the_order_and_zero(grid_of: Callable[[Tensor], Grid]) -> None:
    weight = filters()
    grid = grid_of(weight)
    flat = weight.reshape(FILTERS, -1).sort(dim=1).values
    ordered = grid.round(flat.reshape(weight.shape)).reshape(FILTERS, -1)
    assert (ordered.diff(dim=1) >= 0).all()
    assert not grid.round(torch.zeros_like(weight)).any()


@grids
def test_inside_the_range_the_error_is_half_a_step_at_most(
    grid_of: Callable[[Tensor], Grid],
) -> None:
    weight = filters()
    grid = grid_of(weight)
    within = (weight >= grid.low * grid.scale) & (weight <= grid.high * grid.scale)
    error = (weight - grid.round(weight)).abs()
    half = (0.5 * grid.scale).expand_as(weight)
    assert within.double().mean() > 0.97
    assert (error <= half * (1 + 1e-5))[within].all()


@grids
def test_there_are_no_more_values_than_bits_can_number(grid_of: Callable[[Tensor], Grid]) -> None:
    weight = filters()
    grid = grid_of(weight)
    assert grid.high - grid.low < 2**grid.bits
    for channel in grid.round(weight):
        assert len(channel.unique()) <= 2**grid.bits


def test_a_scale_for_each_channel_is_worth_seven_decibels() -> None:
    """The card's filters: 35.7 and 42.7 dB with eight bits."""
    weight = filters()
    for bits in (4, 8):
        by_tensor, by_channel = (
            sqnr(weight, scaled_integers(weight, bits, per, 0).round(weight))
            for per in ("tensor", "channel")
        )
        assert by_channel > by_tensor + 5


def test_each_bit_behind_the_point_is_worth_six_decibels() -> None:
    weight = filters()
    values = [sqnr(weight, set_point(weight, bits).round(weight)) for bits in (6, 8, 10)]
    for fewer, more in itertools.pairwise(values):
        assert more - fewer == pytest.approx(2 * 6.02, abs=0.5)


def test_a_word_is_as_long_as_the_largest_weight_needs() -> None:
    assert set_point(torch.tensor([0.3, -0.1]), 6).bits == 6  # -0.5 to 0.5: no bit but the sign
    assert set_point(torch.tensor([3.2, -0.1]), 6).bits == 9
    assert set_point(torch.tensor([700.0]), 12).bits == 16
    step = float(set_point(torch.tensor([700.0]), 12).scale)
    assert step == 2.0**-5, "too large for sixteen bits: fewer lie behind the point"


def test_the_point_lies_where_the_largest_weight_of_a_channel_needs_it() -> None:
    weight = torch.tensor([[0.9, 0.1], [0.12, -0.11]])[:, :, None, None]
    by_channel = binary_point(weight, 4, "channel", 0)
    assert by_channel.scale.flatten().tolist() == [2.0**-3, 2.0**-6]
    assert binary_point(weight, 4, "tensor", 0).scale.tolist() == [2.0**-3]


def test_taken_literally_rounding_to_integers_zeroes_a_net() -> None:
    weight = filters()
    assert not plain_integers(8).round(weight).any()


def test_a_layer_of_zeros_stays_one() -> None:
    zeros = torch.zeros(2, 3, 3, 3)
    for grid_of in GRIDS.values():
        rounded = grid_of(zeros).round(zeros)
        assert torch.equal(rounded, zeros)


# ---- codebooks ----


def test_a_codebook_with_an_entry_for_each_value_reproduces_the_weight() -> None:
    numbers = torch.Generator().manual_seed(1)
    values = torch.randn(16, generator=numbers)
    weight = values[torch.randint(16, (8, 4, 3, 3), generator=numbers)]
    centres = codebook.codebook(weight, 16, 1, numbers)
    assert torch.equal(codebook.decoded(weight, centres), weight)


@pytest.mark.parametrize("block", [1, 2, 9])
def test_more_entries_are_nearer(block: int) -> None:
    weight = filters()[:8]
    errors = []
    for entries in (4, 16, 64):
        centres = codebook.codebook(weight, entries, block, torch.Generator().manual_seed(0))
        assert centres.shape == (entries, block)
        errors.append(sqnr(weight, codebook.decoded(weight, centres)))
    assert errors == sorted(errors)
    assert errors[-1] > errors[0] + 3


def test_k_means_is_nearer_than_the_entries_that_it_begins_with() -> None:
    weight = filters()[:8]
    first = weight.flatten()[torch.randperm(weight.numel())[:16]][:, None]
    centres = codebook.codebook(weight, 16, 1, torch.Generator().manual_seed(0))
    found = sqnr(weight, codebook.decoded(weight, centres))
    assert found > sqnr(weight, codebook.decoded(weight, first))
    # The card: 17.5 dB with sixteen entries, where four bits on one grid have 11.3.
    assert found > sqnr(weight, scaled_integers(weight, 4, "tensor", 0).round(weight)) + 3


# ---- which layer gets what ----


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> TinyTrial:
    """A residual net, trained for a few steps."""
    torch.set_num_threads(1)
    net = EDSR(width=8, blocks=2)
    recipe = tiny_recipe().model_copy(update={"batch": 4, "lr": 2e-3})
    return TinyTrial(
        contract_registry([EDSR]),
        tiny_task(),
        tiny_samples(),
        in_pipeline_order([net]),
        40,
        tmp_path_factory.mktemp("packed"),
        recipe,
    )


@pytest.fixture(scope="module")
def state(trial: TinyTrial) -> dict[str, Tensor]:
    """Its weights after a short training."""
    return trial.train().evaluation_state()


def shipped(
    trial: TinyTrial,
    state: dict[str, Tensor],
    folder: Path,
    technique: Technique | None = None,
) -> TrainedModel:
    """Ship the trained weights, quantized by a technique."""
    run = Run.start(trial.setup(), trial._blueprint())
    run.model.load_state_dict(state)
    run.ema = None
    pipeline = list(trial.techniques)
    if technique is not None:
        pipeline.append(technique)
    return ship(run.finish(folder), pipeline, trial.context(trial.architecture))


def file_of(finished: TrainedModel) -> Path:
    assert finished.onnx is not None
    return finished.onnx


def test_bits_are_given_by_place(
    trial: TinyTrial, state: dict[str, Tensor], tmp_path: Path
) -> None:
    found = layers(shipped(trial, state, tmp_path).module, trial.task)
    names = [layer.weight for layer in found]
    whole = bits_by_layer(found, 8, (4,), 6)
    assert whole == {names[0]: 8, **dict.fromkeys(names[1:-1], 4), names[-1]: 6}
    in_parts = [bits_by_layer(found, 8, (5, 3), 6)[name] for name in names]
    half = len(names[1:-1]) / 2
    assert in_parts == [8, *[5] * math.ceil(half), *[3] * math.floor(half), 6]
    each = tuple(range(2, 2 + len(names) - 2))
    assert [bits_by_layer(found, 16, each, 16)[name] for name in names[1:-1]] == list(each)


def test_parts_and_their_bits_have_to_agree() -> None:
    with pytest.raises(ValidationError, match="body_bits has 1 numbers, and body_parts is 3"):
        Integer(body_parts=3)


PSNR_CLOSE = 0.01


def psnr_of(path: Path) -> float:
    """PSNR against the photographs that it was trained on."""
    runner = OnnxModel(path)
    samples = tiny_samples()
    errors = []
    for index in range(len(samples)):
        small = samples.lr.image(index).float()[None, :1].numpy() / 255
        large = samples.hr.image(index).float()[None, :1].numpy() / 255
        errors.append(np.square(runner(small) - large)[..., 4:-4, 4:-4].mean())
    return float(np.mean(-10 * np.log10(errors)))


@pytest.mark.parametrize("kind", [Integer, pytest.param(FixedPoint, marks=pytest.mark.ci)])
def test_the_error_grows_with_each_bit_less_and_sixteen_change_nothing(
    kind: type[Integer | FixedPoint],
    trial: TinyTrial,
    state: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    plain = shipped(trial, state, tmp_path / "float")
    example = np.random.default_rng(0).random((1, 1, 20, 16), dtype=np.float32)
    wanted = OnnxModel(file_of(plain))(example)
    errors = []
    sizes = []
    for bits in (16, 6, 4, 2):
        technique = kind(first_bits=bits, body_bits=(bits,), last_bits=bits)
        finished = shipped(trial, state, tmp_path / str(bits), technique)
        found = OnnxModel(file_of(finished))(example)
        errors.append(float(np.abs(found - wanted).max()))
        sizes.append(file_of(finished).stat().st_size)
        if bits == 16:
            assert psnr_of(file_of(finished)) == pytest.approx(
                psnr_of(file_of(plain)), abs=PSNR_CLOSE
            )
    assert errors[0] < 1e-3
    assert errors == sorted(errors)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_half_precision_changes_nothing_that_is_seen(
    trial: TinyTrial, state: dict[str, Tensor], tmp_path: Path
) -> None:
    plain = shipped(trial, state, tmp_path / "float")
    halves = shipped(trial, state, tmp_path / "halves", HalfPrecision())
    assert is_packed(file_of(halves))
    assert file_of(halves).stat().st_size < 0.75 * file_of(plain).stat().st_size
    assert psnr_of(file_of(halves)) == pytest.approx(psnr_of(file_of(plain)), abs=PSNR_CLOSE)


def test_the_size_of_a_codebook_is_what_the_formula_says(
    trial: TinyTrial, state: dict[str, Tensor], tmp_path: Path
) -> None:
    finished = shipped(trial, state, tmp_path, Vector(entries=16, block=1, keep_float="none"))
    stored = {tensor.name: tensor for tensor in load_onnx(file_of(finished)).graph.initializer}
    packed = 0
    for layer in layers(finished.module, trial.task):
        if f"{layer.weight}.entries" not in stored:
            continue  # it stays plain where that is smaller
        packed += 1
        parts = [stored[f"{layer.weight}.{part}"] for part in ("entries", "planes")]
        weights = finished.module.get_parameter(layer.weight).numel()
        told = sum(len(part.raw_data) for part in parts)
        assert told == codebook.bytes_of(weights, 16, 1)
    assert packed >= 5


def test_layers_for_which_a_codebook_is_too_large_stay_in_float_and_are_named(
    trial: TinyTrial, state: dict[str, Tensor], tmp_path: Path
) -> None:
    plain = shipped(trial, state, tmp_path / "float")
    technique = Vector(entries=256, block=4, keep_float="none")
    finished = shipped(trial, state, tmp_path / "vector", technique)
    first = layers(plain.module, trial.task)[0]
    assert any(first.name in note for note in finished.notes)
    before = plain.module.get_parameter(first.weight)
    assert torch.equal(finished.module.get_parameter(first.weight), before)


@pytest.mark.parametrize(
    "net",
    [
        FSRCNN(d=8, s=6, m=1),
        EDSR(width=8, blocks=1, reparam="edge"),
        pytest.param(SwinIRLight(width=12, stages=1, depth=2, heads=2), marks=pytest.mark.ci),
    ],
    ids=["a transposed convolution", "a net trained wide", "linear layers"],
)
@pytest.mark.parametrize("technique", [Integer(), Vector(entries=16, block=2, keep_float="none")])
def test_all_kinds_of_layers_ship_packed(
    net: Technique,
    technique: Technique,
    tmp_path: Path,
) -> None:
    other = TinyTrial(
        contract_registry([type(net)]),
        tiny_task(),
        tiny_samples(),
        in_pipeline_order([net]),
        4,
        tmp_path,
        tiny_recipe(),
    )
    run = Run.start(other.setup(), other._blueprint())
    finished = ship(
        run.finish(tmp_path), [*other.techniques, technique], other.context(other.architecture)
    )
    names = [layer.weight for layer in layers(finished.module, other.task)]
    rounded = 0
    for name in names:
        values = finished.module.get_parameter(name).unique()
        rounded += len(values) < finished.module.get_parameter(name).numel()
    assert rounded >= 2
    assert is_packed(file_of(finished))


def test_a_net_without_layers_is_refused_in_words(
    trial: TinyTrial, state: dict[str, Tensor], tmp_path: Path
) -> None:
    finished = replace(shipped(trial, state, tmp_path), module=nn.PixelShuffle(1))
    for technique in (Integer(), FixedPoint(), Vector(), HalfPrecision()):
        with pytest.raises(TrialError, match="no layer whose weights could be rounded"):
            technique.compress(finished, trial.context(technique))


def test_nothing_is_packed_before_it_is_exported(
    trial: TinyTrial, state: dict[str, Tensor], tmp_path: Path
) -> None:
    finished = replace(shipped(trial, state, tmp_path), onnx=None)
    with pytest.raises(ExportError, match="Nothing was exported"):
        Integer().export(finished, trial.context(Integer()))


def test_skips_in_float_are_nearer_to_the_float_model(
    trial: TinyTrial, state: dict[str, Tensor], tmp_path: Path
) -> None:
    plain = shipped(trial, state, tmp_path / "float")
    example = np.random.default_rng(0).random((1, 1, 20, 16), dtype=np.float32)
    wanted = OnnxModel(file_of(plain))(example)
    errors = {}
    for skips in ("int8", "float"):
        technique = Int8PTQ(samples=8, skips=skips)
        finished = shipped(trial, state, tmp_path / skips, technique)
        errors[skips] = float(np.square(OnnxModel(file_of(finished))(example) - wanted).mean())
    assert errors["float"] < errors["int8"]


def test_a_plan_from_before_skips_could_be_chosen_means_the_same() -> None:
    assert "skips" not in Int8PTQ().dump()
    assert Int8PTQ(skips="float").dump()["skips"] == "float"
