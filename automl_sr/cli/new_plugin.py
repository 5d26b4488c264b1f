"""`automl-sr new-plugin`: an installable package with one working technique."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from automl_sr.presentation.console import print_json, print_text

TEMPLATE = Path(__file__).parent / "plugin_template"
NAME = re.compile(r"^[a-z][a-z0-9]*([-_][a-z0-9]+)*$")
LONGEST = 50


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the technique and its package, such as my-selection.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder in which the package's folder is made.")
    ] = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output")] = False,
) -> None:
    """Write an installable plugin with one working technique.

    The package has an entry point, tests that use the contract of automl_sr.testing, and a method card.

    \b
    Examples:
      automl-sr new-plugin my-selection
      automl-sr new-plugin my-selection -o ~/src
    """
    module = name.replace("-", "_")
    _check(name, module)
    target = output / name
    write(name, module, target)
    if json:
        print_json({"plugin": name, "module": module, "folder": target})
        return
    print_text(f"{target}\nNext: pip install -e {target} && automl-sr plugins && pytest {target}")


def _check(name: str, module: str) -> None:
    """Refuse names that cannot be a package, a module and a technique at once, or that are taken."""
    from automl_sr.errors import UseError
    from automl_sr.plugin.registry import installed
    from automl_sr.plugin.technique import Slot

    if not NAME.fullmatch(name) or len(name) > LONGEST:
        hint = (
            f"Use up to {LONGEST} lower-case letters, digits and single dashes, beginning with a letter: my-selection."
        )
        raise UseError(f"{name!r} cannot name a plugin.", hint)
    taken = keyword.iskeyword(module) or module in sys.stdlib_module_names or module.startswith("automl_sr")
    if taken or module in ("tests", "package") or importlib.util.find_spec(module) is not None:
        raise UseError(f"{name!r} cannot name a plugin: there is a module {module!r} already.", "Choose another name.")
    if module in installed().techniques[Slot.SELECTION]:
        raise UseError(f"A selection technique {module!r} is installed already.", "Choose another name.")


def write(name: str, module: str, target: Path) -> None:
    """Write the package under a temporary name and move it into place, so that nothing half-written is left."""
    from automl_sr.errors import UseError

    if target.exists() or target.is_symlink():
        raise UseError(f"{target} exists already.", "Choose another name, or another folder with -o.")
    words = {
        "{{name}}": name,
        "{{module}}": module,
        "{{class}}": "".join(part.capitalize() for part in module.removesuffix("_selection").split("_")) + "Selection",
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    except OSError as error:
        raise UseError(f"{target.parent} cannot be written to: {error.strerror}.", "Choose a folder with -o.") from None
    try:
        for source in sorted(TEMPLATE.rglob("*.template")):
            place = scratch / str(source.relative_to(TEMPLATE)).removesuffix(".template")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_filled(source.read_text(encoding="utf-8"), words), encoding="utf-8")
        (scratch / "package").rename(scratch / module)
        (scratch / "tests" / "test_technique.py").rename(scratch / "tests" / f"test_{module}.py")
        (scratch / "gitignore").rename(scratch / ".gitignore")
        scratch.chmod(0o755)
        os.rename(scratch, target)  # noqa: PTH104 - refuses a folder that is not empty
    except OSError as error:
        raise UseError(f"{target} cannot be written: {error.strerror}.", "Choose a folder with -o.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _filled(text: str, words: dict[str, str]) -> str:
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text
