from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset

from langevin.data.index import Row, ShardRecord, read_index, write_index
from langevin.data.manifest import Manifest, ShardInfo
from langevin.errors import DataError


def test_every_row_places_its_sample(digits: Path) -> None:
    manifest = Manifest.load(digits)
    for name, split in manifest.splits.items():
        index = read_index(digits, manifest, name)
        assert len(index) == split.samples
        data = [(digits / shard.name).read_bytes() for shard in split.shards]
        for key, shard, offset, length, crc in zip(
            index.keys, index.shard, index.offset, index.length, index.crc32, strict=True
        ):
            record = data[shard][offset : offset + length]
            assert zlib.crc32(record) == crc
            assert record.startswith(key.encode() + b".cls\0")


def test_the_index_keeps_the_order_of_the_shards(digits: Path) -> None:
    manifest = Manifest.load(digits)
    shards = [str(digits / shard.name) for shard in manifest.splits["train"].shards]
    keys = [sample["__key__"] for sample in webdataset.WebDataset(shards, shardshuffle=False)]
    assert read_index(digits, manifest, "train").keys.tolist() == keys


def test_a_foreign_or_damaged_index_is_refused(copy: Path) -> None:
    manifest = Manifest.load(copy)
    path = copy / "index.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(DataError, match="other samples than the manifest"):
        read_index(copy, manifest, "train")
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"index\.parquet"):
        read_index(copy, manifest, "train")
    path.unlink()
    with pytest.raises(DataError, match=r"index\.parquet"):
        read_index(copy, manifest, "train")


def test_a_row_outside_of_its_shard_is_refused(digits: Path, tmp_path: Path) -> None:
    info = ShardInfo("train-00000.tar", size=10240, sha256="0" * 64, samples=1)
    manifest = Manifest.load(digits)
    split = replace(manifest.splits["train"], samples=1, shards=(info,))
    write_index(tmp_path, {"train": [ShardRecord(info, (Row("k", 10000, 512, 0),))]})
    with pytest.raises(DataError, match="outside of its shard"):
        read_index(tmp_path, replace(manifest, splits={"train": split}), "train")
