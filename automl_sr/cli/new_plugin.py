"""`automl-sr new-plugin`: an installable package with one thing that works, and its tests."""

from __future__ import annotations

import enum
import importlib.util
import keyword
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl_sr.presentation.console import print_json, print_text

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry

TEMPLATE = Path(__file__).parent / "plugin_template"
SHARED = "shared"
"""What packages of all kinds have."""
NAME = re.compile(r"^[a-z][a-z0-9]*([-_][a-z0-9]+)*$")
LONGEST = 50


class Kind(enum.StrEnum):
    """What a package brings: a technique of a slot, a metric or a task."""

    SELECTION = "selection"
    DATASET_DISTILLATION = "dataset_distillation"
    ARCHITECTURE = "architecture"
    TEACHER = "teacher"
    PRUNING = "pruning"
    QUANTIZATION = "quantization"
    METRIC = "metric"
    TASK = "task"

    @property
    def ending(self) -> str:
        """The last word of the class's name."""
        short = {Kind.DATASET_DISTILLATION: "Distillation", Kind.ARCHITECTURE: "Architecture"}
        return short.get(self, self.value.capitalize())

    @property
    def what(self) -> str:
        """What it is called in a sentence."""
        if self in (Kind.METRIC, Kind.TASK):
            return f"a {self}"
        article = "a"
        if self is Kind.ARCHITECTURE:
            article = "an"
        return f"{article} {self.value.replace('_', ' ')} technique"

    def known(self, registry: Registry) -> set[str]:
        """Return the names of this kind that are taken."""
        from automl_sr.plugin.technique import Slot

        if self is Kind.METRIC:
            return set(registry.metrics)
        if self is Kind.TASK:
            found: set[str] = set()
            for kind in registry.tasks:
                found.add(kind.replace("-", "_"))
            return found
        return set(registry.techniques[Slot(self.value)])


def new_plugin(
    name: Annotated[
        str, typer.Argument(help="Name of the package and of what it brings, such as my-selection.")
    ],
    kind: Annotated[Kind, typer.Option("--kind", help="What the package brings.")] = Kind.SELECTION,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder in which the package's folder is made.")
    ] = Path(),
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
) -> None:
    """Write an installable plugin with one working technique, metric or task.

    The package has an entry point, tests that use a contract of automl_sr.testing, and a method
    card.

    \b
    Examples:
      automl-sr new-plugin my-selection
      automl-sr new-plugin my-pruning --kind pruning -o ~/src
    """
    module = name.replace("-", "_")
    _check(name, module, kind)
    target = output / name
    write(name, module, kind, target)
    if json:
        print_json({"plugin": name, "module": module, "kind": kind.value, "folder": target})
        return
    print_text(f"{target}\nNext: pip install -e {target} && automl-sr plugins && pytest {target}")


def _check(name: str, module: str, kind: Kind) -> None:
    """Refuse names that cannot be a package, a module and a technique at once, or that are
    taken.
    """
    from automl_sr.errors import UseError
    from automl_sr.plugin.registry import installed

    if not NAME.fullmatch(name) or len(name) > LONGEST:
        hint = (
            f"Use up to {LONGEST} lower-case letters, digits and single dashes, beginning with a"
            " letter: my-selection."
        )
        raise UseError(f"{name!r} cannot name a plugin.", hint)
    taken = (
        keyword.iskeyword(module)
        or module in sys.stdlib_module_names
        or module.startswith("automl_sr")
    )
    if taken or module in ("tests", "package") or importlib.util.find_spec(module) is not None:
        raise UseError(
            f"{name!r} cannot name a plugin: there is a module {module!r} already.",
            "Choose another name.",
        )
    if module in kind.known(installed()):
        raise UseError(
            f"{kind.what.capitalize()} {module!r} is installed already.", "Choose another name."
        )


def write(name: str, module: str, kind: Kind, target: Path) -> None:
    """Write the package under a temporary name and move it into place, so that nothing half-written
    is left.
    """
    from automl_sr.errors import UseError

    if target.exists() or target.is_symlink():
        raise UseError(
            f"{target} exists already.", "Choose another name, or another folder with -o."
        )
    own = module.removesuffix(f"_{kind.ending.lower()}")
    words = {
        "{{name}}": name,
        "{{module}}": module,
        "{{class}}": "".join(part.capitalize() for part in own.split("_")) + kind.ending,
        "{{constant}}": module.upper(),
        "{{what}}": kind.what.capitalize(),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    except OSError as error:
        raise UseError(
            f"{target.parent} cannot be written to: {error.strerror}.", "Choose a folder with -o."
        ) from None
    try:
        for source in sorted([*(TEMPLATE / SHARED).iterdir(), *(TEMPLATE / kind.value).iterdir()]):
            place = scratch / _place(source.name.removesuffix(".template"), module)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_filled(source.read_text(encoding="utf-8"), words), encoding="utf-8")
        scratch.chmod(0o755)
        os.rename(scratch, target)  # noqa: PTH104 - refuses a folder that is not empty
    except OSError as error:
        raise UseError(
            f"{target} cannot be written: {error.strerror}.", "Choose a folder with -o."
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _place(name: str, module: str) -> str:
    """Return where a file of a template belongs in the package; modules stand in the module's
    folder.
    """
    places = {
        "init.py": f"{module}/__init__.py",
        "test.py": f"tests/test_{module}.py",
        "gitignore": ".gitignore",
    }
    return places.get(name, f"{module}/{name}" if name.endswith(".py") else name)


def _filled(text: str, words: dict[str, str]) -> str:
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text
