from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from langevin.data.index import write_index
from langevin.data.integrity import verify
from langevin.data.latents import LatentBatch, write_latents
from langevin.data.manifest import Manifest, Split
from langevin.data.reader import Reader, attributes_of, first_captions, read_split
from langevin.data.records import as_captions, texts_of
from langevin.data.shards import Sample, encode, write_dataset, write_shard
from langevin.data.sources import Shapes, Source, SourceImage, SourceInfo
from langevin.errors import DataError

from .conftest import SPLITS

SOURCE = Shapes(16, 200)
STORED = {image.key: image for image in SOURCE}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write_dataset(root, SOURCE, name="shapes", split_fractions=SPLITS, shard_samples=64)
    return root


def test_data_sets_without_captions_keep_their_manifest(digits: Path) -> None:
    """Frozen: models that were registered before captions came name such digests as their data."""
    content = json.loads((digits / "manifest.json").read_text())
    assert list(content) == ["schema", "name", "shape", "levels", "classes", "captions", "splits", "digest"]
    assert content["digest"] == "fd26d489322de188520b6c4eb313846c"


def test_the_manifest_knows_the_longest_caption(shapes: Path) -> None:
    manifest = Manifest.load(shapes)
    assert manifest.captions
    assert manifest.caption_bytes == max(len((image.caption or "").encode()) for image in SOURCE)
    assert manifest.latents is None
    assert "latents" not in json.loads((shapes / "manifest.json").read_text())


def test_captions_come_back_in_every_split(shapes: Path) -> None:
    manifest = Manifest.load(shapes)
    seen: list[str] = []
    for split in manifest.splits:
        batch = read_split(shapes, split)
        assert batch.captions is not None
        assert batch.captions.dtype == torch.int64
        assert batch.captions.shape == (len(batch), manifest.caption_bytes)
        assert texts_of(batch.captions) == [STORED[key].caption for key in batch.keys]
        after = torch.arange(batch.captions.size(1)) >= (batch.captions > 0).sum(dim=1, keepdim=True)
        assert (batch.captions[after] == 0).all()
        seen += batch.keys
    assert sorted(seen) == sorted(SOURCE.keys)
    assert verify(shapes) == []


def test_the_source_gives_the_heldout_split(shapes: Path) -> None:
    manifest = Manifest.load(shapes)
    assert list(manifest.splits) == ["train", "validation", "test", "heldout"]
    assert sorted(read_split(shapes, "heldout").keys) == list(SOURCE.keys[9::10])
    others = sum(manifest.splits[split].samples for split in SPLITS)
    assert manifest.splits["train"].samples / others == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize("cache_bytes", [0, 60 * (3 * 16 * 16 + 100), 2**28])
def test_the_reader_gives_captions_however_much_it_keeps(shapes: Path, cache_bytes: int) -> None:
    reader = Reader(shapes, "train", seed=0, global_batch=50, cache_bytes=cache_bytes)
    for batch in islice(reader, 8):
        assert batch.captions is not None
        assert texts_of(batch.captions) == [STORED[key].caption for key in batch.keys]
        pixels = torch.from_numpy(np.stack([STORED[key].pixels for key in batch.keys])).permute(0, 3, 1, 2)
        torch.testing.assert_close(batch.images, pixels / 127.5 - 1)


def test_the_first_captions_of_a_split(shapes: Path, digits: Path) -> None:
    known = [STORED[key].caption for key in read_split(shapes, "test").keys]
    assert first_captions(shapes, "test", 3) == tuple(known[:3])
    assert first_captions(shapes, "test", 10_000) == tuple(known)
    with pytest.raises(DataError, match="no captions"):
        first_captions(digits, "test", 3)


def test_texts_become_captions_as_the_data_have_them(shapes: Path) -> None:
    batch = read_split(shapes, "test")
    assert batch.captions is not None
    again = as_captions(texts_of(batch.captions))
    assert again.dtype == batch.captions.dtype
    assert torch.equal(again, batch.captions[:, : again.shape[1]])
    assert as_captions(["", ""]).tolist() == [[0], [0]]
    with pytest.raises(DataError, match="zero byte"):
        as_captions(["a", "b\0"])


def test_attributes_come_in_stored_order(shapes: Path, digits: Path) -> None:
    found = attributes_of(shapes, "heldout")
    assert found == [STORED[key].attributes for key in read_split(shapes, "heldout").keys]
    with pytest.raises(DataError, match="no attributes"):
        attributes_of(digits, "test")


