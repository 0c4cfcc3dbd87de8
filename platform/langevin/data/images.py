"""A split's images or latents by their stored place: read from the shards, checked, decoded, kept while there is room."""

from __future__ import annotations

import json
import os
import zlib
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from langevin.data.index import read_index
from langevin.data.manifest import RESTORE, Manifest, ShardInfo
from langevin.data.quantisation import values_of_bytes
from langevin.data.records import Place, Stored, decode, split_members
from langevin.errors import ConfigError, DataError
from langevin.protocols import Batch

CACHE_BYTES = 256 * 2**20


class Rows(NamedTuple):
    """Samples as they are stored. values: (b, C, H, W) uint8 pixels or float16 latents; captions: (b, L) uint8."""

    values: np.ndarray
    captions: np.ndarray

    @classmethod
    def empty(cls, count: int, manifest: Manifest) -> Rows:
        """L is the longest caption's length, 0 for a data set without captions."""
        kind = np.uint8 if manifest.latents is None else np.float16
        captions = np.zeros((count, manifest.caption_bytes or 0), dtype=np.uint8)
        return cls(np.empty((count, *manifest.shape), dtype=kind), captions)

    def put(self, row: int, sample: Stored) -> None:
        self.values[row] = sample.values
        self.captions[row, : len(sample.caption)] = np.frombuffer(sample.caption, dtype=np.uint8)


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
        self._values = None if self.manifest.latents else values_of_bytes(self.manifest.levels).numpy()
        self._labels = np.zeros(len(self), dtype=np.int64)
        # the first places stay in memory once read: an epoch meets every place once, so no choice of places hits more
        sample_bytes = sum(part.nbytes for part in Rows.empty(1, self.manifest))
        self._cache = Rows.empty(min(len(self), cache_bytes // sample_bytes), self.manifest)
        self._cached = np.zeros(len(self), dtype=bool)

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, places: np.ndarray, ordinals: np.ndarray) -> Batch:
        """The images at the stored places, (b,) int64 in 0 .. n - 1, under the ordinals given."""
        cached = self._cached[places]
        if cached.all():
            rows = Rows(*(part.take(places, axis=0) for part in self._cache))
        else:
            rows = Rows.empty(len(places), self.manifest)
            # each place once and in stored order, so that the disk is read forward
            missing, where = np.unique(places[~cached], return_inverse=True)
            for part, kept, read in zip(rows, self._cache, self._read(missing), strict=True):
                part[cached] = kept[places[cached]]
                part[~cached] = read[where]
        values = rows.values.astype(np.float32) if self._values is None else self._values.take(rows.values)
        captions = torch.from_numpy(rows.captions.astype(np.int64)) if self.manifest.captions else None
        return Batch(
            images=torch.from_numpy(values),
            labels=torch.from_numpy(self._labels[places]),
            ordinals=torch.from_numpy(ordinals),
            keys=tuple(self._index.keys[places].tolist()),
            captions=captions,
        )

    def facts(self, place: int) -> dict[str, Any]:
        """What the sample's JSON says of it. DataError: there is none, or it is damaged."""
        path = self._paths[self._index.shard[place]]
        with open(path, "rb", buffering=0) as file:
            record, where = self._record(file.fileno(), path, place)
        try:
            found = json.loads(split_members(record, where).get("json", b""))
        except ValueError as error:
            raise where.error(f"the sample has no json that can be read ({error})") from error
        if not isinstance(found, dict):
            raise where.error("the sample's json is no object")
        return found

    def _read(self, places: np.ndarray) -> Rows:
        """The samples at the places, sorted, from the shards."""
        rows = Rows.empty(len(places), self.manifest)
        at = enumerate(places.tolist())
        for shard, group in groupby(at, key=lambda pair: self._index.shard[pair[1]]):
            with open(self._paths[shard], "rb", buffering=0) as file:
                for row, place in group:
                    sample = decode(*self._record(file.fileno(), self._paths[shard], place), self.manifest)
                    rows.put(row, sample)
                    self._labels[place] = sample.label
        keep = places[: np.searchsorted(places, len(self._cache.values))]
        for kept, read in zip(self._cache, rows, strict=True):
            kept[keep] = read[: len(keep)]
        self._cached[keep] = True
        return rows

    def _record(self, descriptor: int, path: Path, place: int) -> tuple[bytes, Place]:
        index = self._index
        offset, length = int(index.offset[place]), int(index.length[place])
        where = Place(path, index.keys[place], offset)
        record = os.pread(descriptor, length, offset)
        if len(record) != length:
            raise where.error(f"the shard ends inside this sample, at offset {offset + len(record)}")
        if zlib.crc32(record) != index.crc32[place]:
            raise where.error("the bytes are not those that were written: their checksum differs")
        return record, where


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
