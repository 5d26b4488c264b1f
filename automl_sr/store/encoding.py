"""JSON as the store writes it."""

from __future__ import annotations

import json
from typing import Any


def dumps(value: Any) -> str:
    """Write JSON that every database takes: NaN and infinity, which JSON lacks, are refused. Raises ValueError."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("\\u0000", "")
