"""The training stream: endless, the same for any number of readers, and resumed by one integer.

The stream is the epochs one after the other. A sample's ordinal is its place in it; global batch k holds the ordinals
k B .. (k + 1) B - 1, across the border of epochs where they fall so, and reader r of w takes every w-th of them.
There is no tail: no reader ever waits for a batch that will not come.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from langevin.data.images import CACHE_BYTES, StoredImages
from langevin.data.manifest import Manifest
from langevin.data.order import epoch_order
from langevin.data.records import texts_of
from langevin.errors import ConfigError, DataError
from langevin.protocols import Batch


class Reader:
    """Iterates over this rank's part of the global batches, for ever.

    seed: keys the order; global_batch: samples of all ranks together; cache_bytes: memory for decoded images.
    A batch: images (b, C, H, W) float32 in [-1, 1], labels and ordinals (b,) int64, b = global_batch / world up to one;
    captions (b, L) int64 where the data set has them, L its longest one's bytes. A set of latents gives these as images.
    ConfigError: no such split, or a rank, world or batch out of range; DataError: missing, damaged or unsafe data.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        seed: int,
        global_batch: int,
        rank: int = 0,
        world: int = 1,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if world < 1 or not 0 <= rank < world:
            raise ConfigError(f"is no rank of {world} readers", field="rank", value=rank, mend="ranks count from 0")
        if global_batch < world:
            mend = "enlarge the batch or take fewer workers"
            raise ConfigError(
                f"leaves some of {world} readers without a sample", field="batch", value=global_batch, mend=mend
            )
        self._stored = StoredImages(root, split, cache_bytes)
        self._seed, self._global_batch, self._rank, self._world = seed, global_batch, rank, world
        self._consumed = 0
        self._orders: dict[int, np.ndarray] = {}

    @property
    def manifest(self) -> Manifest:
        return self._stored.manifest

    @property
    def samples(self) -> int:
        """Samples of the split, which is the length of an epoch."""
        return len(self._stored)

    @property
    def samples_consumed(self) -> int:
        """How many samples of the stream all ranks together have had: the whole state of the reader."""
        return self._consumed

    def seek(self, samples_consumed: int) -> None:
        """Goes to any place of the stream; costs no more than the order of one epoch."""
        if samples_consumed < 0:
            raise ConfigError("is no place of the stream", field="samples_consumed", value=samples_consumed)
        self._consumed = samples_consumed

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Batch:
        end = self._consumed + self._global_batch
        ordinals = np.arange(self._consumed + self._rank, end, self._world, dtype=np.int64)
        batch = self._stored.batch(self._places(ordinals), ordinals)
        self._consumed = end
        return batch

    def _places(self, ordinals: np.ndarray) -> np.ndarray:
        """The stored place of each ordinal of the stream."""
        epochs, within = np.divmod(ordinals, self.samples)
        places = np.empty_like(ordinals)
        for epoch in range(epochs[0], epochs[-1] + 1):
            here = epochs == epoch
            places[here] = self._order(epoch)[within[here]]
        return places

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            order = epoch_order(self.samples, self._seed, epoch, self.manifest.digest)
            self._orders = {epoch: order}  # the one before is never asked for again without a seek
        return self._orders[epoch]


def read_split(root: str | Path, split: str) -> Batch:
    """A whole split in stored order, ordinals 0 .. n - 1, for evaluation. Errors as the Reader's."""
    stored = StoredImages(root, split, cache_bytes=0)
    places = np.arange(len(stored))
    return stored.batch(places, places)


def first_captions(root: str | Path, split: str, count: int) -> tuple[str, ...]:
    """The captions of a split's first images in stored order, at most ``count``. DataError: the data set has none."""
    stored = StoredImages(root, split, cache_bytes=0)
    places = np.arange(min(count, len(stored)))
    captions = stored.batch(places, places).captions
    if captions is None:
        raise DataError("its images have no captions", file=root, field="split", value=split)
    return tuple(texts_of(captions))


def attributes_of(root: str | Path, split: str) -> list[dict[str, Any]]:
    """What each image of a split shows, in stored order, as its source said it. DataError: the data set has none."""
    stored = StoredImages(root, split, cache_bytes=0)
    found = [stored.facts(place).get("attributes") for place in range(len(stored))]
    if not all(isinstance(attributes, dict) for attributes in found):
        raise DataError("its images have no attributes", file=root, field="split", value=split)
    return found  # type: ignore[return-value]  # checked
