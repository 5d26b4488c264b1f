"""The other side of `GuardedSession`.

`python -m` it with two descriptors: of the line, and of the shared array.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import sys
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from automl_sr.errors import AutomlSRError, ModelError, first_line
from automl_sr.evaluation.sessions import LocalSession
from automl_sr.evaluation.shared_array import Place, SharedArrays

EXPENDABLE = "1000"
"""Where memory runs out, the kernel ends this process before others."""


class Server:
    """Answers requests about one file, one after the other."""

    def __init__(self, channel: Connection, shared: SharedArrays) -> None:
        self._channel = channel
        self._shared = shared
        self._path = Path()
        self._session: LocalSession | None = None

    def serve(self) -> None:
        """Answer until nobody asks any more."""
        while True:
            try:
                request = json.loads(self._channel.recv_bytes())
            except EOFError:
                return
            self._answer(request)

    def _answer(self, request: dict[str, Any]) -> None:
        try:
            answer = {"result": self._result(request)}
        except AutomlSRError as error:
            answer = {
                "error": type(error).__name__,
                "message": error.message,
                "hint": error.hint,
            }
        except Exception as error:  # noqa: BLE001 - a file of others may fail in any way
            answer = {
                "error": ModelError.__name__,
                "message": f"{self._path} cannot be used: {first_line(error)}.",
                "hint": "",
            }
        self._channel.send_bytes(json.dumps(answer).encode())

    def _result(self, request: dict[str, Any]) -> Any:
        match request["do"]:
            case "open":
                return self._open(request)
            case "call":
                function = pkgutil.resolve_name(request["place"])
                return function(self._path, *request["arguments"])
            case _:
                return self._run(
                    request["feed"],
                    request["outputs"],
                    request["most"],
                )

    def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        # Before the file is looked at: opening it is what may take all memory.
        if request["memory"] is not None:
            _limit_memory(request["memory"])
        self._path = Path(request["path"])
        self._session = LocalSession(
            self._path,
            request["threads"],
            request["provider"],
        )
        return asdict(self._session.signature)

    def _run(self, feed: list[Place], outputs: list[str], most: int) -> list[Place]:
        if self._session is None:
            raise ModelError("No file is open.")
        given = self._session.run(self._shared.views(feed), outputs)

        # Before they are copied: the shared file lies in memory as well.
        size = sum(value.nbytes for value in given.values())
        if size > most:
            shapes = ", ".join(str(list(shape)) for _, _, shape, _ in feed)
            raise ModelError(
                f"{self._path} gives {size / 1e9:.3g} GB for an input of {shapes}, more than there"
                " is room for."
            )
        return self._shared.put(given)


def _limit_memory(size: int) -> None:
    """Let requests beyond so many bytes fail, where the system knows such a limit."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # Not RLIMIT_AS: addresses that are only reserved, by threads and by allocators, cost
        # nothing.
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _prepare() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(EXPENDABLE, encoding="ascii")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # No dump of a process that breaks down: it would be as large as its memory.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # ends when the other process does, however that happens
    os._exit(0)


def _main() -> None:
    _prepare()
    line, shared = (int(word) for word in sys.argv[1:3])
    Server(Connection(line), SharedArrays(shared)).serve()


if __name__ == "__main__":
    _main()
