"""Cost before training: exact counts on the meta device, for every kind of layer that a study may
search.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nets import Attention, Espcn, Fsrcnn, Recurrent
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from automl_sr.errors import DataError
from automl_sr.evaluation import cost, trained
from automl_sr.evaluation.cost import (
    activation_bytes,
    count_macs,
    count_params,
    on_meta,
    size_bytes,
    training_bytes,
)
from automl_sr.plugin.metric import BUILTIN_METRICS, Metric
from automl_sr.tasks.image_sr.cost import macs_at_output


def test_parameters_are_counted_once_where_they_are_tied() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    assert count_params(net) == 40
    net[2].weight = net[0].weight
    assert count_params(net) == 24


def test_convolution_costs_kernel_times_channels_times_pixels() -> None:
    assert (
        count_macs(nn.Conv2d(3, 8, 5, padding=2), torch.empty(2, 3, 10, 12))
        == 2 * 10 * 12 * 8 * 3 * 25
    )
    assert (
        count_macs(nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.empty(1, 8, 10, 12))
        == 10 * 12 * 8 * 9
    )


def test_transposed_convolution_costs_kernel_times_input_pixels() -> None:
    assert (
        count_macs(nn.ConvTranspose2d(4, 3, 9, 2, 4, 1), torch.empty(1, 4, 10, 12))
        == 10 * 12 * 4 * 3 * 81
    )


@pytest.mark.parametrize(("kind", "gates"), [(nn.GRU, 3), (nn.LSTM, 4)])
def test_recurrent_layers_cost_their_gates_at_every_step(kind: type[nn.Module], gates: int) -> None:
    net = kind(8, 16, batch_first=True, bidirectional=True)
    assert count_macs(net, torch.empty(2, 20, 8)) == 2 * 20 * 2 * gates * (8 * 16 + 16 * 16)


def test_attention_costs_its_projections_and_both_products() -> None:
    net = nn.MultiheadAttention(16, 2, batch_first=True)
    query = torch.empty(2, 64, 16)
    assert count_macs(net, query, query, query) == 2 * 64 * 16 * 64 + 2 * 2 * 64 * 64 * 16


def test_fsrcnn_costs_what_its_formula_says_at_720p() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 56, 5, padding=2),
        nn.Conv2d(56, 12, 1),
        *[nn.Conv2d(12, 12, 3, padding=1) for _ in range(4)],
        nn.Conv2d(12, 56, 1),
        nn.ConvTranspose2d(56, 1, 9, 2, 4, 1),
    )
    macs = macs_at_output(net, scale=2, channels=1)
    assert macs == 360 * 640 * (25 * 56 + 56 * 12 + 4 * 9 * 12 * 12 + 12 * 56 + 81 * 56)
    assert macs / 1e9 == pytest.approx(2.87, abs=0.01)


def test_an_output_that_is_no_multiple_of_the_scale_is_counted_in_proportion() -> None:
    net = nn.Sequential(nn.Conv2d(3, 27, 3, padding=1), nn.PixelShuffle(3))
    assert macs_at_output(net, scale=3, channels=3) == round(3 * 27 * 9 * 720 * 1280 / 9)


@pytest.mark.parametrize("kind", [Espcn, Fsrcnn, Recurrent, Attention])
def test_counting_leaves_the_net_as_it_was(kind: type[nn.Module]) -> None:
    net = kind().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    channels = 3 if kind is Fsrcnn else 1
    assert count_macs(net, torch.rand(1, channels, 16, 24)) > 0
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_net_on_the_meta_device_counts_the_same() -> None:
    net = Espcn()
    batch = torch.empty(1, 1, 40, 50)
    assert count_macs(on_meta(net), batch.to("meta")) == count_macs(net, batch)
    assert on_meta(on_meta(net)) is not net
    assert all(parameter.is_meta for parameter in on_meta(net).parameters())


def test_macs_do_not_depend_on_training_mode() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    batch = torch.empty(2, 1, 9, 9)
    assert count_macs(net.train(), batch) == count_macs(net.eval(), batch)


def test_activations_are_what_the_backward_pass_needs() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    batch = torch.empty(4, 3, 32, 32)
    pixels = 4 * 32 * 32
    # The input for the first convolution, and the rectified maps that rectifier and second
    # convolution share.
    assert activation_bytes(net, batch) == pixels * (3 + 8) * 4


def test_activations_grow_with_the_batch_and_training_adds_the_optimizer_and_gradients() -> None:
    net = Espcn(width=16)
    one, four = (activation_bytes(net, torch.empty(count, 1, 24, 24)) for count in (1, 4))
    assert four == 4 * one
    optimizer, largest = 5 * 4 * count_params(net), 16 * 24 * 24 * 4
    assert training_bytes(net, torch.empty(1, 1, 24, 24)) == one + 2 * largest + optimizer
    half = training_bytes(net, torch.empty(1, 1, 24, 24), half=True)
    assert half - optimizer == pytest.approx(0.6 * (one + 2 * largest), abs=1)


def test_activations_come_close_to_what_torch_keeps_on_the_cpu() -> None:
    net = Espcn(width=16, depth=3)
    batch = torch.rand(4, 1, 32, 32)
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in net.parameters()}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = net(batch)
    assert output.requires_grad
    assert activation_bytes(net, batch) == pytest.approx(sum(kept.values()), rel=0.05)


def test_file_size_is_measured_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 321)
    assert size_bytes(file) == 321


@pytest.mark.parametrize("metric", BUILTIN_METRICS, ids=lambda metric: metric.name)
def test_every_built_in_metric_has_its_measure(metric: Metric) -> None:
    assert callable(metric.function())
    assert metric.known_before_training == (metric.name in ("params", "macs"))
    assert metric.better(1, 2) == (metric.direction == "minimize")


def test_blueprint_metrics_are_measured_on_a_net_and_its_input() -> None:
    values = {
        metric.name: metric.function()(on_meta(Espcn()), [torch.empty(1, 1, 8, 8, device="meta")])
        for metric in BUILTIN_METRICS
        if metric.level == "blueprint"
    }
    assert values == {
        "params": count_params(Espcn()),
        "macs": count_macs(Espcn(), torch.empty(1, 1, 8, 8)),
    }


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize(
    "settings", [{}, {"bidirectional": True, "num_layers": 2}, {"batch_first": True}], ids=str
)
def test_recurrent_layers_are_counted_as_torch_counts_their_steps(
    kind: type, settings: dict[str, Any]
) -> None:
    net = kind(5, 6, **settings)
    example = torch.empty(4, 3, 5, device="meta")
    with torch.device("meta"):
        unrolled = on_meta(net)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            wanted = unrolled(example)
    assert count_macs(net, example) == counter.get_total_flops() // 2
    stand_in, _ = cost._recurrent(net, [], example)
    assert stand_in.shape == wanted[0].shape


def test_a_counted_net_runs_as_before() -> None:
    net = Recurrent().eval()
    image = torch.rand(1, 1, 6, 8)
    before = net(image)
    count_macs(net, image)
    assert torch.equal(net(image), before)


def test_what_is_measured_of_a_trained_model() -> None:
    net = nn.Linear(4, 2)
    with torch.no_grad():
        net.weight[0] = 0.0
        net.bias.fill_(1.0)
    model = SimpleNamespace(module=net, data=SimpleNamespace(nbytes=12))
    seconds = {"select": 1.0, "train": 2.0, "branch": 0.5, "export": 9.0}
    values = {m.name: m.function()(model, seconds) for m in BUILTIN_METRICS if m.level == "trial"}
    assert values == {"params_nonzero": 6.0, "train_seconds": 3.5, "data_bytes": 12.0}
    with pytest.raises(DataError, match="do not tell their bytes"):
        trained.data_bytes(SimpleNamespace(module=net, data=object()), {})
