"""Is the data set what its manifest says? Every byte of it is read."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from langevin.data.images import check_size
from langevin.data.index import SplitIndex, read_index
from langevin.data.manifest import Manifest, ShardInfo
from langevin.errors import DataError


@dataclass(frozen=True)
class Problem:
    """Something amiss. shard: the file's name; offset: in bytes, None where no sample shows it; key: the sample's."""

    shard: str
    problem: str
    offset: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        place = "" if self.offset is None else f" at offset {self.offset}"
        sample = "" if self.key is None else f" ({self.key})"
        return f"{self.shard}{place}{sample}: {self.problem}"


def verify(root: str | Path) -> list[Problem]:
    """All that differs from the manifest; empty for a sound data set. DataError: manifest or index unreadable."""
    manifest = Manifest.load(root)
    problems = []
    for name, split in manifest.splits.items():
        index = read_index(root, manifest, name)
        for number, shard in enumerate(split.shards):
            problems += _shard_problems(Path(root) / shard.name, shard, number, index)
    return problems


def _shard_problems(path: Path, shard: ShardInfo, number: int, index: SplitIndex) -> list[Problem]:
    try:
        check_size(path, shard)
    except DataError as error:
        offset = min(path.stat().st_size, shard.size) if path.exists() else None
        return [Problem(shard.name, error.problem, offset)]
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        damaged = _damaged_samples(file.fileno(), shard, number, index)
    if found != shard.sha256 and not damaged:
        return [Problem(shard.name, f"the sha256 is {found}, not {shard.sha256}, though every sample is sound")]
    return damaged


def _damaged_samples(descriptor: int, shard: ShardInfo, number: int, index: SplitIndex) -> list[Problem]:
    problem = "the bytes are not those that were written: their checksum differs"
    return [
        Problem(shard.name, problem, int(index.offset[place]), index.keys[place])
        for place in (index.shard == number).nonzero()[0]
        if zlib.crc32(os.pread(descriptor, index.length[place], index.offset[place])) != index.crc32[place]
    ]
