"""Images to WebDataset shards, reproducible to the byte, so that a version of the data is a real hash."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from langevin.data.files import TEMPORARY, replacing
from langevin.data.index import Row, ShardRecord, write_index
from langevin.data.manifest import MANIFEST, SCHEMA, SHARD_NAME, SPLIT_NAME, Manifest, ShardInfo, Split
from langevin.data.sources.source import Source, SourceImage, SourceInfo
from langevin.errors import ConfigError, DataError

Sample = tuple[str, dict[str, bytes]]  # key, and a member's content by its ending: ("digits-0007", {"png": ...})
Progress = Callable[[int, int], None]  # (samples written, samples in all)
UNSEEN: Progress = lambda done, total: None  # noqa: E731

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
    progress: Progress = UNSEEN,
) -> Manifest:
    """Shards, index and, last, the manifest of a data set: a crash in the middle leaves no manifest.

    split_fractions: split -> share of the samples, together 1, of those for which the source names no split of its own;
    shard_samples: samples a shard, at most. Splits go by key ALONE: more images move none between splits. Inside a split
    the samples lie in the order of their keys' hashes, which mixes the classes. Shards of an earlier data set at root
    that this one has not are removed.
    ConfigError: fractions or shard_samples out of range; DataError: a key twice, a split without samples.
    """
    _check(split_fractions, shard_samples, source.keys)
    own = {number: split for number in range(len(source)) if (split := source.split_of(number)) is not None}
    assigned = assign(source.keys, split_fractions, own)
    for split, numbers in assigned.items():
        if not numbers:
            mend = "give it a larger share, or add images"
            raise DataError(f"none of {len(source)} images falls into this split", field=f"splits.{split}", mend=mend)
    tally, info = Tally(len(source), progress), source.info
    streams = ((split, tally.of(_encoded(source, numbers))) for split, numbers in assigned.items())
    splits = write_splits(Path(root), streams, shard_samples)
    longest = tally.caption_bytes if info.captions else None
    manifest = Manifest(SCHEMA, name, info.shape, info.levels, info.classes, info.captions, splits, longest)
    manifest.save(root)
    return manifest


@dataclass
class Tally:
    """What is known of samples once they have passed. total: how many will; caption_bytes: the longest one's, from 1."""

    total: int
    progress: Progress = UNSEEN
    samples: int = 0
    caption_bytes: int = 1

    def of(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        for key, members in samples:
            self.samples += 1
            self.caption_bytes = max(self.caption_bytes, len(members.get("txt", b"")))
            yield key, members
            self.progress(self.samples, self.total)


def write_splits(root: Path, splits: Iterable[tuple[str, Iterable[Sample]]], shard_samples: int) -> dict[str, Split]:
    """The shards of each split, its samples in the order given, and the index; a manifest of before goes first.

    Shards of an earlier data set at root that this one has not are removed.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / MANIFEST).unlink(missing_ok=True)
    records = {
        split: [
            write_shard(root / f"{split}-{number:05d}.tar", part)
            for number, part in enumerate(_parts(samples, shard_samples))
        ]
        for split, samples in splits
    }
    write_index(root, records)
    shards = {split: tuple(record.info for record in written) for split, written in records.items()}
    _remove_others(root, keep={info.name for infos in shards.values() for info in infos})
    return {split: Split(sum(info.samples for info in infos), infos) for split, infos in shards.items()}


def assign(
    keys: Iterable[str], split_fractions: dict[str, float], own: Mapping[int, str] | None = None
) -> dict[str, list[int]]:
    """Split -> numbers of its keys, sorted by the keys' hashes. A key's split depends on nothing but the key.

    own: number of a key -> the split that its source gives it, which takes no part in the fractions.
    """
    own = own or {}
    bounds = [bound * 2**64 for bound in accumulate(split_fractions.values())]
    members: dict[str, list[int]] = {split: [] for split in (*split_fractions, *sorted(set(own.values())))}
    names = list(split_fractions)
    for place, _, number in sorted((_place(key), key, number) for number, key in enumerate(keys)):
        # the last split takes what rounding of the fractions leaves beyond the last bound
        split = next((name for name, bound in zip(names, bounds, strict=True) if place < bound), names[-1])
        members[own.get(number, split)].append(number)
    return members


def encode(image: SourceImage, info: SourceInfo) -> Sample:
    """The members of an image's sample: the picture, its label and caption as text, and what is known of it as JSON.

    DataError: an image without a caption in a source with captions.
    """
    facts: dict[str, Any] = {"key": image.key, "label": image.label, "class": info.classes[image.label]}
    if image.attributes is not None:
        facts["attributes"] = image.attributes
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    members = {"png": encode_png(image.pixels), "cls": str(image.label).encode(), "json": text.encode()}
    if info.captions:
        members["txt"] = encode_caption(image.key, image.caption)
    return image.key, members


def encode_caption(key: str, caption: str | None) -> bytes:
    """A caption in UTF-8. DataError: none, or one with a zero byte, which would end it where it is read."""
    if caption is None or "\0" in caption:
        raise DataError("is no caption", field=key, value=caption, mend="give every image a text without zero bytes")
    return caption.encode()


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) as PNG without metadata, the same bytes for the same pixels."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", compress_level=6)
    return out.getvalue()


def _encoded(source: Source, numbers: Iterable[int]) -> Iterator[Sample]:
    return (encode(source.read(number), source.info) for number in numbers)


def _parts(samples: Iterable[Sample], count: int) -> Iterator[Iterator[Sample]]:
    """The samples by count at a time, never held: a part is used up before the next one is asked for."""
    stream = iter(samples)
    for first in stream:
        yield chain((first,), islice(stream, count - 1))


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
