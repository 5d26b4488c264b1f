"""Training with the roundings of the int8 file: what is simulated is what the file computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from automl_sr.errors import TrialError
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
from automl_sr.trial.ship import export_model
from automl_sr_plugins.quantization import LEARNT, ROUNDING, Int8QAT, qat
from automl_sr_plugins.quantization.qat import Call, Ranges, RoundedTensor, Rounding, Simulation
from automl_sr_plugins.quantization.rounding import PART, RoundedMap
from automl_sr_plugins.reference import DRRN, EDSR, FOLD


def trial_of(net: Technique, technique: Int8QAT, folder: Path, steps: int = 24) -> TinyTrial:
    torch.set_num_threads(1)
    # Without an average: what is simulated last is then what ships.
    recipe = tiny_recipe().model_copy(update={"ema": 0.0, "lr": 2e-3})
    return TinyTrial(
        contract_registry([type(net), Int8QAT]),
        tiny_task(),
        tiny_samples(),
        in_pipeline_order([net, technique]),
        steps,
        folder,
        recipe,
    )


@dataclass(frozen=True)
class Done:
    """A trial that has ended, and its model."""

    trial: TinyTrial
    run: Run
    finished: TrainedModel

    @property
    def rounding(self) -> Rounding:
        return Rounding.from_json(self.run.state[ROUNDING])

    @property
    def file(self) -> Path:
        assert self.finished.onnx is not None
        return self.finished.onnx


def done(net: Technique, technique: Int8QAT, folder: Path) -> Done:
    trial = trial_of(net, technique, folder)
    run = trial.train()
    return Done(trial, run, trial.shipped(run))


@pytest.fixture(scope="module", params=["int8", pytest.param("float", marks=pytest.mark.ci)])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A net of two residual blocks, all layers of which are rounded."""
    technique = Int8QAT(samples=8, share=0.4, keep_float="none", skips=request.param)
    return done(EDSR(width=8, blocks=2), technique, tmp_path_factory.mktemp("qat"))


def simulated(run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, dict[int, Tensor]]:
    """Run the model once as in training, and take note of what is rounded on the way."""
    seen: dict[int, Tensor] = {}
    rounded = qat._rounded

    def spy(current: qat._Pass, value: Tensor, number: int) -> Tensor:
        seen[number] = rounded(current, value, number)
        return seen[number]

    monkeypatch.setattr(qat, "_rounded", spy)
    with torch.no_grad():
        return run.forward(run.batch()).prediction, seen


def computed(path: Path, image: Tensor) -> Mapping[str, np.ndarray]:
    """Run an int8 file without integer kernels, which differ between processors, and give all that
    it rounds, by name.
    """
    model = onnx.load(str(path))
    rounded = {}
    made = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        before = made.get(node.input[0]) if node.input else None
        if node.op_type == "DequantizeLinear" and before is not None:
            rounded[node.output[0]] = before.input[0]
    asked = [model.graph.output[0].name, *rounded]
    for name in rounded:
        output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(output)

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    values = session.run(asked, {session.get_inputs()[0].name: image.contiguous().numpy()})
    names = ["output", *rounded.values()]
    return dict(zip(names, values, strict=True))


