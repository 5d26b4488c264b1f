"""What makes a run repeatable.

Random numbers are drawn from (seed, stream, step), and kernels add in one order.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def derive(seed: int, *what: Any) -> int:
    """Make a 63-bit seed from a seed and what it is for; different purposes never share numbers."""
    text = "/".join(str(item) for item in (seed, *what))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *what: Any) -> torch.Generator:
    """Make a generator on the CPU for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *what))


def seed_model_randomness(seed: int, *what: Any) -> None:
    """Seed torch's default generators, which fresh weights and dropout draw from."""
    number = derive(seed, *what)
    torch.default_generator.manual_seed(number)  # torch.manual_seed takes 200 times as long
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)


def seed_all(seed: int) -> None:
    """Seed every generator that code without one of its own draws from.

    They are Python's, NumPy's and torch's.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # NumPy takes no more bits
    seed_model_randomness(seed, "default")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Leave every default generator where it stood, so that what is drawn later is the same."""
    python = random.getstate()
    numpy = np.random.get_state()
    devices: list[int] = []
    if torch.cuda.is_available():
        devices.extend(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def plain_torch() -> None:
    """Set torch as it is when it is imported, whatever plugins changed when they were."""
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)


def repeat_kernels(device: str) -> None:
    """Let a GPU give the same sums each time.

    A trial that goes on after a kill ends as one that was left alone. Torch warns of an operation
    that it cannot repeat, and does it all the same.
    """
    if torch.device(device).type != "cuda":
        return
    # cuBLAS adds in one order with a fixed workspace only.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # Nothing here reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
