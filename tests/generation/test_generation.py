"""Exactly-once generation: the same bytes after any death, nothing twice, nothing missing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from langevin.data.quantisation import quantise, to_bytes
from langevin.errors import ConfigError, LangevinError, NumericsError
from langevin.generation.gate import check
from langevin.generation.ledger import MANIFEST, done, finish, request_of
from langevin.generation.plan import Unit, units
from langevin.generation.writer import read_images, write_unit
from langevin.randomness import Keys

from .noise_model import NoiseModel, request, run


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_units_cover_every_sample_once() -> None:
    cut = units(request(n=50, unit=8))
    assert [i for unit in cut for i in range(unit.start, unit.stop)] == list(range(50))
    assert [unit.stop - unit.start for unit in cut] == [8] * 6 + [2]


def test_labels_cycle_through_the_classes_or_through_those_named() -> None:
    assert [request().label_of(i) for i in range(5)] == [0, 1, 2, 0, 1]
    assert [request(labels=("two", "zero")).label_of(i) for i in range(4)] == [2, 0, 2, 0]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"n": 0}, "n"),
        ({"unit": 0}, "unit"),
        ({"model": "models:/noise@champion"}, "model"),
        ({"labels": ("ten",)}, "labels"),
    ],
)
def test_a_request_that_cannot_be_meant_names_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        request(**changes)
    assert caught.value.field == field


def test_images_are_the_samples_of_seed_and_place_whatever_the_unit(tmp_path: Path) -> None:
    run(tmp_path)
    images, labels = read_images(tmp_path)
    cond = torch.arange(50) % 3
    expected = NoiseModel().sample(Keys.range(5, 0, 50), cond)
    np.testing.assert_array_equal(images, to_bytes(quantise(expected, 17), 17).numpy())
    np.testing.assert_array_equal(labels, cond.numpy())


def test_every_sample_says_where_it_comes_from(tmp_path: Path) -> None:
    manifest = run(tmp_path)
    with tarfile.open(tmp_path / "samples-00001.tar") as tar:
        said = json.loads(tar.extractfile("sample-000000009.json").read())  # type: ignore[union-attr]
    assert said == {"ordinal": 9, "seed": 5, "label": 0, "class": "zero", "model": "models:/noise/7"}
    assert manifest["request"]["model"] == "models:/noise/7"  # type: ignore[index]
    assert manifest["samples"] == 50


def test_killed_at_any_moment_and_run_again_it_gives_the_same_bytes(tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    run(undisturbed)
    kills = 0
    for units_before_death in (1, 3, 5):
        child = subprocess.Popen([sys.executable, str(Path(__file__).with_name("noise_model.py")), str(disturbed)])
        while child.poll() is None and len(list(disturbed.glob("*.tar*"))) < units_before_death:
            time.sleep(0.002)
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.wait()
        assert not (disturbed / MANIFEST).exists()
    assert kills == 3
    run(disturbed)
    assert contents(disturbed) == contents(undisturbed)


def test_done_units_are_not_done_again_and_damaged_ones_are(tmp_path: Path) -> None:
    run(tmp_path)
    shard = tmp_path / "samples-00002.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"x")
    assert set(done(tmp_path, request())) == {0, 1, 3, 4, 5, 6}
    untouched = (tmp_path / "samples-00003.tar").stat().st_mtime_ns
    run(tmp_path)
    assert shard.read_bytes() == whole
    assert (tmp_path / "samples-00003.tar").stat().st_mtime_ns == untouched


def test_another_requests_folder_is_refused_and_stays(tmp_path: Path) -> None:
    run(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="another request"):
        done(tmp_path, request(seed=6))
    assert contents(tmp_path) == before
    assert request_of(tmp_path) == request().digest


def test_no_manifest_while_a_unit_is_missing(tmp_path: Path) -> None:
    write_unit(Unit(0, 0, 8), request(), NoiseModel(), tmp_path)
    with pytest.raises(LangevinError, match="6 units are missing"):
        finish(tmp_path, request())
    assert not (tmp_path / MANIFEST).exists()


def test_samples_that_are_not_finite_are_named_and_not_written(tmp_path: Path) -> None:
    class Broken(NoiseModel):
        def sample(self, keys: Keys, cond: torch.Tensor) -> torch.Tensor:
            images = super().sample(keys, cond)
            images[3] = torch.nan
            return images

    with pytest.raises(NumericsError, match=r"\[11\]"):
        write_unit(Unit(1, 8, 16), request(), Broken(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_gate_counts_constant_and_repeated_images() -> None:
    images = np.random.default_rng(0).integers(0, 255, (6, 1, 4, 4), dtype=np.uint8)
    images[1], images[2], images[3] = 7, 7, images[0]
    seen = check(images)
    assert (seen.constant, seen.duplicates) == (2, 2)
