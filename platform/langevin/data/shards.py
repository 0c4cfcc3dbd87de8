"""Images to WebDataset shards, reproducible to the byte, so that a version of the data is a real hash."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from langevin.data.files import TEMPORARY, replacing
from langevin.data.index import Row, ShardRecord, write_index
from langevin.data.manifest import MANIFEST, SCHEMA, SHARD_NAME, SPLIT_NAME, Manifest, ShardInfo, Split
from langevin.data.sources.source import Source, SourceImage, SourceInfo
from langevin.errors import ConfigError, DataError

Sample = tuple[str, dict[str, bytes]]  # key, and a member's content by its ending: ("digits-0007", {"png": ...})
Progress = Callable[[int, int], None]  # (samples written, samples in all)

_END = 2 * tarfile.BLOCKSIZE  # a tar ends in two empty blocks and fills its last record


def write_shard(path: Path, samples: Iterable[Sample]) -> ShardRecord:
    """One tar of samples in the order given, members sorted by ending: the same samples, the same bytes.

    The file is there whole or not at all.
    """
    digest, size, rows = hashlib.sha256(), 0, []
    with replacing(path) as file:
        for key, members in samples:
            record = b"".join(_member(f"{key}.{ending}", members[ending]) for ending in sorted(members))
            rows.append(Row(key, size, len(record), zlib.crc32(record)))
            size += _put(file, digest, record)
        padding = -(size + _END) % tarfile.RECORDSIZE
        size += _put(file, digest, bytes(_END + padding))
    return ShardRecord(ShardInfo(path.name, size, digest.hexdigest(), len(rows)), tuple(rows))


def write_dataset(
    root: str | Path,
    source: Source,
    *,
    name: str,
    split_fractions: dict[str, float],
    shard_samples: int,
    progress: Progress = lambda done, total: None,
) -> Manifest:
    """Shards, index and, last, the manifest of a data set: a crash in the middle leaves no manifest.

    split_fractions: split -> share of the samples, together 1; shard_samples: samples a shard, at most. Splits go by
    key ALONE: more images move none between splits. Inside a split the samples lie in the order of their keys' hashes,
    which mixes the classes. Shards of an earlier data set at root that this one has not are removed.
    ConfigError: fractions or shard_samples out of range; DataError: a key twice, a split without samples.
    """
    _check(split_fractions, shard_samples, source.keys)
    assigned = assign(source.keys, split_fractions)
    for split, numbers in assigned.items():
        if not numbers:
            mend = "give it a larger share, or add images"
            raise DataError(f"none of {len(source)} images falls into this split", field=f"splits.{split}", mend=mend)
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MANIFEST).unlink(missing_ok=True)
    records: dict[str, list[ShardRecord]] = {}
    done = 0
    for split, numbers in assigned.items():
        records[split] = []
        for shard, start in enumerate(range(0, len(numbers), shard_samples)):
            part = numbers[start : start + shard_samples]
            record = write_shard(root / f"{split}-{shard:05d}.tar", _encoded(source, part))
            records[split].append(record)
            done += len(part)
            progress(done, len(source))
    write_index(root, records)
    shards = {split: tuple(record.info for record in written) for split, written in records.items()}
    _remove_others(root, keep={info.name for infos in shards.values() for info in infos})
    splits = {split: Split(sum(info.samples for info in infos), infos) for split, infos in shards.items()}
    info = source.info
    manifest = Manifest(SCHEMA, name, info.shape, info.levels, info.classes, captions=False, splits=splits)
    manifest.save(root)
    return manifest


def assign(keys: Iterable[str], split_fractions: dict[str, float]) -> dict[str, list[int]]:
    """Split -> numbers of its keys, sorted by the keys' hashes. A key's split depends on nothing but the key."""
    bounds = [bound * 2**64 for bound in accumulate(split_fractions.values())]
    members: dict[str, list[int]] = {split: [] for split in split_fractions}
    names = list(members)
    for place, _, number in sorted((_place(key), key, number) for number, key in enumerate(keys)):
        # the last split takes what rounding of the fractions leaves beyond the last bound
        split = next((name for name, bound in zip(names, bounds, strict=True) if place < bound), names[-1])
        members[split].append(number)
    return members


def encode(image: SourceImage, info: SourceInfo) -> Sample:
    """The members of an image's sample: the picture, its label as text, and both with the class's name as JSON."""
    facts = {"key": image.key, "label": image.label, "class": info.classes[image.label]}
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return image.key, {"png": encode_png(image.pixels), "cls": str(image.label).encode(), "json": text.encode()}


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) as PNG without metadata, the same bytes for the same pixels."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", compress_level=6)
    return out.getvalue()


def _encoded(source: Source, numbers: Iterable[int]) -> Iterator[Sample]:
    return (encode(source.read(number), source.info) for number in numbers)


def _place(key: str) -> int:
    """The key's place in 0 .. 2^64 - 1."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _member(name: str, content: bytes) -> bytes:
    header = tarfile.TarInfo(name)  # time 0, owner 0, mode 0644: nothing of this machine or this hour
    header.size = len(content)
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict") + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _put(file: BinaryIO, digest: hashlib._Hash, data: bytes) -> int:
    digest.update(data)
    return file.write(data)


def _remove_others(root: Path, keep: set[str]) -> None:
    for path in root.iterdir():
        name = path.name.removesuffix(TEMPORARY)
        if SHARD_NAME.fullmatch(name) and path.name not in keep:
            path.unlink()


def _check(split_fractions: dict[str, float], shard_samples: int, keys: Sequence[str]) -> None:
    for split, fraction in split_fractions.items():
        if not SPLIT_NAME.fullmatch(split):
            raise ConfigError("is no name of a split", field="splits", value=split, mend="use a-z, 0-9, - and _")
        if not 0 < fraction <= 1:
            raise ConfigError("is no share in (0, 1]", field=f"splits.{split}", value=fraction)
    total = sum(split_fractions.values())
    if abs(total - 1) > 1e-6:
        raise ConfigError("the shares of the splits must add up to 1", field="splits", value=total)
    if shard_samples < 1:
        raise ConfigError("a shard holds at least one sample", field="shard_samples", value=shard_samples)
    for key, count in Counter(keys).most_common(1):
        if count > 1:
            raise DataError(f"{count} images have this key", field="key", value=key, mend="keys name one image each")
