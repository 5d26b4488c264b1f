"""Processes of tests: copies of one that has imported everything, and a search of the small world
that a test leads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import search_world

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(str(ROOT / part) for part in (".", "plugins", "tests/support"))
STEPS = 5
IMPORTED_LATE = [
    "alembic.command", "automl_sr.cli.main", "onnxruntime", "psycopg", "ruamel.yaml", "search_world",
    "sqlalchemy.dialects.sqlite", "sympy", "torch._dynamo",
]  # fmt: skip
"""What a search imports only when it needs it."""


def forkserver() -> ForkServerContext:
    """Give processes that are copies of one that has imported everything: torch is loaded once, and
    not each time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *IMPORTED_LATE])
    former = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = PATHS  # the server does not get `sys.path`
    try:
        from multiprocessing.forkserver import ensure_running

        ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if former is None else os.environ.update(PYTHONPATH=former)
    return context


class Forked:
    """A program in a process of its own, of which a test reads standard output and error; used like
    a `Popen`.
    """

    def __init__(
        self,
        program: Callable[[list[str]], int],
        arguments: list[str],
        env: dict[str, str],
        *,
        ignores: tuple[signal.Signals, ...] = (),
    ) -> None:
        context = forkserver()
        theirs, ours = context.Pipe(duplex=False)
        self.stdin = os.fdopen(os.dup(ours.fileno()), "w")
        reading, writing = context.Pipe(duplex=False)
        self.stdout = os.fdopen(os.dup(reading.fileno()))
        given = (program, arguments, env, ignores, theirs, writing)
        self._process = context.Process(target=_become, args=given, daemon=True)
        self._process.start()
        for end in (theirs, ours, reading, writing):
            end.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it has not ended"
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, given: str = "", timeout: float | None = None) -> str:
        """Write, read to the end and wait."""
        with contextlib.suppress(BrokenPipeError), self.stdin:
            self.stdin.write(given)
        with self.stdout:
            said = self.stdout.read()
        self.wait(timeout)
        return said


def _become(
    program: Callable[[list[str]], int],
    arguments: list[str],
    env: dict[str, str],
    ignores: tuple[signal.Signals, ...],
    stdin: Connection,
    stdout: Connection,
) -> None:
    """Be the process of a program: with its environment, its arguments, and what it ignores, reads
    and writes.
    """
    for number in ignores:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(env)
    for end, numbers in ((stdin, [0]), (stdout, [1, 2])):
        for number in numbers:
            os.dup2(end.fileno(), number)
        end.close()
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1)
    sys.argv = [sys.argv[0], *arguments]
    sys.exit(program(arguments))


class Process:
    """A search whose trials have five steps and wait for a word before each."""

    def __init__(
        self,
        folder: Path,
        study: Path,
        *,
        store: str | None = None,
        more: dict[str, str] | None = None,
        ignores: tuple[signal.Signals, ...] = (),
    ) -> None:
        place = [store or f"sqlite:///{folder}/store.db", str(folder / "artifacts"), str(study)]
        arguments = [*place, "--slow", str(STEPS)]
        self.process = Forked(
            search_world.main, arguments, {**os.environ, **(more or {})}, ignores=ignores
        )

    def line(self) -> str:
        return self.process.stdout.readline().strip()

    def go(self, steps: int = 1) -> None:
        """Let a waiting trial do its next steps; it then waits before the one after."""
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
        output = self.process.communicate("go\n" * 1000, timeout=60)
        return output.split("\n"), self.process.wait()


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
