"""The tutorial works: its study file and all its commands, one after the other, with fewer
steps.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TUTORIAL, flags=re.DOTALL)
FEWER = {
    "steps: 400": "steps: 24",
    "trials: 6": "trials: 2",
    "--steps 800": "--steps 30",
    "-o smaller": "-o smaller --input 16x16",
}
"""A test has no ten minutes."""
SIDE = 96


def shortened(text: str) -> str:
    for written, fewer in FEWER.items():
        text = text.replace(written, fewer)
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ten photographs that differ."""
    photos = tmp_path / "my-photos"
    photos.mkdir()
    pictures = (
        data.astronaut(),
        data.coffee(),
        data.chelsea(),
        data.rocket(),
        data.hubble_deep_field(),
    )
    for number in range(10):
        picture = pictures[number // 2]
        left = number % 2 * (picture.shape[1] - SIDE)
        top = (picture.shape[0] - SIDE) // 2
        Image.fromarray(picture[top : top + SIDE, left : left + SIDE]).save(
            photos / f"{number}.png"
        )
    return tmp_path


def test_what_the_test_shortens_is_in_the_tutorial() -> None:
    assert [written for written in FEWER if written not in TUTORIAL] == []


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_every_step_of_the_tutorial_works(folder: Path) -> None:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("AUTOML_SR_")
    }
    for language, block in BLOCKS:
        text = shortened(block)
        if language == "yaml":
            (folder / "mine.yaml").write_text(text, encoding="utf-8")
            continue
        if language == "python":
            commands = [[sys.executable, "-c", text]]
        else:
            commands = [[sys.executable, "-m", *_program(line)] for line in text.splitlines()]
        for command in commands:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    assert (folder / "mine.html").stat().st_size > 10_000
    assert (folder / "model" / "model.onnx").is_file()
    assert len(list((folder / "enlarged").glob("*.png"))) == 10


def _program(line: str) -> list[str]:
    """Return a command with the module in the place of the program's name: `automl-sr` may not be
    on the path.
    """
    name, *rest = shlex.split(line)
    return [name.replace("-", "_"), *rest]
