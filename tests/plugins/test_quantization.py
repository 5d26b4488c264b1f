"""What int8 quantization ships: which layers are integer, and how little it changes images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from automl_sr.compression.export import layer_nodes
from automl_sr.errors import ExportError
from automl_sr.plugin.technique import inactive_fields
from automl_sr.tasks.image_sr.batches import to_color
from automl_sr.testing.tiny import (
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr_plugins.quantization import Int8PTQ
from automl_sr_plugins.quantization.int8 import fixed_kernel_layers, float_layers
from automl_sr_plugins.reference import EDSR, ESPCN, FSRCNN

NETS = {
    "espcn": ESPCN(width=16),
    "edsr": EDSR(width=8, blocks=2),
    "fsrcnn": FSRCNN(d=16, s=8, m=1),
    "espcn without a skip": ESPCN(width=16, skip="none"),
}


@pytest.fixture(scope="module", params=NETS)
def finished(request, tmp_path_factory):
    """A float model of a short training, exported."""
    torch.set_num_threads(1)
    recipe = tiny_recipe().model_copy(update={"batch": 8, "lr": 2e-3})
    net = NETS[request.param]
    folder = tmp_path_factory.mktemp("trial")
    registry = contract_registry([type(net), Int8PTQ])
    trial = TinyTrial(
        registry, tiny_task(), tiny_samples(), in_pipeline_order([net]), 120, folder, recipe
    )
    return trial, trial.shipped(trial.train())


def int8_of(finished, **fields):
    trial, model = finished
    technique = Int8PTQ(samples=16, **fields)
    return technique.export(model, trial.context(technique))


def run_onnx(path, image, exact=False):
    """Run a file; exactly, without integer kernels, it gives the same image on processors whose
    8-bit sums overflow.
    """
    options = onnxruntime.SessionOptions()
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def psnr_against_photographs(path, exact=False) -> float:
    samples = tiny_samples()
    errors = []
    for index in range(len(samples)):
        lr, hr = (
            to_color(store.image(index), "y")[None].numpy() for store in (samples.lr, samples.hr)
        )
        output = run_onnx(path, lr, exact)[..., 4:-4, 4:-4]
        errors.append(np.mean(np.square(np.rint(output * 255) / 255 - hr[..., 4:-4, 4:-4])))
    return float(np.mean(-10 * np.log10(errors)))


def integer_weights(path) -> list[np.ndarray]:
    """The weights that are stored as int8."""
    stored = onnx.load(str(path)).graph.initializer
    arrays = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in stored
        if tensor.data_type == onnx.TensorProto.INT8
    ]
    return [array for array in arrays if array.ndim == 4]


def integer_layers(path) -> set[str]:
    """Nodes whose weights are stored as int8."""
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    found = set()
    for name, _ in layer_nodes(path):
        node = next(node for node in graph.node if node.name == name)
        source = made.get(node.input[1])
        if source is not None and source.op_type == "DequantizeLinear":
            assert stored[source.input[0]] == onnx.TensorProto.INT8
            found.add(name)
    return found


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize("keep_float", ["last", "first_last"])
def test_eight_bits_cost_at_most_a_tenth_of_a_decibel(finished, method, keep_float):
    float_psnr = psnr_against_photographs(finished[1].onnx)
    allowed = 0.1 if method == "minmax" else 0.3  # clipped ranges trade outliers for resolution
    int8 = int8_of(finished, method=method, keep_float=keep_float, percentile=99.99, weight_bits=8)
    assert psnr_against_photographs(int8.onnx, exact=True) >= float_psnr - allowed


@pytest.mark.parametrize("keep_float", ["last", "first_last"])
def test_weights_of_seven_bits_cost_little_on_every_processor(finished, keep_float):
    float_psnr = psnr_against_photographs(finished[1].onnx)
    int8 = int8_of(finished, keep_float=keep_float)
    assert psnr_against_photographs(int8.onnx) >= float_psnr - 0.15


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_use_the_range_of_their_bits(finished, bits):
    weights = integer_weights(int8_of(finished, keep_float="none", weight_bits=bits).onnx)
    assert (
        max(int(np.abs(weight.astype(int)).max()) for weight in weights)
        in {7: (63, 64), 8: (127,)}[bits]
    )


def test_the_layers_that_were_asked_for_stay_in_float(finished):
    _, model = finished
    names = [name for name, _ in layer_nodes(model.onnx)]
    fixed = fixed_kernel_layers(model)
    learnt = [name for name in names if name not in fixed]
    for keep_float, ends in (
        ("none", set()),
        ("last", {learnt[-1]}),
        ("first_last", {learnt[0], learnt[-1]}),
    ):
        assert set(float_layers(model, keep_float)) == {*fixed, *ends}
        assert integer_layers(int8_of(finished, keep_float=keep_float).onnx) == set(learnt) - ends


def test_only_the_kernel_of_a_bicubic_skip_is_fixed(finished):
    trial, model = finished
    expected = 1 if trial.architecture.skip == "bicubic" else 0
    assert len(fixed_kernel_layers(model)) == expected


def test_the_input_has_256_levels_over_0_to_1(finished):
    graph = onnx.load(str(int8_of(finished, keep_float="none").onnx)).graph
    first = next(
        node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "input"
    )
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert float(values[first.input[1]]) == pytest.approx(1 / 255)
    assert int(values[first.input[2]]) == 0


def test_the_float_model_is_left_as_it_is(finished):
    before = finished[1].onnx.read_bytes()
    int8 = int8_of(finished)
    assert finished[1].onnx.read_bytes() == before
    assert int8.onnx != finished[1].onnx
    assert int8.module is finished[1].module


def test_nothing_can_be_quantized_before_it_is_exported(finished):
    trial, model = finished
    with pytest.raises(ExportError, match="Nothing was exported"):
        Int8PTQ().export(replace(model, onnx=None), trial.context(Int8PTQ()))


def test_a_percentile_means_something_only_for_its_method():
    assert inactive_fields(Int8PTQ(method="minmax")) == {"percentile"}
    assert inactive_fields(Int8PTQ(method="percentile")) == set()


def test_parameters_and_multiply_adds_are_those_of_the_float_model():
    cost = {"params": 1000.0, "macs": 5e6, "size_bytes": 4000.0, "latency_ms": 3.0, "psnr_y": 30.0}
    lower, upper = Int8PTQ().predict(cost, tiny_task())
    assert {name: lower[name] for name in ("params", "macs", "psnr_y")} == {
        "params": 1000.0,
        "macs": 5e6,
        "psnr_y": 30.0,
    }
    assert all(lower[name] < cost[name] < upper[name] for name in ("size_bytes", "latency_ms"))
