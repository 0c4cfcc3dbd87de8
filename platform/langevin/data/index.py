"""Where each sample lies: ``index.parquet``, one row a sample, in stored order.

A sample's record is the stretch of its shard from its first member's header to its last member's padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from langevin.data.files import replacing
from langevin.data.manifest import RESTORE, Manifest, ShardInfo
from langevin.errors import DataError

INDEX = "index.parquet"
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("crc32", pa.uint32()),
    ]
)


class Row(NamedTuple):
    """A sample's record in its shard. offset, length: bytes; crc32: of the record."""

    key: str
    offset: int
    length: int
    crc32: int


@dataclass(frozen=True)
class ShardRecord:
    """A shard as written: what the manifest says of it, and where its samples lie."""

    info: ShardInfo
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class SplitIndex:
    """The samples of a split in stored order, as n-long arrays. shard: which of the split's shards, counted from 0."""

    keys: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    crc32: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


def write_index(root: str | Path, splits: Mapping[str, Sequence[ShardRecord]]) -> None:
    """Writes ``index.parquet``; the same records give the same bytes."""
    rows = [
        (row.key, split, shard.info.name, row.offset, row.length, row.crc32)
        for split, shards in splits.items()
        for shard in shards
        for row in shard.rows
    ]
    table = pa.table(list(map(list, zip(*rows, strict=True))), schema=_SCHEMA)
    with replacing(Path(root) / INDEX) as file:
        pq.write_table(table, file, compression="zstd", use_dictionary=["split", "shard"])


def read_index(root: str | Path, manifest: Manifest, split: str) -> SplitIndex:
    """The index of one split. DataError: missing, unreadable, or not of this manifest."""
    path = Path(root) / INDEX
    try:
        table = pq.read_table(path, schema=_SCHEMA, filters=[("split", "==", split)], partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot be read ({error})", file=path, mend=RESTORE) from error
    shards = manifest.splits[split].shards
    columns = {name: table.column(name).to_numpy() for name in ("offset", "length", "crc32")}
    numbers = {shard.name: number for number, shard in enumerate(shards)}
    shard = np.array([numbers.get(name, -1) for name in table.column("shard").to_pylist()], dtype=np.int64)
    expected = np.repeat(np.arange(len(shards)), [info.samples for info in shards])
    if not np.array_equal(shard, expected):
        raise DataError("lists other samples than the manifest", file=path, field=f"split {split}", mend=RESTORE)
    sizes = np.array([info.size for info in shards], dtype=np.int64)[shard]
    inside = (columns["offset"] >= 0) & (columns["length"] > 0) & (columns["offset"] + columns["length"] <= sizes)
    if not inside.all():
        key = table.column("key")[int(np.argmin(inside))].as_py()
        raise DataError("places a sample outside of its shard", file=path, field=key, mend=RESTORE)
    keys = np.array(table.column("key").to_pylist(), dtype=object)
    return SplitIndex(keys=keys, shard=shard, **columns)
