"""Models as shipped, whatever their task: the one door through which ONNX files are run.

Without a guard a file is run in this process: those that were exported a moment ago, whose latency
is measured too. Files of others, named by a person or fetched from a store, get a guard, and with
it a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from automl_sr.errors import ModelError
from automl_sr.evaluation.guard import Guard
from automl_sr.evaluation.guarded import GuardedSession
from automl_sr.evaluation.sessions import LocalSession, Session, check_one_to_one, fitted

if TYPE_CHECKING:
    from automl_sr.plugin.task import Feed

__all__ = ["Guard", "OnnxModel"]

Array = NDArray[Any]
T = TypeVar("T")


class OnnxModel:
    """An ONNX file, called with one float32 batch, or run on arrays by name.

    Its exporter wrote the `metadata`. Raises ModelError for a missing or damaged file, or one of
    another kind, UseError for a provider that is not installed. With a guard, ModelError and
    StopRequestedError where it takes too long, or is not wanted any more. `session` is one of this
    file that is open already.
    """

    def __init__(
        self,
        path: Path | str,
        threads: int = 1,
        provider: str = "cpu",
        guard: Guard | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        self.path = Path(path)
        self.threads = threads
        self.provider = provider
        self.session: Session = session or _opened(self.path, threads, provider, guard)
        self.inputs = self.session.signature.inputs
        self.outputs = self.session.signature.outputs
        self.metadata = self.session.signature.metadata
        self.check()

    def check(self) -> None:
        """Raise ModelError for a file that is no such model; models of one kind look closer."""

    def __call__(self, batch: Array, /) -> Array:
        """Return the first output for one float32 batch.

        Raises UseError for an input that the net cannot take, ModelError for a net that takes more
        than one input, or other numbers.
        """
        check_one_to_one(self.path, self.session.signature)
        taken = self.inputs[0].name
        given = self.outputs[0].name
        feed = {taken: np.asarray(batch, np.float32)}
        outputs = self.session.run(feed, [given])
        return outputs[given]

    def run(self, feed: Feed, /) -> dict[str, Array]:
        """Return all outputs by name for all inputs by name.

        Raises UseError for inputs that the net cannot take.
        """
        given = fitted(self.path, self.session.signature, feed)
        names = [port.name for port in self.outputs]
        return self.session.run(given, names)

    def apart(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function(path, *arguments)` gives, called where the file is open.

        Reading a file may hang as well. Arguments and result are such as fit into JSON.
        """
        return self.session.apart(function, *arguments)

    def close(self) -> None:
        """Release the file before this object goes."""
        self.session.close()

    def number(self, key: str) -> int:
        """Return a whole number that the exporter wrote into the file.

        Raises ModelError where there is none.
        """
        try:
            return int(self.metadata[key])
        except (KeyError, ValueError) as error:
            found = self.metadata.get(key, "nothing")
            raise ModelError(
                f"{self.path} does not tell its {key} (found: {found[:40]}).",
                "Export it again.",
            ) from error


def _opened(
    path: Path,
    threads: int,
    provider: str,
    guard: Guard | None,
) -> Session:
    if guard is None:
        return LocalSession(path, threads, provider)
    return GuardedSession(path, threads, provider, guard)
