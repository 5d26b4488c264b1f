"""The page of what plugins may import: `python -m automl_sr.cli.api_page > docs/api.md` writes it
anew.
"""

from __future__ import annotations

import ast
import enum
import inspect
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from automl_sr import api

INTRODUCTION = """# What plugins may import

Made by `python -m automl_sr.cli.api_page > docs/api.md` from the code; a test compares the two.
How to write a plugin: [plugins.md](plugins.md).

```python
from automl_sr.api import Slot, Technique
```
"""


def page() -> str:
    """Return all names of the api with signatures and docstrings as one Markdown page."""
    return "\n".join([INTRODUCTION, *map(_section, api.__all__)])


def _section(name: str) -> str:
    found = getattr(api, name)
    parts = [f"## {name}", _code(_declaration(name, found))]
    text = inspect.getdoc(found)
    if text:
        parts.append(text)
    if inspect.isclass(found):
        parts += _members(found)
    return "\n\n".join(parts) + "\n"


def _declaration(name: str, found: Any) -> str:
    """Return the line with which a name is used: its call, or the class that it extends."""
    if not inspect.isclass(found):
        return f"{name}{_signature(found)}"
    if issubclass(found, Exception | enum.Enum | BaseModel):
        return f"class {name}({found.__mro__[1].__name__})"
    return f"class {name}"


def _signature(found: Any) -> str:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # markers of pluggy are objects that are called
        return "(...)"
    # Annotations are strings, with `from __future__ import annotations`: their quotes say nothing.
    return str(signature).replace("'", "")


def _members(cls: type) -> list[str]:
    """Return the public fields, properties and methods that a class declares itself."""
    listed = []
    for declared, text in _declared(cls):
        first, _, _ = text.partition("\n\n")
        words = " ".join(first.split())
        if words:
            listed.append(f"- `{declared}`: {words}")
        else:
            listed.append(f"- `{declared}`")
    if listed:
        return ["\n".join(listed)]
    return []


def _declared(cls: type) -> Iterator[tuple[str, str]]:
    """Yield declarations, in the order of the class, and what is said of them."""
    # From the source: there alone a field has words of its own, as a string in the next line.
    source = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = next(node.body for node in source.body if isinstance(node, ast.ClassDef))
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield _function(node), ast.get_docstring(node) or ""
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if not node.target.id.startswith("_"):
                yield ast.unparse(node), _words_of(after)
        elif isinstance(node, ast.Assign) and issubclass(cls, enum.Enum):
            # Members of an enumeration are assigned; elsewhere that is a detail.
            yield ast.unparse(node), _words_of(after)


def _function(node: ast.FunctionDef) -> str:
    """Return a method as it is called, or a property as a field."""
    returned = "None"
    if node.returns:
        returned = ast.unparse(node.returns)
    if "property" in map(ast.unparse, node.decorator_list):
        return f"{node.name}: {returned}"
    given = ast.unparse(node.args)
    for first in ("self", "cls"):  # which nobody passes
        given = given.removeprefix(first)
    return f"{node.name}({given.removeprefix(', ')}) -> {returned}"


def _words_of(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value)
    return ""


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


if __name__ == "__main__":
    sys.stdout.write(page())
