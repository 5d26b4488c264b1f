"""Small ONNX files of others, written as text: sound ones, and such as mean harm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import onnx

TWICE = 'y = Resize<mode: string = "nearest">(x, "", twice)'
"""Repeats pixels."""
IMAGE = "float[1, 1, h, w] x"
CONSTANTS = "float[4] twice = {1, 1, 2, 2}"
EMPTY_LOOP = """
    z = Loop(trips, go, x) <body = inner (int64 i, bool go, float[] v) => (bool go, float[] v) {}>
    y = Resize<mode: string = "nearest">(z, "", twice)
"""
"""Goes on for ever, and never looks whether it should end."""
ENDLESS = "int64 trips = {4611686018427387904}, bool go = {1}"


def write_net(
    path: Path,
    body: str = TWICE,
    *,
    takes: str = IMAGE,
    gives: str = "float[a, b, c, d] y",
    constants: str = "",
    metadata: Mapping[str, str] | None = None,
    operators: str = '"" : 17',
) -> Path:
    """Write a net in ONNX's text form: it takes x and gives y; `twice` is known, and what
    `constants` adds.
    """
    told = ", ".join(
        f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (metadata or {}).items()
    )
    known = ", ".join(filter(None, (CONSTANTS, constants)))
    head = f"<ir_version: 8, opset_import: [{operators}], metadata_props: [{told}]>"
    text = f"{head} net ({takes}) => ({gives}) <{known}> {{ {body} }}"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def endless(path: Path) -> Path:
    """Write a net that goes on for ever."""
    return write_net(path, EMPTY_LOOP, constants=ENDLESS)


def small_net(path: Path) -> Path:
    """Write a net of two convolutions beside a skip: 4 parameters."""
    body = "a = Conv(x, first) b = Relu(a) c = Conv(b, second) y = Add(c, x)"
    weights = "float[2, 1, 1, 1] first = {1, 2}, float[1, 2, 1, 1] second = {1, 2}"
    return write_net(path, body, constants=weights)
