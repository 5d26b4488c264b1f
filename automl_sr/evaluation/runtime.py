"""Models as shipped, whatever their task: the one door through which ONNX files are run.

Without a guard a file is run in this process: those that were exported a moment ago, whose latency is measured too.
Files of others, named by a person or fetched from a store, get a guard, and with it a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from automl_sr.errors import ModelError
from automl_sr.evaluation.guard import Guard
from automl_sr.evaluation.guarded import GuardedSession
from automl_sr.evaluation.sessions import LocalSession, Session

__all__ = ["Guard", "OnnxModel"]

Array = NDArray[Any]
T = TypeVar("T")


class OnnxModel:
    """An ONNX file that takes one float32 batch and gives one; the exporter tells of it in `metadata_props`.

    Raises ModelError for a missing or damaged file, or one of another kind, UseError for a provider that is not
    installed. With a guard, ModelError and StopRequestedError where it takes too long, or is not wanted any more.
    """

    def __init__(self, path: Path | str, threads: int = 1, provider: str = "cpu", guard: Guard | None = None) -> None:
        self.path = Path(path)
        self.threads = threads
        self.provider = provider
        self.session: Session = (
            LocalSession(self.path, threads, provider)
            if guard is None
            else GuardedSession(self.path, threads, provider, guard)
        )
        self.inputs = self.session.signature.inputs
        self.metadata = self.session.signature.metadata

    def __call__(self, batch: Array, /) -> Array:
        """Run one float32 batch and give the first output. Raises UseError for an input that the net cannot take."""
        return self.session.run(batch)

    def apart(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function(path, *arguments)` gives, called where the file is open: reading it may hang as well.

        Arguments and result are such as fit into JSON.
        """
        return self.session.apart(function, *arguments)

    def close(self) -> None:
        """Give the file up before this object goes."""
        self.session.close()

    def number(self, key: str) -> int:
        """Return a whole number that the exporter wrote into the file. Raises ModelError where there is none."""
        try:
            return int(self.metadata[key])
        except (KeyError, ValueError) as error:
            found = self.metadata.get(key, "nothing")
            raise ModelError(
                f"{self.path} does not tell its {key} (found: {found[:40]}).", "Export it again."
            ) from error