def test_stock_webdataset_reads_captions_and_attributes(shapes: Path) -> None:
    data = webdataset.WebDataset(str(shapes / "train-00000.tar"), shardshuffle=False).decode("pil")
    for key, caption, facts in data.to_tuple("__key__", "txt", "json"):
        assert caption == STORED[key].caption
        assert facts["attributes"] == STORED[key].attributes


class Told(Source):
    """Grey images under captions of any kind."""

    info = SourceInfo("told", (1, 4, 4), 256, ("a",), captions=True)

    def __init__(self, *captions: str | None) -> None:
        self.captions = captions
        self.keys = tuple(f"told-{number}" for number in range(len(captions)))

    def read(self, index: int) -> SourceImage:
        return SourceImage(self.keys[index], np.zeros((4, 4), dtype=np.uint8), 0, self.captions[index])


def told(root: Path, *captions: str | None) -> Path:
    write_dataset(root, Told(*captions), name="told", split_fractions={"train": 1.0}, shard_samples=8)
    return root


def test_captions_may_be_of_any_language_or_empty(tmp_path: Path) -> None:
    texts = ("ein blauer Würfel", "青い立方体", "", "x")
    batch = read_split(told(tmp_path / "some", *texts), "train")
    assert batch.captions is not None
    assert batch.captions.shape[1] == max(len(text.encode()) for text in texts)
    found = dict(zip(batch.keys, texts_of(batch.captions), strict=True))
    assert found == {f"told-{number}": text for number, text in enumerate(texts)}
    none = read_split(told(tmp_path / "none", "", ""), "train")
    assert none.captions is not None
    assert none.captions.tolist() == [[0], [0]]


@pytest.mark.parametrize("caption", [None, "a\0b"])
def test_an_image_without_a_caption_is_named(tmp_path: Path, caption: str | None) -> None:
    with pytest.raises(DataError, match=r"told-1.*is no caption"):
        told(tmp_path, "a", caption)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "has a txt, and this one none"),
        (b"far too long", "has 12 bytes, and the longest of the data set 3"),
        (b"\xff", "no text in UTF-8"),
        (b"a\0b", "zero byte"),
    ],
)
def test_a_caption_that_is_not_as_the_manifest_says_is_named(tmp_path: Path, text: bytes | None, problem: str) -> None:
    manifest = Manifest.load(told(tmp_path, "abc", "de"))
    good, bad = (encode(image, Told.info) for image in Told("abc", "de"))
    members = {**bad[1], "txt": text} if text is not None else {k: v for k, v in bad[1].items() if k != "txt"}
    record = write_shard(tmp_path / "train-00000.tar", [good, (bad[0], members)])
    write_index(tmp_path, {"train": [record]})
    replace(manifest, splits={"train": Split(2, (record.info,))}).save(tmp_path)
    with pytest.raises(DataError, match=problem) as caught:
        read_split(tmp_path, "train")
    assert caught.value.field == "told-1"


# Latents


def latents_of(root: Path, size: int = 10**9) -> Iterator[LatentBatch]:
    """Made-up latents of every split, whose values tell their key, by size at a time."""
    for split in Manifest.load(root).splits:
        batch = read_split(root, split)
        assert batch.labels is not None
        assert batch.captions is not None
        for start in range(0, len(batch), size):
            rows = slice(start, start + size)
            keys = batch.keys[rows]
            latents = np.stack([latent(key) for key in keys])
            yield LatentBatch(split, keys, latents, batch.labels[rows].tolist(), texts_of(batch.captions[rows]))


def latent(key: str) -> np.ndarray:
    return np.random.default_rng(int(key.removeprefix("shapes-"))).normal(size=(5, 4, 4)).astype(np.float16)


def write(root: Path, pixels: Path, batches: Iterator[LatentBatch], shard_samples: int = 50) -> Manifest:
    return write_latents(
        root, Manifest.load(pixels), batches, codec_sha256="c" * 64, scale=1.7, shard_samples=shard_samples
    )


