"""The scripts, styles and templates of pages: files of the folder `static`, as they are."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "static"


@functools.cache
def static_text(name: str) -> str:
    """Read a file, once."""
    return (FOLDER / name).read_text(encoding="utf-8")


def script_with(name: str, *given: Any) -> str:
    """Return the function that a script makes of these values: for an event in the browser."""
    # As JSON, which is JavaScript too, whatever the values hold.
    values = ", ".join(map(json.dumps, given))
    return f"({static_text(name)})({values})"
