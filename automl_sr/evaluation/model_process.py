"""The other side of `GuardedSession`: `python -m` it with two descriptors, of the line and of the
shared array.
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
            answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        except Exception as error:  # noqa: BLE001 - a file of others may fail in any way
            message = f"{self._path} cannot be used: {first_line(error)}."
            answer = {"error": ModelError.__name__, "message": message, "hint": ""}
        self._channel.send_bytes(json.dumps(answer).encode())

    def _result(self, request: dict[str, Any]) -> Any:
        match request["do"]:
            case "open":
                return self._open(request)
            case "call":
                return pkgutil.resolve_name(request["place"])(self._path, *request["arguments"])
            case _:
                return self._run(request["feed"], request["outputs"], request["most"])

    def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["memory"] is not None:
            _limit_memory(request["memory"])
        self._path = Path(request["path"])
        self._session = LocalSession(self._path, request["threads"], request["provider"])
        return asdict(self._session.signature)

    def _run(self, feed: list[Place], outputs: list[str], most: int) -> list[Place]:
        if self._session is None:
            raise ModelError("No file is open.")
        found = self._session.run(self._shared.views(feed), outputs)
        bytes_ = sum(value.nbytes for value in found.values())
        if bytes_ > most:
            shapes = ", ".join(str(list(shape)) for _, _, shape, _ in feed)
            size = f"{bytes_ / 1e9:.3g} GB"
            raise ModelError(
                f"{self._path} gives {size} for an input of {shapes}, more than there is room for."
            )
        return self._shared.put(found)


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

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    _prepare()
    Server(Connection(int(sys.argv[1])), SharedArrays(int(sys.argv[2]))).serve()
