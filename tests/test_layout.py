"""The layout reads like the flow: few loose modules, and no file imports another that imports it in
turn.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "automl_sr"
LOOSE = {"__init__", "__main__", "api", "errors", "files"}
TYPES = ("automl_sr.plugin.", "automl_sr.training.", "automl_sr.trial.context")
"""The one circle that is left: techniques, phases and the context name each other's types."""


def modules() -> dict[str, Path]:
    """Give the path of every module of core by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Name the modules of core that a file imports anywhere, for type checkers alone too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for item in node.names:
                inner = f"{node.module}.{item.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (item.name for item in node.names)


def test_five_modules_lie_loose_at_the_top() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE


def test_no_file_imports_another_in_a_circle() -> None:
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        if name == PACKAGE.name:
            continue  # its door for scripts names a type, and is opened by name
        others = {_place(other) for other in imports(path, known) if other in known}
        graph.setdefault(_place(name), set()).update(others - {_place(name)})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def _place(name: str) -> str:
    return "types" if name.startswith(TYPES) else name
