"""JSON as the store writes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: Any) -> str:
    """Write JSON that every database takes: NaN and infinity, which JSON lacks, are refused. Raises
    ValueError.
    """
    storable = _storable(value)
    return json.dumps(storable, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def storable_text(text: str) -> str:
    """Leave out what databases cannot hold."""
    text = text.replace("\x00", "")  # PostgreSQL holds none
    # Halves of characters, as undecodable file names have, become question marks.
    return text.encode("utf-8", "replace").decode()


def finite_only(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out numbers that JSON lacks."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if math.isfinite(value):
            found[name] = value
    return found


def _storable(value: Any) -> Any:
    """Return a value in which every text can be stored, at any depth."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Mapping):
        found = {}
        for key, item in value.items():
            name = storable_text(str(key))
            found[name] = _storable(item)
        return found
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
