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
        self._kept = {part.name: part.read() for part in _parts()}

    def restore(self) -> list[str]:
        """Put everything back, and return the names of what had changed and is no matter of
        course.
        """
        return self._restore(_parts())

    def restore_after_import(self) -> list[str]:
        """Put back what no import should change; what it may change is as it should be from now
        on.
        """
        found = self._restore([part for part in _parts() if not part.lasts])
        self._kept |= {part.name: part.read() for part in _parts() if part.lasts}
        return found

    def _restore(self, parts: list[Part]) -> list[str]:
        changed = []
        for part in parts:
            if part.name not in self._kept:  # of a library that was imported meanwhile
                self._kept[part.name] = part.read()
            elif part.read() != self._kept[part.name]:
                part.write(self._kept[part.name])
                changed += [] if part.quiet else [part.name]
        return changed


def _parts() -> list[Part]:
    """Return what can be changed here: signals belong to the main thread, torch and numpy may not
    be imported.
    """
    found = [*PYTHON]
    if threading.current_thread() is threading.main_thread():
        found += SIGNALS
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
    found = os.umask(0o077)
    os.umask(found)
    return found


def _set_environment(kept: dict[str, str]) -> None:
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    for name, value in kept.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    if hasattr(time, "tzset"):
        time.tzset()


def _streams() -> tuple[tuple[Any, bool], ...]:
    return tuple((stream, _closed(stream)) for stream in (sys.stdin, sys.stdout, sys.stderr))


def _closed(stream: Any) -> bool:
    return bool(getattr(stream, "closed", False))


def _set_streams(kept: tuple[tuple[Any, bool], ...]) -> None:
    _hold_numbers()
    opened = []
    for number, (stream, closed) in enumerate(kept):
        if _closed(stream) and not closed:
            opened.append(os.fdopen(number, "r" if number == 0 else "w", 1, closefd=False))
        else:
            opened.append(stream)
    sys.stdin, sys.stdout, sys.stderr = opened


def _hold_numbers() -> None:
    """Let the numbers 0, 1 and 2 mean no other file, where they were closed: native code goes on
    writing to them.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _numbers() -> tuple[bool, ...]:
    found = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            found.append(False)
        else:
            found.append(True)
    return tuple(found)


def _hooks() -> tuple[Any, ...]:
    return (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook)


def _set_hooks(kept: tuple[Any, ...]) -> None:
    sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook = kept


def _tracing() -> tuple[Any, ...]:
    return (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile())


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
    gc.enable() if enabled else gc.disable()
    gc.set_threshold(*thresholds)
    gc.set_debug(debug)


def _warnings() -> tuple[Any, ...]:
    return ([*warnings.filters], warnings.showwarning)


def _set_warnings(kept: tuple[Any, ...]) -> None:
    filters, show = kept
    with (
        warnings.catch_warnings()
    ):  # what it does at its end tells Python that the filters are others
        pass
    warnings.filters[:] = filters  # type: ignore[index]
    warnings.showwarning = show


def _logging() -> tuple[Any, ...]:
    root = logging.getLogger()
    return (root.manager.disable, root.level, [*root.handlers])


def _set_logging(kept: tuple[Any, ...]) -> None:
    root = logging.getLogger()
    root.manager.disable, root.level, root.handlers[:] = kept
    logging.getLogger().setLevel(
        root.level
    )  # forgets which messages had been found to be of no interest


def _set_builtins(kept: dict[str, Any]) -> None:
    for name in set(vars(builtins)) - set(kept):
        delattr(builtins, name)
    vars(builtins).update(kept)


def _set_path(kept: list[str]) -> None:
    sys.path[:] = kept


def _limits() -> dict[int, int]:
    """Return how much of each resource may be used."""
    if sys.platform == "win32":
        return {}
    named = []
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            named.append(name)
    found: dict[int, int] = {}
    for name in named:
        found[getattr(resource, name)] = resource.getrlimit(getattr(resource, name))[0]
    return found


def _set_limits(kept: dict[int, int]) -> None:
    if sys.platform == "win32":
        return
    for which, soft in kept.items():
        most = resource.getrlimit(which)[1]
        with contextlib.suppress(ValueError, OSError):  # the hard limit was lowered, too, for good
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
        if handler is not None and signal.getsignal(number) is not handler:
            with contextlib.suppress(OSError, ValueError):  # some signals cannot be handled
                signal.signal(number, handler)


def _timers() -> dict[int, bool]:
    if not hasattr(signal, "getitimer"):
        return {}
    every = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    found: dict[int, bool] = {}
    for which in every:
        found[which] = signal.getitimer(which)[0] > 0
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
    return (name, keys.tobytes(), keys.dtype.str, *rest)


def _set_numpy_random(kept: tuple[Any, ...]) -> None:
    name, keys, dtype, *rest = kept
    _numpy().random.set_state((name, _numpy().frombuffer(keys, dtype=dtype), *rest))


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
    _torch().set_default_device(None if kept == "cpu" else kept)


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
    return (_torch().is_anomaly_enabled(), _torch().is_anomaly_check_nan_enabled())


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
    smallest = _torch().full((1,), 1e-310, dtype=_torch().float64, device="cpu")
    return bool((smallest * 1.0).item() == 0.0)


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
