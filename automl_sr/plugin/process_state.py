"""What belongs to the whole process, and is put back after foreign code that changed it.

Techniques run in the process of the worker, one trial after the other. One that changes torch's
default type, the working directory or the handler of a signal would change all trials after it, and
the worker itself.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

if sys.platform != "win32":
    import resource

REAL_EXIT = os._exit
"""That name means something else while foreign code runs."""


@dataclass(frozen=True)
class Part:
    """Something that all code of the process shares; `read` gives what `write` takes."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    lasts: bool = False
    """Whether a library may change it for good when it is imported."""
    quiet: bool = False
    """Whether nobody need hear of a change: libraries make many."""


class ProcessState:
    """The shared state as it is now; `restore` brings it back."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}
        self._keep(_parts())

    def restore(self) -> list[str]:
        """Put everything back, and return the names of what had changed.

        What libraries change as a matter of course is put back too, but not named.
        """
        return self._restore(_parts())

    def restore_after_import(self) -> list[str]:
        """Put back what no import should change.

        What it may change is as it should be from now on.
        """
        lasting: list[Part] = []
        others: list[Part] = []
        for part in _parts():
            if part.lasts:
                lasting.append(part)
            else:
                others.append(part)
        changed = self._restore(others)
        self._keep(lasting)
        return changed

    def _keep(self, parts: list[Part]) -> None:
        for part in parts:
            self._kept[part.name] = part.read()

    def _restore(self, parts: list[Part]) -> list[str]:
        changed: list[str] = []
        for part in parts:
            # Of a library that was imported meanwhile: how it is now is how it came.
            if part.name not in self._kept:
                self._kept[part.name] = part.read()
                continue
            before = self._kept[part.name]
            if part.read() == before:
                continue
            part.write(before)
            if not part.quiet:
                changed.append(part.name)
        return changed


def _parts() -> list[Part]:
    """Return what can be changed here."""
    found = [*PYTHON]
    # Python lets no other thread set handlers.
    if threading.current_thread() is threading.main_thread():
        found += SIGNALS
    # Neither is imported for this: listing plugins loads nothing heavy.
    if "numpy" in sys.modules:
        found += NUMPY
    if "torch" in sys.modules:
        found += TORCH
    return found


# Python


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - as it is said to be, links included
    except FileNotFoundError:
        return None


def _enter(folder: str | None) -> None:
    if folder is not None:
        with contextlib.suppress(OSError):
            os.chdir(folder)


def _umask() -> int:
    # It can be read only by setting another one.
    found = os.umask(0o077)
    os.umask(found)
    return found


def _set_environment(kept: dict[str, str]) -> None:
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    for name, value in kept.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    # The C library reads TZ only when it is told to.
    if hasattr(time, "tzset"):
        time.tzset()


def _streams() -> tuple[tuple[Any, bool], ...]:
    """Return standard input, output and errors, each with whether it is closed."""
    found: list[tuple[Any, bool]] = []
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        found.append((stream, _closed(stream)))
    return tuple(found)


def _closed(stream: Any) -> bool:
    return bool(getattr(stream, "closed", False))


def _set_streams(kept: tuple[tuple[Any, bool], ...]) -> None:
    _hold_numbers()
    opened: list[Any] = []
    for number, (stream, closed) in enumerate(kept):
        # A file that was closed cannot be opened again: a new one takes its number.
        if _closed(stream) and not closed:
            opened.append(_reopened(number))
        else:
            opened.append(stream)
    sys.stdin, sys.stdout, sys.stderr = opened


def _reopened(number: int) -> Any:
    mode = "w"
    if number == 0:
        mode = "r"
    # By lines, as on a terminal: what is printed is seen at once. The number outlives the file.
    return os.fdopen(number, mode, 1, closefd=False)


def _hold_numbers() -> None:
    """Let the numbers 0, 1 and 2 mean no other file, where they were closed."""
    # Native code goes on writing to them, into whatever file is opened next. The system gives the
    # lowest free number, so that what is opened first fills the gaps.
    number = 0
    while number <= 2:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)


def _numbers() -> tuple[bool, ...]:
    """Return which of the numbers 0, 1 and 2 are open."""
    return tuple(_is_open(number) for number in range(3))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _hooks() -> tuple[Any, ...]:
    return (
        sys.excepthook,
        sys.unraisablehook,
        sys.displayhook,
        threading.excepthook,
    )


def _set_hooks(kept: tuple[Any, ...]) -> None:
    sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook = kept


def _tracing() -> tuple[Any, ...]:
    return (
        sys.gettrace(),
        sys.getprofile(),
        threading.gettrace(),
        threading.getprofile(),
    )


def _set_tracing(kept: tuple[Any, ...]) -> None:
    trace, profile, trace_of_threads, profile_of_threads = kept
    sys.settrace(trace)
    sys.setprofile(profile)
    threading.settrace(trace_of_threads)
    threading.setprofile(profile_of_threads)


def _collecting() -> tuple[Any, ...]:
    return (gc.isenabled(), gc.get_threshold(), gc.get_debug())


def _set_collecting(kept: tuple[Any, ...]) -> None:
    enabled, thresholds, debug = kept
    if enabled:
        gc.enable()
    else:
        gc.disable()
    gc.set_threshold(*thresholds)
    gc.set_debug(debug)


def _warnings() -> tuple[Any, ...]:
    return ([*warnings.filters], warnings.showwarning)


def _set_warnings(kept: tuple[Any, ...]) -> None:
    filters, show = kept
    # What this does at its end tells Python that the filters are others.
    with warnings.catch_warnings():
        pass
    warnings.filters[:] = filters  # type: ignore[index]
    warnings.showwarning = show


def _logging() -> tuple[Any, ...]:
    root = logging.getLogger()
    return (root.manager.disable, root.level, [*root.handlers])


def _set_logging(kept: tuple[Any, ...]) -> None:
    disabled, level, handlers = kept
    root = logging.getLogger()
    root.manager.disable = disabled
    root.level = level
    root.handlers[:] = handlers
    # Forgets which messages had been found to be of no interest.
    root.setLevel(level)


def _set_builtins(kept: dict[str, Any]) -> None:
    for name in set(vars(builtins)) - set(kept):
        delattr(builtins, name)
    vars(builtins).update(kept)


def _set_path(kept: list[str]) -> None:
    sys.path[:] = kept


def _limits() -> dict[int, int]:
    """Return how much of each resource may be used."""
    found: dict[int, int] = {}
    if sys.platform == "win32":
        return found
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            which = getattr(resource, name)
            soft, _ = resource.getrlimit(which)
            found[which] = soft
    return found


def _set_limits(kept: dict[int, int]) -> None:
    if sys.platform == "win32":
        return
    for which, soft in kept.items():
        _, most = resource.getrlimit(which)
        # It fails where the hard limit was lowered too, for good.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (soft, most))


def _set_locale(kept: str) -> None:
    locale.setlocale(locale.LC_ALL, kept)


def _set_tempdir(kept: str | None) -> None:
    tempfile.tempdir = kept


def _set_exit(_: bool) -> None:
    os._exit = REAL_EXIT


PYTHON = (
    Part("os._exit", lambda: os._exit is REAL_EXIT, _set_exit, quiet=True),
    Part("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Part("the working directory", _folder, _enter),
    Part("the umask", _umask, os.umask),
    Part(
        "environment variables", lambda: dict(os.environ), _set_environment, lasts=True, quiet=True
    ),
    Part("the locale", lambda: locale.setlocale(locale.LC_ALL), _set_locale),
    Part("standard files", _numbers, lambda _: _hold_numbers()),
    Part("standard streams", _streams, _set_streams),
    Part("hooks for exceptions", _hooks, _set_hooks, lasts=True, quiet=True),
    Part("tracing", _tracing, _set_tracing),
    Part("the switch interval of threads", sys.getswitchinterval, sys.setswitchinterval),
    Part("the garbage collector", _collecting, _set_collecting, lasts=True, quiet=True),
    Part("warnings filters", _warnings, _set_warnings, lasts=True, quiet=True),
    Part("logging", _logging, _set_logging, lasts=True, quiet=True),
    Part("Python's builtins", lambda: dict(vars(builtins)), _set_builtins, lasts=True),
    Part("the module search path", lambda: [*sys.path], _set_path, lasts=True, quiet=True),
    Part("limits of resources", _limits, _set_limits),
    Part("the folder for temporary files", lambda: tempfile.tempdir, _set_tempdir, quiet=True),
    Part("the timeout of sockets", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Part("random states", random.getstate, random.setstate, quiet=True),
)


# Signals


def _handlers() -> dict[int, Any]:
    found: dict[int, Any] = {}
    for number in signal.valid_signals():
        found[int(number)] = signal.getsignal(number)
    return found


def _set_handlers(kept: dict[int, Any]) -> None:
    for number, handler in kept.items():
        # None stands for one that was not set from Python.
        if handler is None or signal.getsignal(number) is handler:
            continue
        # Some signals cannot be handled.
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, handler)


def _timers() -> dict[int, bool]:
    """Return which timers run: how much is left changes all the time."""
    found: dict[int, bool] = {}
    if not hasattr(signal, "getitimer"):
        return found
    for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        left, _ = signal.getitimer(which)
        found[which] = left > 0
    return found


def _set_timers(kept: dict[int, bool]) -> None:
    for which, runs in kept.items():
        if not runs:
            signal.setitimer(which, 0)


def _blocked() -> set[Any]:
    if hasattr(signal, "pthread_sigmask"):
        return signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return set()


def _set_blocked(kept: set[Any]) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, kept)


SIGNALS = (
    Part("timers", _timers, _set_timers),  # before the handlers that they would call
    Part("handlers of signals", _handlers, _set_handlers),
    Part("blocked signals", _blocked, _set_blocked),
)


# NumPy and torch


def _numpy() -> Any:
    return sys.modules["numpy"]


def _numpy_random() -> tuple[Any, ...]:
    name, keys, *rest = _numpy().random.get_state()
    # As bytes, since arrays have no single answer to whether they are equal.
    return (name, keys.tobytes(), keys.dtype.str, *rest)


def _set_numpy_random(kept: tuple[Any, ...]) -> None:
    numpy = _numpy()
    name, content, dtype, *rest = kept
    keys = numpy.frombuffer(content, dtype=dtype)
    numpy.random.set_state((name, keys, *rest))


NUMPY = (
    Part(
        "NumPy's answer to floating-point errors",
        lambda: _numpy().geterr(),
        lambda kept: _numpy().seterr(**kept),
    ),
    Part("NumPy's random state", _numpy_random, _set_numpy_random, quiet=True),
)


def _torch() -> Any:
    return sys.modules["torch"]


def _device() -> str:
    return str(_torch().get_default_device())


def _set_device(kept: str) -> None:
    torch = _torch()
    if kept == "cpu":
        # Not "cpu": a default device costs time at every call of torch, says its documentation.
        torch.set_default_device(None)
    else:
        torch.set_default_device(kept)


def _deterministic() -> tuple[Any, ...]:
    torch = _torch()
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def _set_deterministic(kept: tuple[Any, ...]) -> None:
    torch = _torch()
    enabled, warn_only, fill, deterministic, benchmark = kept
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = fill
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = benchmark


def _anomaly() -> tuple[bool, bool]:
    torch = _torch()
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _set_anomaly(kept: tuple[bool, bool]) -> None:
    enabled, check_nan = kept
    _torch().autograd.set_detect_anomaly(enabled, check_nan)


def _backends() -> tuple[Any, ...]:
    backends = _torch().backends
    return (
        backends.mkldnn.enabled,
        backends.cudnn.enabled,
        backends.cudnn.allow_tf32,
        backends.cuda.matmul.allow_tf32,
        backends.quantized.engine,
    )


def _set_backends(kept: tuple[Any, ...]) -> None:
    backends = _torch().backends
    mkldnn, cudnn, cudnn_tf32, tf32, engine = kept
    backends.mkldnn.enabled = mkldnn
    backends.cudnn.enabled = cudnn
    backends.cudnn.allow_tf32 = cudnn_tf32
    backends.cuda.matmul.allow_tf32 = tf32
    backends.quantized.engine = engine


def _autocast() -> dict[str, bool]:
    found: dict[str, bool] = {}
    for device in ("cpu", "cuda"):
        found[device] = _torch().is_autocast_enabled(device)
    return found


def _set_autocast(kept: dict[str, bool]) -> None:
    for device, enabled in kept.items():
        _torch().set_autocast_enabled(device, enabled)


def _flushes() -> bool:
    # torch tells nobody, but a product shows it.
    torch = _torch()
    smallest = torch.full((1,), 1e-310, dtype=torch.float64, device="cpu")
    product = (smallest * 1.0).item()
    return bool(product == 0.0)


def _torch_random() -> list[int]:
    found: list[int] = _torch().get_rng_state().tolist()
    return found


def _set_torch_random(kept: list[int]) -> None:
    torch = _torch()
    torch.set_rng_state(torch.tensor(kept, dtype=torch.uint8, device="cpu"))


TORCH = (
    Part(
        "torch's default type",
        lambda: _torch().get_default_dtype(),
        lambda kept: _torch().set_default_dtype(kept),
    ),
    Part("torch's default device", _device, _set_device),
    Part(
        "torch's gradients",
        lambda: _torch().is_grad_enabled(),
        lambda kept: _torch().set_grad_enabled(kept),
    ),
    Part(
        "torch's threads",
        lambda: _torch().get_num_threads(),
        lambda kept: _torch().set_num_threads(kept),
    ),
    Part("torch's deterministic algorithms", _deterministic, _set_deterministic),
    Part(
        "torch's precision of products",
        lambda: _torch().get_float32_matmul_precision(),
        lambda kept: _torch().set_float32_matmul_precision(kept),
    ),
    Part("torch's detection of anomalies", _anomaly, _set_anomaly),
    Part("torch's libraries", _backends, _set_backends),
    Part("torch's autocast", _autocast, _set_autocast),
    Part("torch's smallest numbers", _flushes, lambda kept: _torch().set_flush_denormal(kept)),
    Part("torch's random state", _torch_random, _set_torch_random, quiet=True),
)
