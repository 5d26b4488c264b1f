"""Sessions of ONNX Runtime: how a file is opened, what it says of itself, and one run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from automl_sr.errors import ModelError, UseError
from automl_sr.plugin.task import Port

if TYPE_CHECKING:
    from automl_sr.plugin.task import Feed

Array = NDArray[Any]
T = TypeVar("T")

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CODE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Non-zero status code returned while running | Name:'.*?'"
    r" Status Message:"
)
_PLACE = re.compile(r"\S+\.(?:cc|h):\d+ (?:[^()]*\([^()]*\)(?: const)? ?(?:\[with [^\]]*\])?)?")
"""Where in ONNX Runtime's sources an error was raised: of no use to the person."""
_NO_MEMORY = ("bad_alloc", "Failed to allocate memory", "out of memory", "Unable to allocate")
_OUTSIDE = ("escapes model directory", "Absolute path not allowed")
MOST_WORDS = 300
FLOAT = "tensor(float)"
READABLE = frozenset({FLOAT, "tensor(float16)", "tensor(double)"})
"""Types of the output of a net that makes one batch of one."""
TYPES: dict[str, type[np.generic]] = {
    FLOAT: np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
"""Types that inputs and outputs may have where they are named."""


@dataclass(frozen=True)
class Signature:
    """What a file says of itself."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: dict[str, str]


class Session(Protocol):
    """An opened file, in this process or in one of its own."""

    @property
    def signature(self) -> Signature:
        """What the file says of itself."""

    def run(self, feed: Feed, outputs: Sequence[str]) -> dict[str, Array]:
        """Return outputs by name. Raises UseError for arrays that the net cannot take."""

    def first_run(self, feed: Feed, outputs: Sequence[str]) -> dict[str, Array]:
        """Return outputs for small inputs, for which a net needs little time."""

    def apart(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function(path, *arguments)` gives, called where the file is open."""

    def close(self) -> None:
        """Release the file."""


class LocalSession:
    """A file in a session of this process.

    It has a fixed number of threads, which do not spin, and is deterministic.
    Raises ModelError for a missing or damaged file, UseError for a provider that is not installed.
    """

    def __init__(self, path: Path, threads: int, provider: str) -> None:
        check_file(path)
        self._path = path
        self._session = _open(path, threads, provider)
        self.signature = _signature(path, self._session)

    def run(self, feed: Feed, outputs: Sequence[str]) -> dict[str, Array]:
        """Return outputs by name. Raises UseError for arrays that the net cannot take."""
        given = {}
        for name, value in feed.items():
            given[name] = np.ascontiguousarray(value)
        try:
            arrays = self._session.run(list(outputs), given)
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise _failed(self._path, feed, error) from error
        return dict(zip(outputs, arrays, strict=True))

    first_run = run

    def apart(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function(path, *arguments)` gives."""
        return function(self._path, *arguments)

    def close(self) -> None:
        """Do nothing: the session goes with this object."""


def check_file(path: Path) -> None:
    """Raise ModelError where there is no such file."""
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that holds a zero byte
        there = False
    if not there:
        raise ModelError(f"There is no model file {path}.")


def _open(path: Path, threads: int, provider: str) -> Any:
    import onnxruntime

    name = _PROVIDERS.get(provider)
    if name not in onnxruntime.get_available_providers():
        raise UseError(
            f"ONNX Runtime has no device {provider!r} here.",
            "Use cpu, or install onnxruntime-gpu for cuda.",
        )
    options = _options(threads)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[name])
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise _not_opened(path, error) from error
    if session.get_providers()[0] != name:  # ONNX Runtime falls back to the CPU without a word
        raise UseError(
            f"ONNX Runtime cannot start the device {provider!r} here.",
            "Are CUDA's libraries installed?",
        )
    return session


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # Errors are raised too: what is written besides would reach the terminal as it is.
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _not_opened(path: Path, error: Exception) -> ModelError:
    """Make the error of a file that cannot be opened."""
    if _needs_memory(error):
        return ModelError(f"{path} needs more memory to be opened than is free.")
    said = str(error)
    if any(word in said for word in _OUTSIDE):
        return ModelError(
            f"{path} wants to read weights outside of its own folder.",
            "Put them beside it, or into it.",
        )
    return ModelError(f"{path} is no ONNX model that ONNX Runtime can run: {_reason(error)}.")


def _signature(path: Path, session: Any) -> Signature:
    try:
        metadata = dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path} has metadata that are not text in UTF-8.",
            "Export it again.",
        ) from error
    inputs = _ports(session.get_inputs())
    outputs = _ports(session.get_outputs())
    if not outputs:
        raise ModelError(f"{path} gives no output.", "Export it again.")
    return Signature(inputs, outputs, metadata)


def check_one_to_one(path: Path, signature: Signature) -> None:
    """Raise ModelError for a net that does not take one batch of numbers, or gives none first."""
    inputs = signature.inputs
    if len(inputs) != 1:
        names = ""
        if inputs:
            names = f" ({', '.join(port.name for port in inputs)})"
        raise ModelError(
            f"{path} takes {len(inputs) or 'no'} inputs{names}.",
            "A model has to take one batch.",
        )
    taken = inputs[0].type
    if taken != FLOAT:
        raise ModelError(
            f"{path} takes {taken}.",
            "A model has to take tensor(float): export it in float32.",
        )
    given = signature.outputs[0].type
    if given not in READABLE:
        raise ModelError(
            f"{path} gives {given}.",
            "A model has to give tensor(float): export it in float32.",
        )


def fitted(path: Path, signature: Signature, feed: Feed) -> dict[str, Array]:
    """Return arrays in the types that a net takes.

    Raises UseError where arrays are missing or too many, ModelError for a net that takes or gives
    no numbers.
    """
    for port in (*signature.inputs, *signature.outputs):
        if port.type not in TYPES:
            raise ModelError(
                f"{path} has {port.name} of the type {port.type}.",
                "Export it with plain numbers.",
            )

    wanted = [port.name for port in signature.inputs]
    if set(feed) != set(wanted):
        taken = ", ".join(wanted) or "nothing"
        given = ", ".join(feed) or "nothing"
        raise UseError(f"{path} takes {taken}, not {given}.")

    arrays = {}
    for port in signature.inputs:
        arrays[port.name] = np.asarray(feed[port.name], TYPES[port.type])
    return arrays


def _ports(items: Sequence[Any]) -> tuple[Port, ...]:
    ports = []
    for item in items:
        ports.append(Port(item.name, item.type, tuple(item.shape)))
    return tuple(ports)


def _failed(path: Path, feed: Feed, error: Exception) -> UseError:
    """Make the error of a run."""
    sizes = {name: list(value.shape) for name, value in feed.items()}
    if len(sizes) == 1:
        [size] = map(str, sizes.values())
    else:
        size = ", ".join(f"{name} {shape}" for name, shape in sizes.items())
    if _needs_memory(error):
        return UseError(
            f"{path} needs more memory for {size} than is free.",
            "Give it smaller images or tiles.",
        )
    return UseError(f"{path} cannot run on {size}: {_reason(error)}.")


def _needs_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    said = str(error)
    return any(word in said for word in _NO_MEMORY)


def _reason(error: BaseException) -> str:
    """Return the words of an error that say something to people."""
    said = _CODE.sub("", str(error))
    said = _PLACE.sub("", said)
    words = " ".join(said.split())[:MOST_WORDS]
    return words.rstrip(". ") or type(error).__name__
