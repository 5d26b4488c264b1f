"""Scripts, styles and templates are files: each of them is used, and read as it lies there."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl_sr.app import static_files
from automl_sr.app.static_files import FOLDER, script_with, static_text

FILES = sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_it_is_and_used(name: str) -> None:
    assert static_text(name) == (FOLDER / name).read_text(encoding="utf-8")
    modules = Path(static_files.__file__).parent.rglob("*.py")
    assert any(f'"{name}"' in module.read_text(encoding="utf-8") for module in modules)


def test_values_are_handed_over_as_json() -> None:
    script = script_with("set_property.js", 'a "name"')
    assert script == f'({static_text("set_property.js")})("a \\"name\\"")'
