from __future__ import annotations

import io
import json
import os
import pickle
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from langevin.data.manifest import Manifest
from langevin.data.reader import Reader, read_split
from langevin.data.shards import Sample, encode_png
from langevin.errors import ConfigError, DataError
from langevin.protocols import Batch

PNG = encode_png(np.zeros((8, 8), dtype=np.uint8))
Craft = Callable[[list[Sample]], Path]


def take(reader: Reader, batches: int) -> list[Batch]:
    return list(islice(reader, batches))


def same(one: Batch, two: Batch) -> bool:
    tensors = ("images", "labels", "ordinals")
    return one.keys == two.keys and all(torch.equal(getattr(one, name), getattr(two, name)) for name in tensors)


def merged(parts: list[Batch]) -> Batch:
    """The parts of all ranks as one batch, by ordinal."""
    order = torch.cat([part.ordinals for part in parts]).argsort()
    keys = [key for part in parts for key in part.keys]
    return Batch(
        torch.cat([part.images for part in parts])[order],
        torch.cat([part.labels for part in parts if part.labels is not None])[order],
        torch.cat([part.ordinals for part in parts])[order],
        tuple(keys[place] for place in order),
    )


def test_images_are_the_digits_themselves(digits: Path) -> None:
    original = load_digits()
    batch = next(Reader(digits, "train", seed=0, global_batch=64))
    numbers = [int(key.removeprefix("digits-")) for key in batch.keys]
    assert batch.images.dtype == torch.float32
    expected = torch.from_numpy(original.images[numbers] / 8 - 1).float()[:, None]
    assert torch.equal(batch.images, expected)
    assert batch.labels is not None
    assert batch.labels.tolist() == original.target[numbers].tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("global_batch", [64, 500])
