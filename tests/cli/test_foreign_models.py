"""`evaluate` and `upscale` with files of others: one line, an exit code, nothing half done; and
they can be stopped.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx_files import EMPTY_LOOP, ENDLESS, TWICE, endless, write_net
from photos import photo

from automl_sr.cli.main import main
from automl_sr.data import images
from automl_sr.data.images import Picture

HARM = {
    "scale-0": {"metadata": {"scale": "0", "color": "y", "overlap": "4"}},
    "scale-3": {"metadata": {"scale": "3", "color": "y", "overlap": "4"}},
    "nan": {
        "body": f"{TWICE.replace('y =', 'z =')} k = Log(below) y = Add(z, k)",
        "constants": "float below = {-1}",
    },
    "no input": {"takes": "", "body": "y = Identity(twice)"},
    "sequence": {"body": "y = SequenceConstruct(x, x)", "gives": "seq(float[1, 1, h, w]) y"},
    "loop": {"body": EMPTY_LOOP, "constants": ENDLESS},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one photograph."""
    images.write(tmp_path / "images" / "a.png", Picture(photo(height=30, width=40)))
    return tmp_path


def arguments(command: str, net: Path, folder: Path) -> list[str]:
    if command == "evaluate":
        return ["evaluate", str(net), "--data", str(folder / "images")]
    return ["upscale", str(net), str(folder / "images" / "a.png"), "-o", str(folder / "out")]


@pytest.mark.ci
@pytest.mark.parametrize("name", list(HARM))
@pytest.mark.parametrize("command", ["evaluate", "upscale"])
def test_a_file_that_means_harm_is_one_line_and_leaves_nothing(
    command: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = write_net(folder / "net.onnx", **HARM[name])
    assert main([*arguments(command, net, folder), "--seconds", "2"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {net} ")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["evaluate", "upscale"])
def test_a_signal_ends_what_would_go_on_for_ever(
    command: str, number: signal.Signals, code: int, folder: Path
) -> None:
    net = endless(folder / "net.onnx")
    program = [sys.executable, "-m", "automl_sr", *arguments(command, net, folder)]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        worker = model_process(process)
        process.send_signal(number)
        said, told = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "")
    assert "Traceback" not in told
    assert len(told.splitlines()) <= 1
    assert not worker.is_running()
    assert not (folder / "out").exists() or not list((folder / "out").iterdir())


def model_process(program: subprocess.Popen[str]) -> psutil.Process:
    """Wait for the process in which the model is run, and give it."""
    for _ in range(1000):
        found = [
            child for child in psutil.Process(program.pid).children() if child.cpu_times().user > 0
        ]
        if found:
            return found[0]
        try:
            program.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError("it has ended")
    raise AssertionError("no model is run")


def test_an_image_on_which_a_model_fails_is_skipped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bright = np.maximum(photo(height=30, width=40), 1)
    images.write(folder / "images" / "a.png", Picture(bright))
    images.write(folder / "images" / "b.png", Picture(bright * 0))
    net = write_net(folder / "net.onnx", f"{TWICE.replace('y =', 'z =')} y = Reciprocal(z)",
                    takes="float[1, 3, h, w] x", metadata={"overlap": "4"})  # fmt: skip
    assert main(["upscale", str(net), str(folder / "images"), "-o", str(folder / "out")]) == 1
    printed = capsys.readouterr()
    assert "skipped" in printed.err
    assert "gives NaN or infinite values for an image of 40x30 pixels" in printed.err
    assert [path.name for path in (folder / "out").iterdir()] == ["a_x2.png"]
