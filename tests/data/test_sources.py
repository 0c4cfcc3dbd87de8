from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from langevin.data.quantisation import from_bytes
from langevin.data.reader import read_split
from langevin.data.shards import write_dataset
from langevin.data.sources import SOURCES, Digits, Folder
from langevin.data.sources.folder import key_of
from langevin.errors import ConfigError, DataError, UserError


def picture(
    path: Path, colour: float | tuple[float, ...], size: tuple[int, int] = (12, 8), mode: str = "RGB", **save: Any
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **save)


def test_digits_are_scikit_learns_own() -> None:
    source, original = Digits(), load_digits()
    images = list(source)
    assert len(images) == len(source) == 1797
    assert [image.key for image in images[:2]] == ["digits-0000", "digits-0001"]
    assert [image.label for image in images] == original.target.tolist()
    stored = torch.from_numpy(np.stack([image.pixels for image in images]))
    assert torch.equal(from_bytes(stored, source.info.levels).double(), torch.from_numpy(original.images))


def test_the_table_names_the_sources() -> None:
    assert SOURCES["digits"]().info.name == "digits"
    assert SOURCES["folder"] is Folder


def test_folder_reads_every_kind_into_one_shape(tmp_path: Path) -> None:
    picture(tmp_path / "b" / "one.png", (250, 10, 20))
    picture(tmp_path / "b" / "deep" / "two.webp", (250, 10, 20), lossless=True)
    picture(tmp_path / "a" / "three.JPG", (250, 10, 20), quality=95)
    picture(tmp_path / "a" / "grey.png", 7, mode="L")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    source = Folder(tmp_path, size=4)
    assert source.info.classes == ("a", "b")
    assert source.info.shape == (3, 4, 4)
    assert [(image.key, image.label) for image in source] == [
        ("a/grey", 0),
        ("a/three", 0),
        ("b/deep/two", 1),
        ("b/one", 1),
    ]
    grey, jpeg, webp, png = (image.pixels for image in source)
    assert (grey == 7).all()
    for pixels in (jpeg, webp, png):
        assert pixels.shape == (4, 4, 3)
        assert np.abs(pixels.astype(int) - [250, 10, 20]).max() <= 2
    assert Folder(tmp_path, size=4, channels=1).read(0).pixels.shape == (4, 4)


def test_folder_crops_about_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((8, 24), dtype=np.uint8)
    wide[:, 8:16] = 255
    (tmp_path / "a").mkdir()
    Image.fromarray(wide).save(tmp_path / "a" / "wide.png")
    assert (Folder(tmp_path, size=8, channels=1).read(0).pixels == 255).all()


def test_transparency_lies_on_white_and_rotation_is_undone(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "clear.png", (0, 0, 0, 0), mode="RGBA")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    halves = np.zeros((8, 8), dtype=np.uint8)
    halves[:4] = 255
    Image.fromarray(halves).save(tmp_path / "a" / "turned.png", exif=exif)
    clear, turned = (image.pixels for image in Folder(tmp_path, size=8, channels=1))
    assert (clear == 255).all()
    assert np.array_equal(turned, halves[::-1])


def test_keys_have_no_dots_and_stay_apart() -> None:
    keys = [key_of(f"cats/{name}") for name in ("a.png", "a.b.png", "a b.png", "a_b.png", "été.png")]
    assert len(set(keys)) == len(keys)
    assert not any("." in key or " " in key for key in keys)
    assert keys[0] == "cats/a"
    assert keys[-1] == "cats/été"


def test_a_folder_becomes_a_data_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "raw" / ("cat", "dög")[number % 2] / f"img.{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)
    source = Folder(tmp_path / "raw", size=6)
    write_dataset(tmp_path / "out", source, name="pets", split_fractions={"train": 1.0}, shard_samples=7)
    batch = read_split(tmp_path / "out", "train")
    assert sorted(batch.keys) == sorted(source.keys)
    stored = {image.key: image for image in source}
    assert batch.labels is not None
    for image, label, key in zip(batch.images, batch.labels, batch.keys, strict=True):
        pixels = torch.from_numpy(stored[key].pixels.copy()).permute(2, 0, 1)
        torch.testing.assert_close(image, pixels / 127.5 - 1)
        assert label == stored[key].label


def test_bad_folders_are_named(tmp_path: Path) -> None:
    def refused(kind: type[UserError], match: str, **options: int) -> None:
        with pytest.raises(kind, match=match):
            list(Folder(tmp_path / "raw", **{"size": 4, **options}))

    refused(DataError, "no folder of pictures")
    (tmp_path / "raw").mkdir()
    refused(DataError, "no class folders")
    (tmp_path / "raw" / "a").mkdir()
    refused(DataError, "no pictures")
    picture(tmp_path / "raw" / "a" / "one.png", (1, 2, 3))
    refused(ConfigError, "channels", channels=4)
    refused(ConfigError, "size", size=0)
    picture(tmp_path / "raw" / "a" / "one.jpg", (1, 2, 3))
    refused(DataError, r"one\.jpg")
    (tmp_path / "raw" / "a" / "one.jpg").unlink()
    (tmp_path / "raw" / "a" / "two.png").write_bytes((tmp_path / "raw" / "a" / "one.png").read_bytes()[:50])
    refused(DataError, r"two\.png.*cannot be read")
    (tmp_path / "raw" / "a" / "two.png").unlink()
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "raw" / "a" / "deep.png")
    refused(DataError, r"deep\.png.*8 bits")
