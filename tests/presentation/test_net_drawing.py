"""The drawing of a net: what is in it for known nets, and that nothing in a file is markup."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import drawn_nets
import numpy as np
import pytest
import torch
from nets import IMAGE_AXES, Attention, Recurrent, seeded
from onnx import TensorProto, helper
from torch import nn

from automl_sr.compression.export import export_onnx
from automl_sr.compression.onnx_file import FIXED_TENSORS
from automl_sr.compression.packing import Sparse, Uniform, pack_weights
from automl_sr.compression.quantize import quantize_static
from automl_sr.errors import DataError
from automl_sr.evaluation.cost import count_params
from automl_sr.presentation.drawing import Drawing, net_drawing
from automl_sr.presentation.drawing.layout import text_width
from automl_sr.presentation.drawing.parts import Part, all_parts
from automl_sr.presentation.drawing.repeats import MOST_BOXES, size
from automl_sr.presentation.drawing.words import lines

SVG = "{http://www.w3.org/2000/svg}"
SCRIPT = "<script>alert('x')</script>"


def exported(net: nn.Module, folder: Path, channels: int = 3, side: int = 16) -> Path:
    example = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    fixed = [name for name, value in net.named_buffers() if value.dim() > 1]
    metadata = {FIXED_TENSORS: json.dumps(fixed)}
    path = folder / f"{type(net).__name__}.onnx"
    export_onnx(
        net,
        path,
        (example,),
        dynamic_axes=IMAGE_AXES,
        metadata=metadata,
        check_inputs=[(example,)],
    )
    return path


def drawn(net: nn.Module, folder: Path, **options: int) -> Drawing:
    return net_drawing(exported(net, folder, **options))


def titles(parts: Sequence[Part]) -> list[str]:
    """What is written in the drawing, frames as [their count, what is inside]."""
    found: list[Any] = []
    for part in parts:
        if part.look == "frame":
            found.append([part.count, *titles(part.inside)])
        else:
            found.append(" ".join([part.title, *part.suffixes]))
    return found


def classes(drawing: Drawing) -> Counter[str]:
    root = ElementTree.fromstring(drawing.file())
    return Counter(element.get("class", "").split(" ")[0] for element in root.iter(f"{SVG}g"))


def looks(drawing: Drawing) -> Counter[str]:
    return Counter(part.look for part in all_parts(drawing.parts))


def test_blocks_that_repeat_are_drawn_once(tmp_path: Path) -> None:
    drawing = drawn(drawn_nets.Residual(blocks=16), tmp_path)
    assert titles(drawing.parts) == [
        "input",
        "Conv 3×3",
        [16, "Conv 3×3 ReLU", "Conv 3×3 × 0.1", "+"],
        "Conv 3×3",
        "+",
        "Conv 3×3",
        "pixel shuffle ×2",
        "Fixed filter 3×3",
        "bilinear ×2",
        "+",
        "output",
    ]
    text = drawing.file()
    assert "×16 · 9,472 parameters" in text
    assert "8 → 8 · 296 parameters" in text
    assert "output, 3 channels, ×2 size" in text


def test_each_skip_is_an_arc_and_each_sum_a_circle(tmp_path: Path) -> None:
    drawing = drawn(drawn_nets.Residual(blocks=3), tmp_path)
    assert looks(drawing)["circle"] == 3
    # In the block, around the blocks, from the input to the filter, and from it to the last sum.
    assert classes(drawing)["skip"] == 4
    assert "3 times (Conv 3×3 · ReLU, 2 groups, 8 → 8, 296 parameters" in drawing.words


def test_parameters_are_those_that_are_learnt(tmp_path: Path) -> None:
    for net in (drawn_nets.Residual(), drawn_nets.Distilled(), drawn_nets.Gated()):
        drawing = drawn(net, tmp_path)
        assert f"{count_params(net):,} parameters" in drawing.caption


def test_gates_distillation_and_concatenations_are_small_nodes(tmp_path: Path) -> None:
    gated = titles(drawn(drawn_nets.Gated(), tmp_path).parts)
    assert gated[2] == [4, "global average", "Conv 1×1 ReLU", "Conv 1×1 sigmoid", "×"]
    distilled = drawn(drawn_nets.Distilled(), tmp_path)
    [frame] = [part for part in distilled.parts if part.look == "frame"]
    assert titles(frame.inside) == ["Conv 3×3 LeakyReLU 0.05", "split", "Conv 3×3", "concat", "+"]
    # The net reads the outputs of all blocks, which only one block stands for.
    assert "concat of all blocks" in distilled.file()


def test_one_layer_that_is_called_again_is_counted_once(tmp_path: Path) -> None:
    drawing = drawn(drawn_nets.Recursive(), tmp_path)
    [frame] = [part for part in drawing.parts if part.look == "frame"]
    assert lines(frame)[1] == "×5 · 584 parameters · shared weights"
    assert titles(frame.inside) == ["Conv 3×3 ReLU", "+"]
    assert "read by every block" in drawing.file()


def test_blocks_of_different_widths_are_one_frame_where_there_is_no_room(tmp_path: Path) -> None:
    few = drawn(drawn_nets.Widths([4, 5, 6]), tmp_path)
    assert looks(few)["frame"] == 0
    many = drawn(drawn_nets.Widths(list(range(2, 18))), tmp_path)
    [frame] = [part for part in many.parts if part.look == "frame"]
    assert frame.count == 16
    assert "8 → 2…17 · 146…1,241 parameters" in many.file()


def test_a_net_without_any_pattern_is_drawn_by_its_modules(tmp_path: Path) -> None:
    drawing = drawn(drawn_nets.Irregular(), tmp_path)
    assert size(drawing.parts) <= MOST_BOXES
    stages = [f"stages.{number}" for number in range(10)]
    assert titles(drawing.parts) == ["input", "Conv 1×1", *stages, "output"]


def test_transformers_are_attention_and_linear_layers(tmp_path: Path) -> None:
    drawing = drawn(seeded(Attention), tmp_path, channels=1)
    assert titles(drawing.parts)[1:3] == ["Linear", "softmax attention"]
    shifted = titles(drawn(drawn_nets.Shifted(), tmp_path).parts)
    block = ["LayerNorm", "roll", "Linear", "softmax attention", "Linear", "roll", "+"]
    mixing = ["LayerNorm", "Linear GELU", "Linear", "+"]
    assert shifted[2] == [3, *block, *mixing]


def test_recurrent_layers_say_their_directions(tmp_path: Path) -> None:
    drawing = drawn(seeded(Recurrent), tmp_path, channels=1)
    assert titles(drawing.parts)[1] == "GRU"
    assert "both directions · 1 → 12 · 324 parameters" in drawing.file()


def test_an_int8_file_is_drawn_as_the_float_one(tmp_path: Path) -> None:
    net = drawn_nets.Residual(blocks=4, factor=1.0)
    path = exported(net, tmp_path)
    samples = [torch.rand(1, 3, 16, 16).numpy() for _ in range(2)]
    quantize_static(path, samples, tmp_path / "int8.onnx")
    drawing = net_drawing(tmp_path / "int8.onnx")
    written = [title for title in titles(drawing.parts) if isinstance(title, list)]
    # The rectifier is in the range of what the layer gives: the file has none any more.
    assert written == [[4, "Conv 3×3 clipped at 0", "Conv 3×3", "+"]]
    assert "8 → 8 · 296 parameters · int8" in drawing.file()
    assert drawing.caption == net_drawing(path).caption


def test_packed_weights_are_drawn_as_layers(tmp_path: Path) -> None:
    net = drawn_nets.Residual(blocks=1)
    with torch.no_grad():
        net.last.weight[:, 1:] = 0.0
        net.tail.weight.copy_(net.tail.weight.sign())
    path = exported(net, tmp_path)
    packings = {"last.weight": Sparse(), "tail.weight": Uniform(2, np.ones(1, np.float32), -1)}
    pack_weights(path, tmp_path / "packed.onnx", packings)
    drawing = net_drawing(tmp_path / "packed.onnx")
    assert drawing.caption == net_drawing(path).caption
    assert "8 → 8 · 584 parameters · 2 bit" in drawing.file()
    assert "8 → 12 · 876 parameters · sparse" in drawing.file()


def test_no_text_leaves_its_box(tmp_path: Path) -> None:
    for net in (drawn_nets.Residual(), drawn_nets.Distilled(), drawn_nets.Shifted()):
        for shape in drawn(net, tmp_path).sheet.shapes:
            written = lines(shape.part)
            if shape.part.look == "frame":
                written = [" ".join(written)]
            assert max(map(text_width, written)) <= shape.width, written


@pytest.mark.parametrize("seed", range(24))
def test_no_boxes_overlap_and_no_line_crosses_one(seed: int, tmp_path: Path) -> None:
    path = random_net(tmp_path / "net.onnx", seed)
    drawing = net_drawing(path)
    ElementTree.fromstring(drawing.file())
    assert size(drawing.parts) <= MOST_BOXES
    boxes = [shape for shape in drawing.sheet.shapes if shape.part.look != "frame"]
    for place, one in enumerate(boxes):
        here = (one.x, one.y, one.x + one.width, one.y + one.height)
        for other in boxes[place + 1 :]:
            there = (other.x, other.y, other.x + other.width, other.y + other.height)
            assert not overlaps(here, there)
        for wire in drawing.sheet.wires:
            for (x, y), (to_x, to_y) in itertools.pairwise(wire.points):
                line = (min(x, to_x), min(y, to_y), max(x, to_x), max(y, to_y))
                assert not overlaps(here, line), (one.part.title, wire)


def overlaps(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two areas (left, top, right, bottom) have more than an edge in common."""
    edge = 2.0  # a line ends on a circle a little below the square around it
    across = one[0] < other[2] - edge and other[0] < one[2] - edge
    return across and one[1] < other[3] - edge and other[1] < one[3] - edge


