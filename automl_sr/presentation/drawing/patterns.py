"""What exporters take to pieces is put together again, and what they mix is put in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from automl_sr.presentation.drawing.operators import SIGNS
from automl_sr.presentation.drawing.parts import Part

ROLL = "Roll"
WHOLE = {"Sigmoid": "Silu", "Erf": "Gelu", "Concat": ROLL}
"""What is made of an operator and those around it."""


def put_together(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Write GELU, SiLU and rolls, which exporters take to pieces, as one operator again."""
    readers: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, []).append(place)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output}
    gone: set[int] = set()
    made: dict[int, onnx.NodeProto] = {}
    for place, node in enumerate(nodes):
        chain = None
        operator = WHOLE.get(node.op_type, "")
        if node.op_type == "Sigmoid":
            chain = _silu(nodes, place, readers)
        elif node.op_type == "Erf":
            chain = _gelu(nodes, place, readers, makers)
        elif node.op_type == "Concat":
            chain = _roll(nodes, place, readers, makers)
        if chain is None or gone.intersection(chain):
            continue
        *inner, last = chain
        gone.update(inner)
        source, outputs = nodes[inner[0]].input[0], list(nodes[last].output)
        made[last] = onnx.helper.make_node(operator, [source], outputs, name=nodes[last].name)
    return [made.get(place, node) for place, node in enumerate(nodes) if place not in gone]


def _roll(
    nodes: Sequence[onnx.NodeProto],
    place: int,
    readers: Mapping[str, list[int]],
    makers: Mapping[str, int],
) -> list[int] | None:
    """Find a map's two pieces that are put together the other way round."""
    pieces = [makers.get(name) for name in nodes[place].input]
    chain = [piece for piece in pieces if piece is not None and nodes[piece].op_type == "Slice"]
    if len(pieces) != 2 or len(set(chain)) != 2:
        return None
    whole = {nodes[piece].input[0] for piece in chain}
    alone = all(readers[nodes[piece].output[0]] == [place] for piece in chain)
    return [*chain, place] if len(whole) == 1 and alone else None


def _silu(
    nodes: Sequence[onnx.NodeProto], place: int, readers: Mapping[str, list[int]]
) -> list[int] | None:
    """Find x * sigmoid(x) around a sigmoid."""
    gate = nodes[place]
    following = readers.get(gate.output[0], [])
    if len(following) != 1 or nodes[following[0]].op_type != "Mul":
        return None
    if gate.input[0] not in nodes[following[0]].input:
        return None
    return [place, following[0]]


def _gelu(
    nodes: Sequence[onnx.NodeProto],
    place: int,
    readers: Mapping[str, list[int]],
    makers: Mapping[str, int],
) -> list[int] | None:
    """Find x * (1 + erf(x / sqrt 2)) / 2 around an Erf, with the halving before or after."""
    first = makers.get(nodes[place].input[0])
    if first is None or nodes[first].op_type not in ("Div", "Mul"):
        return None
    chain = [first, place]
    wanted = ["Add", "Mul", "Mul"]
    for operator in wanted:
        following = readers.get(nodes[chain[-1]].output[0], [])
        if len(following) != 1 or nodes[following[0]].op_type != operator:
            break
        chain.append(following[0])
    if len(chain) < 4:
        return None
    read = {name for step in chain[3:] for name in nodes[step].input}
    return chain if nodes[first].input[0] in read else None


def joined_attention(parts: list[Part]) -> list[Part]:
    """Draw softmax(q k) v as one."""
    readers = Counter(source for part in parts for source in part.inputs)
    scores = {
        part.id: part
        for part in parts
        if part.title == "matmul" and "softmax" in part.suffixes and readers[part.id] == 1
    }
    joined: set[int] = set()
    found = []
    for part in parts:
        inner = [scores[source] for source in part.inputs if source in scores]
        if part.title != "matmul" or not inner:
            found.append(part)
            continue
        before = inner[0]
        others = [source for source in part.inputs if source != before.id]
        joined.add(before.id)
        inputs = _unscaled([*before.inputs, *others], parts, readers)
        weights = {**before.weights, **part.weights}
        found.append(
            replace(
                part,
                title="softmax attention",
                kind="attention",
                inputs=inputs,
                weights=weights,
            )
        )
    used = {source for part in found for source in part.inputs}
    joined |= {part.id for part in found if part.look == "pill" and part.id not in used}
    return [part for part in found if part.id not in joined]


def _unscaled(
    sources: Sequence[int], parts: Sequence[Part], readers: Mapping[int, int]
) -> tuple[int, ...]:
    """Look through the scale of queries: it belongs to attention."""
    known = {part.id: part for part in parts}
    found = []
    for source in sources:
        part = known[source]
        scales = part.look == "pill" and part.title.startswith(SIGNS["Mul"])
        alone = readers[source] == 1 and len(part.inputs) == 1
        found.append(part.inputs[0] if scales and alone else source)
    return tuple(dict.fromkeys(found))


def in_order(parts: Sequence[Part]) -> list[Part]:
    """Put branches one after the other, inputs first: the files of some quantizers mix them.

    What reaches no output is left out.
    """
    known = {part.id: part for part in parts}
    begin = [part for part in parts if part.look == "port" and not part.inputs]
    end = [part for part in parts if part.look == "port" and part.inputs]
    done = {part.id: part for part in begin}
    for port in end:
        waiting = [port.id]
        while waiting:
            part = known[waiting[-1]]
            missing = [source for source in part.inputs if source not in done]
            if missing and part.id not in done:
                waiting.append(missing[0])
                continue
            done.setdefault(part.id, part)
            waiting.pop()
    inner = [part for part in done.values() if part.look != "port"]
    return [*begin, *inner, *end]
