"""Noise that belongs to a sample, not to a batch: a pure function of (seed, stream, sample ordinal, element).

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), counter-based, in
integer arithmetic that is the same on every device. The key is a hash of (seed, stream), the counter is (element block,
ordinal): no two uses share numbers, and a sample meets the same noise in any batch, on any rank, after any restart.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


@dataclass(frozen=True)
class Keys:
    """Names the samples of a batch. seed: any int; ordinals: (B,) int64, one number a sample, unique within the seed."""

    seed: int
    ordinals: Tensor

    @classmethod
    def range(cls, seed: int, start: int, stop: int) -> Keys:
        """The samples start, ..., stop - 1 of a seed."""
        return cls(seed, torch.arange(start, stop, dtype=torch.int64))

    def __len__(self) -> int:
        return self.ordinals.shape[0]

    def to(self, device: torch.device | str) -> Keys:
        return Keys(self.seed, self.ordinals.to(device))


@dataclass(frozen=True)
class Noise:
    """The only source of randomness of a method. ``stream`` names the use: "timestep", "forward", "step/17".

    Values are equal on CPU and GPU to rounding, and exactly equal between any two batches that hold the same sample.
    """

    keys: Keys
    scope: str = ""

    def within(self, scope: str) -> Noise:
        """The same samples' noise for one part of the work, "step/17" say: its streams meet no other scope's."""
        return Noise(self.keys, f"{self.scope}{scope}/")

    def normal(self, stream: str, like: Tensor) -> Tensor:
        """Standard normal numbers of like's shape (B, ...), dtype and device. Box-Muller in float64."""
        words = self._words(stream, like, per_number=1)
        # (0, 1]: the logarithm stays finite; 2^-32 puts the tail at 6.7 standard deviations
        radius = torch.sqrt(-2 * torch.log((words[..., 0::2].double() + 1) * 2.0**-32))
        angle = words[..., 1::2].double() * (2 * math.pi * 2.0**-32)
        pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
        return _shaped(pairs.flatten(1), like)

    def uniform(self, stream: str, like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of like's shape (B, ...), dtype and device: 53 bits in float64, 24 otherwise."""
        if like.dtype == torch.float64:
            words = self._words(stream, like, per_number=2)
            high, low = words[..., 0::2] >> 5, words[..., 1::2] >> 6
            return _shaped((high * 2**26 + low).double() * 2.0**-53, like)
        words = self._words(stream, like, per_number=1)
        return _shaped((words >> 8).float() * 2.0**-24, like)

    def _words(self, stream: str, like: Tensor, per_number: int) -> Tensor:
        """(B, m) int64 of 32-bit words with m a multiple of 4 that covers like's elements a sample."""
        if like.shape[0] != len(self.keys):
            raise ValueError(f"{len(self.keys)} keys cannot name the samples of a batch of {like.shape[0]}")
        digest = hashlib.blake2b(f"{self.keys.seed}/{self.scope}{stream}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "little")
        blocks = -(-math.prod(like.shape[1:]) * per_number // 4)
        return philox(key, self.keys.ordinals.to(like.device), blocks)


def philox(key: int, ordinals: Tensor, blocks: int) -> Tensor:
    """Philox4x32-10 of the counters (block, 0, ordinal low, ordinal high): (B, 4 * blocks) int64 in [0, 2^32)."""
    zero = torch.zeros(len(ordinals), blocks, dtype=torch.int64, device=ordinals.device)
    c0 = zero + torch.arange(blocks, device=ordinals.device)
    c1, c2, c3 = zero, zero + (ordinals & _MASK)[:, None], zero + ((ordinals >> 32) & _MASK)[:, None]
    k0, k1 = key & _MASK, key >> 32
    for _ in range(10):
        # int64 products wrap, and the wrapped bits are the right ones
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (((p1 >> 32) & _MASK) ^ c1) ^ k0, p1 & _MASK, (((p0 >> 32) & _MASK) ^ c3) ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack((c0, c1, c2, c3), dim=-1).flatten(1)


def _shaped(numbers: Tensor, like: Tensor) -> Tensor:
    count = math.prod(like.shape[1:])
    return numbers[:, :count].reshape(like.shape).to(like.dtype)
