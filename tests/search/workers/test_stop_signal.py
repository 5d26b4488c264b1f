"""A search that is asked to stop says so, whatever it is doing when the signal comes."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from processes import wait_until

ROOT = Path(__file__).parents[3]
TALKING = """
from automl_sr.presentation.console import note
from automl_sr.search.workers.stop_signal import Stop
stop = Stop(say=note)
with stop.listening():
    while not stop.requested():
        note("x" * 1000)
note("ended")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_print_is_answered(number: int) -> None:
    """A print that waits for its reader cannot be entered by another one."""
    program = [sys.executable, "-c", TALKING]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        program, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as child:
        assert child.stderr
        pipe = child.stderr.fileno()
        most = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
        wait_until(lambda: waiting_bytes(pipe) > most // 2, "it prints")
        wait_until(
            lambda: is_asleep(child.pid),
            "the pipe is full: it waits for a reader in the middle of a print",
        )
        child.send_signal(number)
        said = child.stderr.read().decode()
    assert "stopping: the trial is checkpointed at its next step" in said
    assert said.endswith("ended\n")
    assert child.returncode == 0


def waiting_bytes(pipe: int) -> int:
    """Count what nobody has read yet."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))[0])


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
