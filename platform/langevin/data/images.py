"""The images of one split by their stored place: read from the shards, checked, decoded, kept while there is room."""

from __future__ import annotations

import os
import zlib
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from langevin.data.index import read_index
from langevin.data.manifest import RESTORE, Manifest, ShardInfo
from langevin.data.quantisation import values_of_bytes
from langevin.data.records import Place, decode
from langevin.errors import ConfigError, DataError
from langevin.protocols import Batch

CACHE_BYTES = 256 * 2**20


class StoredImages:
    """A split of the data set at root: a shard of the wrong size is found at once, damaged bytes when they are read.

    cache_bytes: memory for decoded images. ConfigError: no such split; DataError: missing, damaged or unsafe data.
    """

    def __init__(self, root: str | Path, split: str, cache_bytes: int = CACHE_BYTES) -> None:
        self.manifest = Manifest.load(root)
        if split not in self.manifest.splits:
            names = ", ".join(self.manifest.splits)
            raise ConfigError(
                "is no split of the data set", file=root, field="split", value=split, mend=f"it has {names}"
            )
        shards = self.manifest.splits[split].shards
        self._paths = [Path(root) / shard.name for shard in shards]
        for path, shard in zip(self._paths, shards, strict=True):
            check_size(path, shard)
        self._index = read_index(root, self.manifest, split)
        self._values = values_of_bytes(self.manifest.levels).numpy()
        self._labels = np.zeros(len(self), dtype=np.int64)
        # the first places stay in memory once read: an epoch meets every place once, so no choice of places hits more
        room = min(len(self), cache_bytes // int(np.prod(self.manifest.shape)))
        self._cache = np.empty((room, *self.manifest.shape), dtype=np.uint8)
        self._cached = np.zeros(len(self), dtype=bool)

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, places: np.ndarray, ordinals: np.ndarray) -> Batch:
        """The images at the stored places, (b,) int64 in 0 .. n - 1, under the ordinals given."""
        cached = self._cached[places]
        if cached.all():
            pixels = self._cache.take(places, axis=0)
        else:
            pixels = np.empty((len(places), *self.manifest.shape), dtype=np.uint8)
            pixels[cached] = self._cache[places[cached]]
            # each place once and in stored order, so that the disk is read forward
            missing, where = np.unique(places[~cached], return_inverse=True)
            pixels[~cached] = self._read(missing)[where]
        return Batch(
            images=torch.from_numpy(self._values.take(pixels)),
            labels=torch.from_numpy(self._labels[places]),
            ordinals=torch.from_numpy(ordinals),
            keys=tuple(self._index.keys[places].tolist()),
        )

    def _read(self, places: np.ndarray) -> np.ndarray:
        """uint8 (b, C, H, W) from the shards. places: sorted."""
        pixels = np.empty((len(places), *self.manifest.shape), dtype=np.uint8)
        at = enumerate(places.tolist())
        for shard, group in groupby(at, key=lambda pair: self._index.shard[pair[1]]):
            with open(self._paths[shard], "rb", buffering=0) as file:
                for row, place in group:
                    pixels[row], self._labels[place] = self._decode(file.fileno(), self._paths[shard], place)
        keep = places[: np.searchsorted(places, len(self._cache))]
        self._cache[keep] = pixels[: len(keep)]
        self._cached[keep] = True
        return pixels

    def _decode(self, descriptor: int, path: Path, place: int) -> tuple[np.ndarray, int]:
        index = self._index
        offset, length = int(index.offset[place]), int(index.length[place])
        where = Place(path, index.keys[place], offset)
        record = os.pread(descriptor, length, offset)
        if len(record) != length:
            raise where.error(f"the shard ends inside this sample, at offset {offset + len(record)}")
        if zlib.crc32(record) != index.crc32[place]:
            raise where.error("the bytes are not those that were written: their checksum differs")
        return decode(record, where, self.manifest)


def check_size(path: Path, shard: ShardInfo) -> None:
    """DataError unless the shard is there with the size that the manifest gives it."""
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise DataError("this shard is missing", file=path, mend=RESTORE) from error
    if found < shard.size:
        problem = f"truncated: the shard ends at offset {found}, {found} bytes of {shard.size}"
        raise DataError(problem, file=path, mend=RESTORE)
    if found > shard.size:
        problem = f"the shard goes on after offset {shard.size}: {found} bytes instead of {shard.size}"
        raise DataError(problem, file=path, mend=RESTORE)
