"""`automl-sr new-plugin`: a package that installs, is found, and passes its own tests."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from automl_sr.cli import new_plugin
from automl_sr.cli.main import main
from automl_sr.plugin.registry import discover
from automl_sr.plugin.technique import Slot
from automl_sr.testing.observing import heavy_imports_of

ROOT = Path(__file__).parents[2]


KINDS = list(new_plugin.Kind)


def written(kind: str, folder: Path, start: str = "every") -> Path:
    """Write a package whose module is START_KIND."""
    name = f"{start}-{kind.replace('_', '-')}"
    assert main(["new-plugin", name, "--kind", kind, "-o", str(folder)]) == 0
    return folder / name


@pytest.fixture
def package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["new-plugin", "every-few", "-o", str(tmp_path / "src")]) == 0
    assert str(tmp_path / "src" / "every-few") in capsys.readouterr().out
    return tmp_path / "src" / "every-few"


def environment(*paths: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT, ROOT / "plugins"]))}


def test_a_package_with_technique_tests_and_method_card_is_written(package: Path) -> None:
    files = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
    assert files == [
        ".gitignore",
        "README.md",
        "every_few/__init__.py",
        "pyproject.toml",
        "tests/test_every_few.py",
    ]
    for path in package.rglob("*"):
        if path.is_file():
            assert "{{" not in path.read_text()
    assert (
        "class EveryFewSelection(Technique):" in (package / "every_few" / "__init__.py").read_text()
    )


def test_an_installed_plugin_is_found(package: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, "--target", str(site), str(package)], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "automl_sr", "plugins", "--json"],
        env=environment(site), capture_output=True, text=True, check=True,
    )  # fmt: skip
    data = json.loads(done.stdout)
    row = next(row for row in data["techniques"] if row["name"] == "every_few")
    assert (row["slot"], row["plugin"], row["distribution"], row["distribution_version"]) == (
        "selection",
        "every-few",
        "every-few",
        "0.1.0",
    )
    assert row["title"] == "Train on one sample in every few, spread evenly over the data."


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(["metric"], id="a metric"),
        pytest.param(
            [kind for kind in KINDS if kind != "metric"], marks=pytest.mark.ci, id="all others"
        ),
    ],
)
def test_their_own_tests_pass(kinds: list[str], tmp_path: Path) -> None:
    """The contract, where a technique is trained with its defaults, and what it promises
    besides.
    """
    packages = [written(kind, tmp_path) for kind in kinds]
    # In one process, which imports torch once.
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    defaults = ["-k", "not lows and not highs"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *defaults, *map(str, packages)],
        cwd=tmp_path,
        env=environment(*packages),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_of_each_kind_is_a_plugin_that_is_listed_fast(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = written(kind, tmp_path, "imported")
    module = f"imported_{kind}"  # of no other test: this process keeps the module
    monkeypatch.syspath_prepend(str(package))
    registry = discover(entry_points=(), plugins=[importlib.import_module(module)])
    assert registry.unavailable == []
    assert module in new_plugin.Kind(kind).known(registry)
    assert heavy_imports_of(module) == []
    assert not [path for path in package.rglob("*") if path.is_file() and "{{" in path.read_text()]


@pytest.mark.parametrize("kind", KINDS)
def test_its_code_is_clean(kind: str, tmp_path: Path) -> None:
    package = written(kind, tmp_path)
    rules = "A,ANN001,ANN201,B,D100,D101,E,F,I,N,UP,W"
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--line-length",
        "120",
        "--select",
        rules,
        str(package),
    ]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_slot_that_a_family_can_fill_has_a_kind() -> None:
    """All but the one recipe and federation, of which there is none to show yet."""
    slots = {slot.value for slot in Slot} - {Slot.RECIPE, Slot.FEDERATION}
    assert {kind.value for kind in new_plugin.Kind} == slots | {"metric", "task"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("metric", "psnr_y"),
        ("task", "image-sr"),
        ("architecture", "fsrcnn"),
        ("quantization", "int8_ptq"),
    ],
)
def test_a_name_that_is_taken_in_its_kind_is_refused(
    kind: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-plugin", name, "--kind", kind, "-o", str(tmp_path)]) == 2
    assert "is installed already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["My-Plugin", "9lives", "a b", "a--b", "-a", "a-", "../up", "a/b", "", "ä", "x" * 51, "class", "json", "tests",
     "torch", "automl-sr", "automl_sr_x", "loss"],
)  # fmt: skip
def test_names_that_cannot_work_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-plugin", "-o", str(tmp_path), "--", name]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "every-few").mkdir()
    assert main(["new-plugin", "every-few", "-o", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert list((tmp_path / "every-few").iterdir()) == []


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(text: str, words: dict[str, str]) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(new_plugin, "_filled", full)
    assert main(["new-plugin", "every-few", "-o", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["new-plugin", "every-few", "-o", str(tmp_path / "file" / "below")]) == 2
    assert "cannot be written to" in capsys.readouterr().err