@pytest.fixture(scope="module")
def latents(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("latents")
    write(root, shapes, latents_of(shapes))
    return root


def test_latents_are_read_like_images(shapes: Path, latents: Path) -> None:
    manifest = Manifest.load(latents)
    assert (manifest.shape, manifest.levels) == ((5, 4, 4), 0)
    assert manifest.latents is not None
    assert (manifest.latents.of, manifest.latents.scale) == (Manifest.load(shapes).digest, 1.7)
    for split in manifest.splits:
        batch, pixels = read_split(latents, split), read_split(shapes, split)
        assert batch.images.dtype == torch.float32
        assert torch.equal(batch.images, torch.from_numpy(np.stack([latent(key) for key in batch.keys])).float())
        assert batch.keys == pixels.keys
        for name in ("labels", "captions"):
            assert torch.equal(getattr(batch, name), getattr(pixels, name))
    assert verify(latents) == []


@pytest.mark.parametrize("cache_bytes", [0, 60 * 300, 2**28])
def test_the_reader_streams_latents(latents: Path, cache_bytes: int) -> None:
    for batch in islice(Reader(latents, "train", seed=3, global_batch=50, cache_bytes=cache_bytes), 8):
        assert torch.equal(batch.images, torch.from_numpy(np.stack([latent(key) for key in batch.keys])).float())


def test_the_same_latents_are_the_same_bytes_however_batched(shapes: Path, latents: Path, tmp_path: Path) -> None:
    write(tmp_path, shapes, latents_of(shapes, size=7))
    names = sorted(path.name for path in latents.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (latents / name).read_bytes()
    with tarfile.open(tmp_path / "train-00000.tar") as tar:
        assert [name.partition(".")[2] for name in tar.getnames()[:4]] == ["cls", "json", "npy", "txt"]


def test_a_batch_of_images_becomes_latents(shapes: Path) -> None:
    batch = read_split(shapes, "test")
    made = LatentBatch.of("test", batch, batch.images[:, :, ::4, ::4])
    assert made.latents.shape == (len(batch), 3, 4, 4)
    assert made.captions == [STORED[key].caption for key in made.keys]


def test_latents_that_cannot_be_stored_are_named(shapes: Path, tmp_path: Path) -> None:
    def changed(**changes: object) -> Iterator[LatentBatch]:
        first, *others = latents_of(shapes)
        return iter([replace(first, **changes), *others])  # type: ignore[arg-type]

    first = next(latents_of(shapes))
    large = first.latents.astype(np.float32)
    large[3] = 1e6
    for batches, match in (
        (changed(latents=large), rf"{first.keys[3]}.*not finite in float16"),
        (changed(latents=first.latents[:, :, :2]), "shape before"),
        (changed(captions=None), "is no caption"),
        (islice(latents_of(shapes), 2), "other samples than the images"),
    ):
        with pytest.raises(DataError, match=match):
            write(tmp_path, shapes, batches)
        assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (("npy", np.zeros((5, 4, 4), dtype=np.float32)), "float32 of shape"),
        (("npy", np.zeros((4, 4, 4), dtype=np.float16)), r"shape \(4, 4, 4\), not float16 of \(5, 4, 4\)"),
        (("npy", np.full((5, 4, 4), np.nan, dtype=np.float16)), "not finite"),
        (("png", b""), "holds latents, and this sample a png"),
    ],
)
def test_a_latent_that_is_not_as_the_manifest_says_is_named(
    latents: Path, tmp_path: Path, member: tuple[str, np.ndarray | bytes], problem: str
) -> None:
    from langevin.data.latents import encode_array

    ending, content = member
    data = content if isinstance(content, bytes) else encode_array(content)
    sample: Sample = ("k", {ending: data, "cls": b"0", "txt": b"x"})
    record = write_shard(tmp_path / "train-00000.tar", [sample])
    write_index(tmp_path, {"train": [record]})
    replace(Manifest.load(latents), splits={"train": Split(1, (record.info,))}).save(tmp_path)
    with pytest.raises(DataError, match=problem):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"levels": 256}, "levels"),
        ({"shape": (0, 4, 4)}, "shape"),
        ({"caption_bytes": None}, "caption_bytes"),
        ({"caption_bytes": 0}, "caption_bytes"),
        ({"captions": False}, "caption_bytes"),
        ({"latents": None}, "levels"),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(
    latents: Path, tmp_path: Path, changes: dict[str, object], field: str
) -> None:
    replace(Manifest.load(latents), **changes).save(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        Manifest.load(tmp_path)
    assert caught.value.field == field


def test_a_scale_that_cannot_be_is_refused(latents: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(latents)
    assert manifest.latents is not None
    replace(manifest, latents=replace(manifest.latents, scale=0.0)).save(tmp_path)
    with pytest.raises(DataError, match=r"latents\.scale"):
        Manifest.load(tmp_path)