def random_net(path: Path, seed: int) -> Path:
    """A net of up to 120 operations that read whatever came before them."""
    chance = random.Random(seed)
    weight = helper.make_tensor("w.weight", TensorProto.FLOAT, [4, 4, 1, 1], [0.0] * 16)
    values, nodes = ["x"], []
    for number in range(chance.choice([6, 20, 40, 120])):
        operator = chance.choice(["Conv", "Conv", "Relu", "Add", "Mul", "Concat", "MaxPool"])
        wanted = {"Add": 2, "Mul": 2, "Concat": 3}.get(operator, 1)
        recent = values[-chance.choice([1, 2, 6, 40]) :]
        inputs = [chance.choice(recent) for _ in range(wanted)]
        settings = {"Concat": {"axis": 1}, "MaxPool": {"kernel_shape": [2, 2]}}.get(operator, {})
        if operator == "Conv":
            inputs.append("w.weight")
        values.append(f"v{number}")
        nodes.append(helper.make_node(operator, inputs, values[-1:], **settings))
    read = {name for node in nodes for name in node.input}
    loose = [name for name in values[1:] if name not in read]
    nodes.append(helper.make_node("Concat", loose, ["y"], axis=1))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, "h", "w"])
        for name in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_it_is_one_image_with_a_title_and_a_description(tmp_path: Path) -> None:
    drawing = drawn(drawn_nets.Residual(), tmp_path)
    root = ElementTree.fromstring(drawing.file())
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == f"Drawing of the net: {drawing.caption}"
    assert root.findtext(f"{SVG}desc") == drawing.words
    inline = ElementTree.fromstring(drawing.inline())
    assert inline.find(f"{SVG}style") is None, "a page's policy allows no style but its own"
    assert " style=" not in drawing.inline()
    assert not re.search(r"\bid=", drawing.inline()), "one page holds several drawings"