def test_any_number_of_ranks_sees_the_same_global_batches(digits: Path, world: int, global_batch: int) -> None:
    alone = take(Reader(digits, "validation", seed=1, global_batch=global_batch), 5)
    ranks = [take(Reader(digits, "validation", 1, global_batch, rank, world), 5) for rank in range(world)]
    for number, batch in enumerate(alone):
        parts = [rank[number] for rank in ranks]
        assert same(merged(parts), batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert batch.ordinals.tolist() == list(range(number * global_batch, (number + 1) * global_batch))


@pytest.mark.parametrize("skipped", [1, 7, 40])
def test_seek_is_skipping(digits: Path, skipped: int) -> None:
    skipping = Reader(digits, "train", seed=2, global_batch=96, rank=1, world=2)
    take(skipping, skipped)
    seeking = Reader(digits, "train", seed=2, global_batch=96, rank=1, world=2)
    seeking.seek(skipped * 96)
    assert seeking.samples_consumed == skipping.samples_consumed == skipped * 96
    for one, two in zip(take(skipping, 20), take(seeking, 20), strict=True):
        assert same(one, two)
    back = Reader(digits, "train", seed=2, global_batch=96, rank=1, world=2)
    first = next(back)
    back.seek(0)
    assert same(next(back), first)


def test_a_far_seek_costs_one_permutation(digits: Path) -> None:
    reader = Reader(digits, "train", seed=0, global_batch=32)
    begun = time.perf_counter()
    reader.seek(10**15)
    assert next(reader).ordinals[0] == 10**15
    assert time.perf_counter() - begun < 1


def test_every_sample_comes_once_an_epoch_in_a_new_order(digits: Path) -> None:
    reader = Reader(digits, "train", seed=0, global_batch=100)
    n = reader.samples
    keys = [key for batch in take(reader, 3 * n // 100 + 1) for key in batch.keys]
    epochs = [keys[start : start + n] for start in (0, n, 2 * n)]
    assert all(set(Counter(epoch).values()) == {1} for epoch in epochs)
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_may_be_longer_than_an_epoch(digits: Path) -> None:
    reader = Reader(digits, "test", seed=0, global_batch=500)
    small = Reader(digits, "test", seed=0, global_batch=125)
    for _ in range(3):
        assert same(next(reader), merged(take(small, 4)))


@pytest.mark.parametrize("cache_bytes", [0, 64 * 300])
def test_the_cache_changes_nothing(digits: Path, cache_bytes: int) -> None:
    cached = take(Reader(digits, "validation", seed=0, global_batch=70), 12)
    bounded = take(Reader(digits, "validation", seed=0, global_batch=70, cache_bytes=cache_bytes), 12)
    assert all(same(one, two) for one, two in zip(cached, bounded, strict=True))


def test_cached_batches_are_fast(digits: Path) -> None:
    reader = Reader(digits, "train", seed=0, global_batch=128)
    take(reader, 2 * reader.samples // 128)
    costs = []
    for _ in range(200):
        begun = time.perf_counter()
        next(reader)
        costs.append(time.perf_counter() - begun)
    assert np.median(costs) < 1e-3


def test_cached_samples_need_no_disk(copy: Path) -> None:
    reader = Reader(copy, "test", seed=0, global_batch=reader_samples(copy))
    first = next(reader)
    for shard in copy.glob("*.tar"):
        shard.unlink()
    assert sorted(next(reader).keys) == sorted(first.keys)


def reader_samples(root: Path) -> int:
    return Manifest.load(root).splits["test"].samples


def test_read_split_is_the_whole_split_in_stored_order(digits: Path) -> None:
    batch = read_split(digits, "test")
    assert batch.ordinals.tolist() == list(range(reader_samples(digits)))
    streamed = next(Reader(digits, "test", seed=0, global_batch=len(batch)))
    place = {key: number for number, key in enumerate(batch.keys)}
    assert torch.equal(batch.images[[place[key] for key in streamed.keys]], streamed.images)


def test_bad_arguments_are_named(digits: Path) -> None:
    with pytest.raises(ConfigError, match="train, validation, test"):
        Reader(digits, "dev", seed=0, global_batch=8)
    with pytest.raises(ConfigError, match="rank = 2"):
        Reader(digits, "train", seed=0, global_batch=8, rank=2, world=2)
    with pytest.raises(ConfigError, match="rank = -1"):
        Reader(digits, "train", seed=0, global_batch=8, rank=-1, world=2)
    with pytest.raises(ConfigError, match="batch = 3"):
        Reader(digits, "train", seed=0, global_batch=3, rank=0, world=4)
    with pytest.raises(ConfigError, match="samples_consumed = -1"):
        Reader(digits, "train", seed=0, global_batch=8).seek(-1)
    with pytest.raises(DataError, match="langevin prepare"):
        Reader(digits / "nowhere", "train", seed=0, global_batch=8)


def test_a_truncated_shard_is_named_with_its_offset(copy: Path) -> None:
    shard = copy / "train-00001.tar"
    size = shard.stat().st_size
    os.truncate(shard, 5000)
    with pytest.raises(DataError, match=rf"offset 5000.*{size}.*dvc checkout") as caught:
        Reader(copy, "train", seed=0, global_batch=8)
    assert caught.value.file == shard
    Reader(copy, "test", seed=0, global_batch=8)  # the other splits are sound
    shard.write_bytes(bytes(size + 512))
    with pytest.raises(DataError, match=rf"goes on after offset {size}"):
        Reader(copy, "train", seed=0, global_batch=8)
    shard.unlink()
    with pytest.raises(DataError, match=r"train-00001\.tar.*missing"):
        Reader(copy, "train", seed=0, global_batch=8)


def test_a_shard_truncated_while_it_is_read_is_named(copy: Path) -> None:
    reader = Reader(copy, "test", seed=0, global_batch=reader_samples(copy))
    os.truncate(copy / "test-00000.tar", 5000)
    with pytest.raises(DataError, match=r"test-00000\.tar.*ends inside this sample, at offset 5000"):
        next(reader)
    assert reader.samples_consumed == 0


def test_a_flipped_bit_is_named_with_its_sample(copy: Path) -> None:
    shard = copy / "test-00000.tar"
    data = bytearray(shard.read_bytes())
    at = data.index(b"IDAT") + 6
    data[at] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match="checksum") as caught:
        read_split(copy, "test")
    assert caught.value.file == shard
    start = data.rindex(str(caught.value.field).encode() + b".cls", 0, at)
    assert f"offset {start}" in str(caught.value)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("ending", ["pickle", "pyd", "pkl", "pth", "tar", "PNG", "seg.png"])
def test_unsafe_members_are_refused_and_never_run(crafted: Craft, tmp_path: Path, ending: str) -> None:
    root = crafted([("k", {"png": PNG, "cls": b"1", ending: pickle.dumps(Trap(tmp_path / "sprung"))})])
    with pytest.raises(DataError, match=r"train-00000\.tar: k: ") as caught:
        read_split(root, "train")
    assert ending in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_arrays_of_objects_are_refused_and_never_run(crafted: Craft, tmp_path: Path) -> None:
    out = io.BytesIO()
    np.save(out, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="npy cannot be decoded"):
        read_split(crafted([("k", {"npy": out.getvalue(), "cls": b"1"})]), "train")
    assert not (tmp_path / "sprung").exists()


def encoded(array: np.ndarray | Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    if isinstance(array, Image.Image):
        array.save(out, format=kind)
    else:
        np.save(out, array)
    return out.getvalue()


def test_every_safe_kind_of_image_is_read(crafted: Craft) -> None:
    black = np.zeros((8, 8), dtype=np.uint8)
    jpeg = encoded(Image.fromarray(black), "JPEG")
    extra = {"cls": b"3", "txt": b"a digit", "json": json.dumps({"any": "thing"}).encode()}
    samples: list[Sample] = [
        ("a", {"png": PNG, **extra}),
        ("b", {"jpg": jpeg, **extra}),
        ("c", {"npy": encoded(black, "npy"), **extra}),
        ("d", {"jpeg": jpeg, "cls": b"0"}),
    ]
    batch = read_split(crafted(samples), "train")
    assert (batch.images == -1).all()
    assert batch.labels is not None
    assert batch.labels.tolist() == [3, 3, 3, 0]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"png": PNG}, "one image and one cls"),
        ({"png": PNG, "npy": b"", "cls": b"1"}, "one image and one cls"),
        ({"png": PNG, "cls": b"10"}, "no number below 10"),
        ({"png": PNG, "cls": b"x"}, "no number below 10"),
        ({"png": PNG[:40], "cls": b"1"}, "cannot be decoded"),
        ({"png": b"GIF89a", "cls": b"1"}, "cannot be decoded"),
        ({"png": encode_png(np.zeros((9, 8), np.uint8)), "cls": b"1"}, "9 x 8 pixels, not 8 x 8"),
        ({"png": encode_png(np.zeros((8, 8, 3), np.uint8)), "cls": b"1"}, "mode RGB, not L"),
        ({"png": encode_png(np.full((8, 8), 17, np.uint8)), "cls": b"1"}, "none of the 17 grey levels: 17"),
        ({"npy": encoded(np.zeros((8, 8)), "npy"), "cls": b"1"}, "float64"),
    ],
)
def test_samples_that_are_not_as_the_manifest_says(crafted: Craft, members: dict[str, bytes], problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        read_split(crafted([("good", {"png": PNG, "cls": b"1"}), ("bad", members)]), "train")
    assert caught.value.field == "bad"
    assert "offset 2048" in str(caught.value)
