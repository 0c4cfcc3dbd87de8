"""The order of an epoch: a pure function of (seed, epoch, data set), nearly sequential on disk.

Blocks of neighbouring samples are permuted, then the samples are shuffled inside a window of a few blocks: what is read
together lies in ``window`` places of the disk and not in ``window * block``.
"""

from __future__ import annotations

import hashlib

import numpy as np

BLOCK = 1024
WINDOW = 16


def epoch_order(n: int, seed: int, epoch: int, digest: str, block: int = BLOCK, window: int = WINDOW) -> np.ndarray:
    """(n,) int64, a permutation of the stored places 0 .. n - 1. block: in samples; window: in blocks.

    A set of at most ``block * window`` samples is permuted as a whole. digest: of the data set.
    """
    name = f"{seed}/{epoch}/{digest}".encode()
    philox = np.random.Philox(key=int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little"))
    starts = _shuffled(philox, np.arange(0, n, block))
    order = np.concatenate([np.arange(start, min(start + block, n)) for start in starts] or [np.arange(0)])
    for start in range(0, n, block * window):
        order[start : start + block * window] = _shuffled(philox, order[start : start + block * window])
    return order


def _shuffled(philox: np.random.Philox, items: np.ndarray) -> np.ndarray:
    # sorted by raw words: NumPy keeps these the same for ever, but not what its Generator makes of them
    return items[np.argsort(philox.random_raw(len(items)), kind="stable")]
