"""What a graph works out from constants alone is folded: the file holds what is computed."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    import onnx_ir


def fold_constants(content: bytes, tied: Collection[str] = ()) -> bytes:
    """Return the ONNX model with what depends on no input worked out and stored.

    Exporters store equal tensors once, such as biases that are all zero, and give the others as
    copies: those become tensors of their own again, under the names of their parameters. `tied`
    parameters, which are one tensor in the module too, stay copies. What exporters write for
    debugging is left out.
    """
    import onnx_ir
    from onnxscript.optimizer import fold_constants as fold
    from onnxscript.optimizer import remove_unused_nodes

    shared = frozenset(tied)

    def should_fold(node: onnx_ir.Node) -> bool | None:
        if node.op_type == "Identity":
            return node.outputs[0].name not in shared
        # The library leaves these alone because they may become large: those of exported nets are a
        # few numbers.
        if node.op_type == "ConstantOfShape" and _is_small(node):
            return True
        return None

    model = onnx_ir.serde.deserialize_model(onnx.load_model_from_string(content))
    fold(model, onnx_shape_inference=False, should_fold=should_fold)
    remove_unused_nodes(model)
    folded = onnx_ir.serde.serialize_model(model)
    _without_notes(folded)
    return bytes(folded.SerializeToString())


SMALL = 64
"""So many dimensions or numbers are a size, and no map."""


def _is_small(node: onnx_ir.Node) -> bool:
    shape = node.inputs[0]
    if shape is None or shape.const_value is None:
        return False
    sides = shape.const_value.numpy()
    return int(sides.prod()) <= SMALL


def _without_notes(model: onnx.ModelProto) -> None:
    """Leave out stack traces, and the shapes in between, which every reader infers anyway."""
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
