"""Processes of tests: a search of the small world that a test leads step by step, and waiting for what others do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS = 5


class Process:
    """A search whose trials have five steps and wait for a word before each."""

    def __init__(
        self, folder: Path, study: Path, *, store: str | None = None, more: dict[str, str] | None = None
    ) -> None:
        program = str(ROOT / "tests" / "search_world.py")
        paths = os.pathsep.join(str(ROOT / part) for part in (".", "plugins", "tests"))
        place = [store or f"sqlite:///{folder}/store.db", str(folder / "artifacts"), str(study)]
        self.process = subprocess.Popen(
            [sys.executable, program, *place, "--slow", str(STEPS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, **(more or {})},
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def go(self, steps: int = 1) -> None:
        """Let a waiting trial do its next steps; it then waits before the one after."""
        assert self.process.stdin
        for _ in range(steps):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def until(self, line: str, *, going: bool = True) -> list[str]:
        """Let it run until it waits before this step."""
        seen = [self.line()]
        while seen[-1] != line:
            assert seen[-1].startswith("step"), seen
            if going:
                self.go()
            seen.append(self.line())
        return seen

    def rest(self) -> tuple[list[str], int]:
        """Let it run to its end."""
        output, _ = self.process.communicate("go\n" * 1000, timeout=60)
        return output.split("\n"), self.process.returncode


def has_ended(pid: int) -> bool:
    """Whether a process is gone; the first process of a container may be slow to clear it away."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again, and fail after a minute with what was waited for."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)