def hostile(folder: Path) -> Path:
    """A file whose every name is markup, and very long."""
    name = f"{SCRIPT}{'x' * 3000}\x00\x1b[2J"
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"])
    end = helper.make_tensor_value_info(f"{name}2", TensorProto.FLOAT, [1, 3, "h", "w"])
    nodes = [
        helper.make_node("Relu", [name], ["a"], name=f"/{name}/x"),
        helper.make_node(SCRIPT, ["a"], ["b"], name=f"/{name}/y", domain=SCRIPT),
        helper.make_node("Clip", ["b", "", "missing"], [f"{name}2"], name=name),
    ]
    model = helper.make_model(helper.make_graph(nodes, name, [value], [end]))
    helper.set_model_props(model, {FIXED_TENSORS: "[" * 10_000})
    path = folder / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_nothing_in_a_file_is_markup(tmp_path: Path) -> None:
    text = net_drawing(hostile(tmp_path)).file()
    ElementTree.fromstring(text)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert len(text) < 12_000, "long names are cut"


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no net")
    with pytest.raises(DataError, match=r"the file cannot be read as ONNX\."):
        net_drawing(damaged, "the file")


@pytest.mark.parametrize(
    "attributes",
    [{"strides": [0, 0]}, {"strides": "no"}, {"group": -3}, {"dilations": [0]}, {"group": 0}],
)
def test_odd_attributes_do_no_harm(tmp_path: Path, attributes: dict[str, Any]) -> None:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"])
        for name in ("input", "output")
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3, 1, 1], [0.0] * 9)
    node = helper.make_node("Conv", ["input", "w"], ["output"], **attributes)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    path = tmp_path / "odd.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert "Conv 1×1" in net_drawing(path).file()


def test_a_net_of_too_many_operations_is_refused(tmp_path: Path) -> None:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("v0", "v20001")
    ]
    nodes = [helper.make_node("Abs", [f"v{i}"], [f"v{i + 1}"]) for i in range(20_001)]
    path = tmp_path / "long.onnx"
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(DataError, match="20,001 operations"):
        net_drawing(path)
