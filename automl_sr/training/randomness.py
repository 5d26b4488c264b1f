"""Random numbers drawn from (seed, stream, step), so that nothing about them has to be stored or restored."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def derive(seed: int, *what: Any) -> int:
    """Make a 63-bit seed from a seed and what it is for; different purposes never share numbers."""
    text = "/".join(str(item) for item in (seed, *what))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *what: Any) -> torch.Generator:
    """Make a generator on the CPU for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *what))


def seed_model_randomness(seed: int, *what: Any) -> None:
    """Seed torch's default generators, which fresh weights and dropout draw from."""
    number = derive(seed, *what)
    torch.default_generator.manual_seed(number)  # torch.manual_seed takes 200 times as long
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)
