"""A data set of real digits, written once, and copies of it to damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from langevin.data.index import write_index
from langevin.data.manifest import Manifest, Split
from langevin.data.shards import Sample, write_dataset, write_shard
from langevin.data.sources import Digits

SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    write_dataset(root, Digits(), name="digits", split_fractions=SPLITS, shard_samples=512)
    return root


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    """The digits again, to be damaged."""
    return shutil.copytree(digits, tmp_path / "digits")


@pytest.fixture
def crafted(digits: Path, tmp_path: Path) -> Callable[[list[Sample]], Path]:
    """Makes a data set of samples as they are given, consistent in manifest, index and checksums."""

    def craft(samples: list[Sample]) -> Path:
        root = tmp_path / "crafted"
        root.mkdir()
        record = write_shard(root / "train-00000.tar", samples)
        write_index(root, {"train": [record]})
        manifest = Manifest.load(digits)
        replace(manifest, splits={"train": Split(len(samples), (record.info,))}).save(root)
        return root

    return craft
