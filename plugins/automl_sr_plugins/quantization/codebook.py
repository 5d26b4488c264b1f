"""Codebooks: each run of weights becomes the nearest of a few that were found by k-means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 30
"""Rounds of Lloyd's algorithm; it stops before where nothing moves any more."""
AT_ONCE = 4096
"""So many blocks are compared with all entries at a time, which bounds the memory."""


def code_bits(entries: int) -> int:
    """Return the bits of a number that tells so many entries apart."""
    return max(1, math.ceil(math.log2(entries)))


def bytes_of(weights: int, entries: int, block: int) -> int:
    """Return n/d log2(K) bits of numbers and K d float32 entries, in bytes.

    Bits of one place are stored together, in whole bytes.
    """
    plane = math.ceil(weights / block / 8)
    return code_bits(entries) * plane + 4 * entries * block


def block_of(weights: int, asked: int) -> int:
    """Return the largest length of a block that divides both the weights and what is asked."""
    return math.gcd(weights, asked)


def codebook(weight: Tensor, entries: int, block: int, generator: torch.Generator) -> Tensor:
    """Return the entries [K, d] for blocks of weights that follow each other in memory.

    Where there are no more different blocks than entries, these are the entries, and the weight is
    reproduced exactly. Otherwise k-means, from blocks drawn by the generator.
    """
    blocks = weight.detach().reshape(-1, block)
    different: Tensor = torch.unique(blocks, dim=0)
    if len(different) <= entries:
        return different

    drawn = torch.randperm(len(different), generator=generator)[:entries]
    centres: Tensor = different[drawn.to(different.device)]
    for _ in range(ROUNDS):
        moved = _means(blocks, nearest(blocks, centres), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def nearest(blocks: Tensor, centres: Tensor) -> Tensor:
    """Return the number of the nearest entry for each block [n, d]."""
    found = []
    for part in torch.split(blocks, AT_ONCE):
        # Differences, not products: blocks that are an entry have to find it.
        distances = (part[:, None, :] - centres[None, :, :]).square().sum(-1)
        found.append(distances.argmin(1))
    return torch.cat(found)


def decoded(weight: Tensor, centres: Tensor) -> Tensor:
    """Return the weight with each block replaced by the nearest entry."""
    blocks = weight.detach().reshape(-1, centres.shape[1])
    return centres[nearest(blocks, centres)].reshape(weight.shape)


def _means(blocks: Tensor, numbers: Tensor, centres: Tensor) -> Tensor:
    """Return the mean of the blocks of each entry; an entry without blocks stays where it is."""
    # In double precision: the mean of equal blocks is that block.
    sums = torch.zeros(centres.shape, dtype=torch.float64, device=centres.device)
    sums.index_add_(0, numbers, blocks.double())
    counts = torch.bincount(numbers, minlength=len(centres))[:, None]
    means = (sums / counts.clamp(min=1)).to(centres.dtype)
    return torch.where(counts > 0, means, centres)
