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
            # As modules are written: `image-sr` would be made as image_sr.
            return {kind.replace("-", "_") for kind in registry.tasks}
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
    """Refuse names that are taken, or cannot be a package, a module and a technique at once."""
    from automl_sr.errors import UseError
    from automl_sr.plugin.registry import installed

    if not NAME.fullmatch(name) or len(name) > LONGEST:
        hint = (
            f"Use up to {LONGEST} lower-case letters, digits and single dashes, beginning with a"
            " letter: my-selection."
        )
        raise UseError(f"{name!r} cannot name a plugin.", hint)
    if _is_taken(module):
        raise UseError(
            f"{name!r} cannot name a plugin: there is a module {module!r} already.",
            "Choose another name.",
        )
    if module in kind.known(installed()):
        raise UseError(
            f"{kind.what.capitalize()} {module!r} is installed already.", "Choose another name."
        )


def _is_taken(module: str) -> bool:
    """Return whether a module of this name exists, or must not."""
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        return True
    # `automl_sr_...` would pass for a part of this program; `tests` lies beside the module.
    if module.startswith("automl_sr") or module in ("tests", "package"):
        return True
    return importlib.util.find_spec(module) is not None


def write(name: str, module: str, kind: Kind, target: Path) -> None:
    """Write the package under a temporary name and move it into place.

    So nothing half-written is left. Raises UseError where that cannot be.
    """
    from automl_sr.errors import UseError

    if target.exists() or target.is_symlink():
        raise UseError(
            f"{target} exists already.", "Choose another name, or another folder with -o."
        )
    words = _words(name, module, kind)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    except OSError as error:
        raise UseError(
            f"{target.parent} cannot be written to: {error.strerror}.", "Choose a folder with -o."
        ) from None
    try:
        for source in sorted([*(TEMPLATE / SHARED).iterdir(), *(TEMPLATE / kind.value).iterdir()]):
            # Templates end in .template, so that no tool takes them for code.
            place = scratch / _place(source.name.removesuffix(".template"), module)
            place.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8")
            place.write_text(_filled(text, words), encoding="utf-8")
        # mkdtemp makes folders that nobody else may read.
        scratch.chmod(0o755)
        os.rename(scratch, target)  # noqa: PTH104 - refuses a folder that is not empty
    except OSError as error:
        raise UseError(
            f"{target} cannot be written: {error.strerror}.", "Choose a folder with -o."
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _words(name: str, module: str, kind: Kind) -> dict[str, str]:
    """Return what takes the place of the marks in a template."""
    # my-selection becomes MySelection, not MySelectionSelection.
    own = module.removesuffix(f"_{kind.ending.lower()}")
    parts = map(str.capitalize, own.split("_"))
    return {
        "{{name}}": name,
        "{{module}}": module,
        "{{class}}": "".join(parts) + kind.ending,
        "{{constant}}": module.upper(),
        "{{what}}": kind.what.capitalize(),
    }


def _place(name: str, module: str) -> str:
    """Return where a file of a template belongs in the package."""
    places = {
        "init.py": f"{module}/__init__.py",
        "test.py": f"tests/test_{module}.py",
        "gitignore": ".gitignore",
    }
    if name in places:
        return places[name]
    if name.endswith(".py"):
        return f"{module}/{name}"
    return name


def _filled(text: str, words: dict[str, str]) -> str:
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text
