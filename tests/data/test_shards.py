from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from langevin.data.manifest import Manifest
from langevin.data.shards import assign, write_dataset, write_shard
from langevin.data.sources import Digits, Source, SourceImage, SourceInfo
from langevin.errors import ConfigError, DataError

from .conftest import SPLITS


class Few(Source):
    """n images of noise, which break at one of them if asked to."""

    info = SourceInfo("few", (1, 4, 4), 256, ("a", "b"))

    def __init__(self, n: int, broken_at: int | None = None) -> None:
        self.keys = tuple(f"few-{number}" for number in range(n))
        self._broken_at = broken_at

    def read(self, index: int) -> SourceImage:
        if index == self._broken_at:
            raise OSError("the disk is gone")
        pixels = np.random.default_rng(index).integers(0, 256, (4, 4), dtype=np.uint8)
        return SourceImage(self.keys[index], pixels, index % 2)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_writing_twice_gives_the_same_bytes(digits: Path, tmp_path: Path) -> None:
    seen = []
    manifest = write_dataset(
        tmp_path,
        Digits(),
        name="digits",
        split_fractions=SPLITS,
        shard_samples=512,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert contents(tmp_path) == contents(digits)
    assert manifest == Manifest.load(digits)
    assert seen[-1] == (1797, 1797)
    assert seen == sorted(seen)


def test_a_tar_holds_nothing_of_the_machine_or_the_hour(digits: Path) -> None:
    with tarfile.open(digits / "test-00000.tar") as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    endings = [member.name.partition(".")[2] for member in members]
    assert endings == ["cls", "json", "png"] * (len(members) // 3)


def test_member_order_does_not_depend_on_the_callers_dict(tmp_path: Path) -> None:
    one = write_shard(tmp_path / "a-00000.tar", [("k" * 150, {"png": b"1", "cls": b"2"})])
    two = write_shard(tmp_path / "b-00000.tar", [("k" * 150, {"cls": b"2", "png": b"1"})])
    assert one.info.sha256 == two.info.sha256
    assert one.info.size == (tmp_path / "a-00000.tar").stat().st_size
    with tarfile.open(tmp_path / "a-00000.tar") as tar:  # a key too long for a plain header
        assert tar.getnames() == ["k" * 150 + ".cls", "k" * 150 + ".png"]


def test_the_split_of_a_key_does_not_change_when_images_come() -> None:
    def split_of(n: int) -> dict[str, str]:
        keys = [f"image-{number}" for number in range(n)]
        return {keys[number]: split for split, numbers in assign(keys, SPLITS).items() for number in numbers}

    few, many = split_of(500), split_of(5000)
    assert few.items() <= many.items()
    shares = {split: list(many.values()).count(split) / 5000 for split in SPLITS}
    assert shares == pytest.approx(SPLITS, abs=0.02)


def test_classes_are_mixed_inside_a_split(digits: Path) -> None:
    shard = digits / "train-00000.tar"
    labels = [int(sample["cls"]) for sample in webdataset.WebDataset(str(shard), shardshuffle=False)]
    assert set(labels[:100]) == set(range(10))


@pytest.mark.parametrize("decoder", ["pil", "torch"])
def test_stock_webdataset_reads_the_shards(digits: Path, decoder: str) -> None:
    shards = sorted(str(path) for path in digits.glob("*.tar"))
    read = webdataset.WebDataset(shards, shardshuffle=False).decode(decoder).to_tuple("__key__", "png", "cls", "json")
    stored = {image.key: image for image in Digits()}
    count = 0
    for key, image, label, facts in read:
        pixels = np.asarray(image) if decoder == "pil" else np.rint(image.numpy()[0] * 255)
        assert np.array_equal(pixels[..., 0] if pixels.ndim == 3 else pixels, stored[key].pixels)
        assert label == stored[key].label
        assert facts == {"key": key, "label": label, "class": str(label)}
        count += 1
    assert count == 1797


def test_a_crash_leaves_no_manifest_and_no_half_shard(tmp_path: Path) -> None:
    write_dataset(tmp_path, Few(40), name="few", split_fractions={"train": 1.0}, shard_samples=10)
    last = assign(Few(40).keys, {"train": 1.0})["train"][-1]
    broken = Few(40, broken_at=last)
    with pytest.raises(OSError, match="disk"):
        write_dataset(tmp_path, broken, name="few", split_fractions={"train": 1.0}, shard_samples=10)
    assert not (tmp_path / "manifest.json").exists()
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(DataError, match="missing data set"):
        Manifest.load(tmp_path)


def test_shards_of_an_earlier_data_set_are_removed_and_nothing_else(tmp_path: Path) -> None:
    write_dataset(tmp_path, Few(40), name="few", split_fractions={"train": 0.5, "old": 0.5}, shard_samples=5)
    (tmp_path / "train-00009.tar.tmp").write_bytes(b"left by a killed writer")
    (tmp_path / "README").write_text("mine")
    manifest = write_dataset(tmp_path, Few(40), name="few", split_fractions={"train": 1.0}, shard_samples=30)
    names = [shard.name for shard in manifest.splits["train"].shards]
    assert names == ["train-00000.tar", "train-00001.tar"]
    assert set(contents(tmp_path)) == {*names, "README", "manifest.json", "index.parquet"}


def test_bad_requests_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    root = tmp_path / "out"

    def write(source: Source, fractions: dict[str, float], shard_samples: int = 5) -> None:
        write_dataset(root, source, name="few", split_fractions=fractions, shard_samples=shard_samples)

    with pytest.raises(ConfigError, match="add up to 1"):
        write(Few(9), {"train": 0.5})
    with pytest.raises(ConfigError, match="share"):
        write(Few(9), {"train": 1.5, "test": -0.5})
    with pytest.raises(ConfigError, match="name of a split"):
        write(Few(9), {"../train": 1.0})
    with pytest.raises(ConfigError, match="shard_samples"):
        write(Few(9), {"train": 1.0}, shard_samples=0)
    with pytest.raises(DataError, match="none of 3 images"):
        write(Few(3), {"train": 0.9999, "test": 0.0001})
    twice = Few(4)
    twice.keys = (*twice.keys[:3], twice.keys[0])
    with pytest.raises(DataError, match="few-0"):
        write(twice, {"train": 1.0})
    assert not root.exists()