def test_every_map_that_the_file_rounds_is_the_simulated_one(
    trained: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for values that lie half-way between two steps; sums of two maps may have two such."""
    output, seen = simulated(trained.run, monkeypatch)
    file = computed(trained.file, trained.run.batch().inputs)
    ranges = trained.run.state[LEARNT]
    assert len(seen) == len(trained.rounding.tensors) > 10
    for number, value in seen.items():
        tensor = trained.rounding.tensors[number]
        low, high = ranges.get(tensor.name, (0.0, 1.0))
        step = (high - low) / 255
        steps = np.abs(file[tensor.name] - value.numpy()) / step
        assert steps.max() <= 2.01, tensor.name
        assert (steps < 0.01).mean() > 0.9, tensor.name
    assert np.abs(file["output"] - output.numpy()).max() < 0.2 / 255


def test_sums_read_what_the_file_lets_them_read(
    trained: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way it would differ more: this is no accident of small skips."""
    technique = trained.trial.techniques[-1]
    assert isinstance(technique, Int8QAT)
    file = computed(trained.file, trained.run.batch().inputs)["output"]

    errors = {}
    for skips in ("int8", "float"):
        other = technique.model_copy(update={"skips": skips})
        setup = replace(trained.run.setup, techniques=(*trained.trial.techniques[:-1], other))
        run = Run.restore(setup, trained.run.capture())
        # The step of the phase in which it was trained: it has ended.
        run.train_step = other.simulate(run.train_step.__class__(run.train_step.losses), run)
        ranges = run.train_step.aux[technique.name]
        ranges.load_state_dict(trained.run.train_step.aux[technique.name].state_dict())
        run._tap()
        with torch.no_grad():
            found = run.forward(run.batch()).prediction.numpy()
        errors[skips] = float(np.square(found - file).mean())
    mine = technique.skips
    [others] = set(errors) - {mine}
    assert errors[mine] < 0.5 * errors[others]


def test_the_file_has_the_ranges_that_were_learnt(trained: Done) -> None:
    graph = onnx.load(str(trained.file)).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scales = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scales[node.input[0]] = float(stored[node.input[1]])
    moved = 0
    for tensor in trained.rounding.tensors:
        if not tensor.learnt:
            assert scales[tensor.name] == pytest.approx(1 / 255)  # an image's 256 levels
            continue
        low, high = trained.run.state[LEARNT][tensor.name]
        assert scales[tensor.name] == pytest.approx((high - low) / 255, rel=1e-4)
        moved += (low, high) != pytest.approx((tensor.low, tensor.high), rel=1e-4)
    assert moved > 5


def test_ranges_begin_as_they_were_calibrated() -> None:
    tensors = (
        RoundedTensor("signed", -0.5, 0.7, learnt=True),
        RoundedTensor("rectified", 0.0, 3.0, learnt=True),
        RoundedTensor("above zero", 1.0, 2.0, learnt=True),
        RoundedTensor("zeros", 0.0, 0.0, learnt=True),
        RoundedTensor("input", 0.0, 1.0, learnt=False),
    )
    found = Ranges(tensors).by_name(tensors)
    step = 1.2 / 255
    assert found["signed"] == pytest.approx([-0.5, 0.7], abs=step)
    assert found["rectified"] == pytest.approx([0.0, 3.0])
    assert found["above zero"] == pytest.approx([0.0, 2.0]), "a range holds zero"
    assert found["zeros"][0] == 0
    assert "input" not in found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
def test_rounding_has_the_gradients_of_torchs_own(
    layout: torch.memory_format, number_format: torch.dtype
) -> None:
    numbers = torch.Generator().manual_seed(0)
    shape = (2, 8, 80, 65)  # several parts, the last one shorter
    value = torch.randn(shape, generator=numbers).to(number_format).to(memory_format=layout)
    assert value.numel() > PART
    assert value.numel() % PART
    value.requires_grad_()
    given = torch.randn(shape, generator=numbers).to(number_format)
    scale = torch.tensor([0.01], requires_grad=True)
    zero = torch.tensor([120.3], requires_grad=True)

    own = RoundedMap.apply(value, scale, zero, 0.01, 120, 0.1)  # type: ignore[no-untyped-call]
    wanted = torch._fake_quantize_learnable_per_tensor_affine(
        value.float(), scale, zero, 0, 255, 0.1
    ).to(number_format)
    assert torch.equal(own, wanted)
    assert own.stride() == value.stride()

    learnt = (value, scale, zero)
    mine = torch.autograd.grad(own, learnt, given)
    theirs = torch.autograd.grad(wanted, learnt, given)
    assert torch.equal(mine[0], theirs[0])
    for one, other in zip(mine[1:], theirs[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_net_trained_wide_is_rounded_as_it_ships(tmp_path: Path) -> None:
    net = EDSR(width=8, blocks=1, reparam="edge")
    found = done(net, Int8QAT(samples=4, share=0.4), tmp_path)
    edits = [name for name, _ in found.finished.blueprint.edits]
    assert edits == [FOLD]
    assert len(found.rounding.calls) == 3  # but for the first and the last layer
    trunk = found.run.setup
    assert not Run.start(trunk, found.trial._blueprint()).blueprint.edits, "the trunk stays wide"


def test_layers_that_stay_in_float_are_not_rounded(tmp_path: Path) -> None:
    calls = {}
    for keep in ("none", "first_last"):
        trial = trial_of(EDSR(width=8, blocks=1), Int8QAT(samples=2, keep_float=keep), tmp_path)
        run = Run.start(trial.setup(), trial._blueprint())
        Int8QAT(samples=2, keep_float=keep).begin(run)
        calls[keep] = list(Rounding.from_json(run.state[ROUNDING]).calls)
    assert calls["first_last"] == calls["none"][1:-1]


def test_a_layer_that_is_called_repeatedly_is_rounded_by_call(tmp_path: Path) -> None:
    technique = Int8QAT(samples=2, keep_float="none")
    trial = trial_of(DRRN(width=8, units=3), technique, tmp_path)
    run = Run.start(trial.setup(), trial._blueprint())
    technique.begin(run)
    rounding = Rounding.from_json(run.state[ROUNDING])
    repeated = [calls for calls in rounding.calls.values() if len(calls) == 3]
    assert len(repeated) == 2
    for calls in repeated:
        assert len({call.gives for call in calls}) == 3


def test_a_layer_that_training_calls_in_another_way_is_named() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))
    tensors = (RoundedTensor("between", -1.0, 1.0, learnt=True),)
    once = Call(reads=0, gives=0, bias_apart=False)
    rounding = Rounding(tensors, {"0": (once, once)})
    simulation = Simulation(rounding, Ranges(tensors), weight_bits=7, skips="int8")
    with pytest.raises(TrialError, match="'0' is called 0 times in training and 2 times"):
        simulation.whole(net, torch.zeros(1, 1, 4, 4))


def test_where_nothing_would_be_rounded_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    technique = Int8QAT(samples=2)
    trial = trial_of(EDSR(width=8, blocks=1), technique, tmp_path)
    run = Run.start(trial.setup(), trial._blueprint())
    monkeypatch.setattr(qat, "layers", lambda *_: [])
    with pytest.raises(TrialError, match="No layer would be rounded in training"):
        technique.begin(run)


def test_a_model_that_was_not_trained_ships_with_calibrated_ranges(
    trained: Done, tmp_path: Path
) -> None:
    state = {key: value for key, value in trained.finished.state.items() if key != LEARNT}
    technique = trained.trial.techniques[-1]
    context = trained.trial.context(technique)
    before = export_model(replace(trained.finished, state=state), tmp_path / "model.onnx")
    assert technique.export(before, context).onnx != before.onnx
