"""`automl-sr new-plugin`: a package that installs, is found, and passes its own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from automl_sr.cli import new_plugin
from automl_sr.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["new-plugin", "every-few", "-o", str(tmp_path / "src")]) == 0
    assert str(tmp_path / "src" / "every-few") in capsys.readouterr().out
    return tmp_path / "src" / "every-few"


def environment(*paths: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT, ROOT / "plugins"]))}


def test_a_package_with_technique_tests_and_method_card_is_written(package: Path) -> None:
    files = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
    assert files == [".gitignore", "README.md", "every_few/__init__.py", "pyproject.toml", "tests/test_every_few.py"]
    for path in package.rglob("*"):
        if path.is_file():
            assert "{{" not in path.read_text()
    assert "class EveryFewSelection(Technique):" in (package / "every_few" / "__init__.py").read_text()


def test_an_installed_plugin_is_found(package: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
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


def test_its_own_tests_pass(package: Path) -> None:
    quick = ["-k", "kept or declaration or docstring"]  # the contract's training takes longer
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *quick],
        cwd=package, env=environment(package), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_its_code_is_clean(package: Path) -> None:
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


@pytest.mark.parametrize(
    "name",
    ["My-Plugin", "9lives", "a b", "a--b", "-a", "a-", "../up", "a/b", "", "ä", "x" * 51, "class", "json", "tests",
     "torch", "automl-sr", "automl_sr_x", "loss"],
)  # fmt: skip
def test_names_that_cannot_work_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "-o", str(tmp_path), "--", name]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["new-plugin", "every-few", "-o", str(tmp_path / "file" / "below")]) == 2
    assert "cannot be written to" in capsys.readouterr().err
