"""A file of others in a process of its own.

It can be ended at any time, and gets only so much memory.
Nothing less ends all of them: ONNX Runtime looks at `RunOptions.terminate` between two nodes, so
that a loop with an empty body, or one huge product of matrices, goes on for ever; and while a
session is made, constants are folded for as long as it takes, whatever its cancellation flag says.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

from automl_sr import errors
from automl_sr.errors import ModelError, StopRequestedError, UseError
from automl_sr.evaluation.guard import Guard
from automl_sr.evaluation.sessions import Signature, check_file
from automl_sr.evaluation.shared_array import SharedArrays, make_shared
from automl_sr.plugin.task import Port

if TYPE_CHECKING:
    from automl_sr.plugin.task import Feed

Array = NDArray[Any]
T = TypeVar("T")

LOOK = 0.1
"""Seconds between two looks at whether the work is still wanted."""
LAST_WORDS = 1.0
"""Seconds within which a process that has let go of the line has died."""
MEMORY_SHARE = 0.75
"""So much of the memory that is free when a file is opened it may take."""
MODEL_PROCESS = "automl_sr.evaluation.model_process"
MOST_WORDS = 1 << 26
"""Bytes of a message that is no batch."""


class GuardedSession:
    """A file in a session of another process.

    Raises what `LocalSession` does, and ModelError for one that is ended.
    """

    def __init__(
        self,
        path: Path,
        threads: int,
        provider: str,
        guard: Guard,
    ) -> None:
        check_file(path)
        self._path = path
        self._guard = guard
        self._memory = int(MEMORY_SHARE * _free_memory())
        shared = make_shared()
        self._shared = SharedArrays(shared)
        self._process, self._channel = _start(shared)
        # Where nobody closes it, the process ends with this object, or with the interpreter.
        self._end = weakref.finalize(self, _end, self._process, self._channel, shared)

        # CUDA reserves more addresses than there is memory.
        limit = None
        if provider != "cuda":
            limit = self._memory
        request = {
            "do": "open",
            "path": str(path),
            "threads": threads,
            "provider": provider,
            "memory": limit,
        }
        told = self._ask(request, guard.first_seconds)
        self.signature = Signature(
            _ports(told["inputs"]),
            _ports(told["outputs"]),
            told["metadata"],
        )

    def run(self, feed: Feed, outputs: Sequence[str]) -> dict[str, Array]:
        """Return outputs by name. Raises UseError for arrays that the net cannot take."""
        return self._run(feed, outputs, self._guard.seconds)

    def first_run(self, feed: Feed, outputs: Sequence[str]) -> dict[str, Array]:
        """Return outputs for small inputs."""
        return self._run(feed, outputs, self._guard.first_seconds)

    def apart(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function(path, *arguments)` gives, called in the other process.

        Arguments and result have to fit into JSON.
        """
        place = f"{function.__module__}:{function.__qualname__}"
        request = {"do": "call", "place": place, "arguments": arguments}
        result: T = self._ask(request, self._guard.first_seconds)
        return result

    def close(self) -> None:
        """End the process."""
        self._end()

    def _run(self, feed: Feed, outputs: Sequence[str], seconds: float) -> dict[str, Array]:
        with self._ended_explained():
            places = self._shared.put(feed)
        request = {
            "do": "run",
            "feed": places,
            "outputs": list(outputs),
            "most": self._memory // 4,
        }
        given = self._ask(request, seconds)

        arrays: dict[str, Array] = {}
        with self._ended_explained():
            # Copied: the next run writes over the views.
            for name, value in self._shared.views(given).items():
                arrays[name] = value.copy()
        return arrays

    def _ask(self, request: dict[str, Any], seconds: float) -> Any:
        """Send a request, wait for its answer, and give its result."""
        with self._ended_explained():
            self._channel.send_bytes(json.dumps(request).encode())
            self._wait(seconds)
            answer = json.loads(self._channel.recv_bytes(MOST_WORDS))
        if "error" in answer:
            kind = getattr(errors, str(answer["error"]), ModelError)
            raise kind(answer["message"], answer["hint"])
        return answer["result"]

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._channel.poll(LOOK):
            if self._guard.stop():
                raise StopRequestedError(f"Stopped while {self._path} was at work.")
            if time.monotonic() > deadline:
                raise ModelError(
                    f"{self._path} was still at work after {seconds:g} seconds, and was ended.",
                    "It may hold a loop without an end; else allow it more seconds, or give it"
                    " smaller images.",
                )

    @contextlib.contextmanager
    def _ended_explained(self) -> Any:
        """End the process where anything goes wrong, and say why it has ended."""
        # What comes next on the line would be anybody's guess.
        try:
            yield
        except (EOFError, OSError, ValueError) as error:
            # Else it would seem to have died of being ended here.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WORDS)
            self.close()
            raise self._ended() from error
        except BaseException:
            self.close()
            raise

    def _ended(self) -> UseError:
        code = self._process.returncode
        how = ""
        # SIGKILL says nothing: it is what this side ends the process with.
        if code is not None and code < 0 and code != -signal.SIGKILL:
            how = f" ({signal.Signals(-code).name})"
        free = f"{self._memory / 1e9:.3g} GB"
        return ModelError(
            f"{self._path} made ONNX Runtime break down{how}.",
            f"It is damaged, or needs more memory than {free}.",
        )


def _start(shared: int) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = Pipe()
    line = theirs.fileno()
    try:
        process = subprocess.Popen(  # noqa: S603 - the program is our own
            [sys.executable, "-P", "-m", MODEL_PROCESS, str(line), str(shared)],
            pass_fds=[line, shared],
            stdin=subprocess.PIPE,  # its end tells the other process that this one is gone
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process alone
        )
    except BaseException:
        ours.close()
        os.close(shared)
        raise
    finally:
        # The other process has its own copy: with this one open its end would never be noticed.
        theirs.close()
    return process, ours


def _end(process: subprocess.Popen[bytes], channel: Connection, shared: int) -> None:
    process.kill()
    process.wait()
    channel.close()
    os.close(shared)
    if process.stdin is not None:
        process.stdin.close()


def _ports(found: list[dict[str, Any]]) -> tuple[Port, ...]:
    ports = []
    for item in found:
        ports.append(Port(item["name"], item["type"], tuple(item["shape"])))
    return tuple(ports)


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
