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
from langevin.data.records import as_captions, texts_of
from langevin.errors import ConfigError, LangevinError, NumericsError
from langevin.generation.gate import check
from langevin.generation.ledger import MANIFEST, done, finish, request_of
from langevin.generation.plan import Request, Unit, units
from langevin.generation.writer import read_images, write_unit
from langevin.randomness import Keys

from .noise_model import PROMPTS, NoiseModel, request, run


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_units_cover_every_sample_once() -> None:
    cut = units(request(n=50, unit=8))
    assert [i for unit in cut for i in range(unit.start, unit.stop)] == list(range(50))
    assert [unit.stop - unit.start for unit in cut] == [8] * 6 + [2]


def test_labels_cycle_through_the_classes_or_through_those_named() -> None:
    assert request().asked.cond(0, 5).tolist() == [0, 1, 2, 0, 1]
    assert request(labels=("two", "zero")).asked.cond(1, 5).tolist() == [0, 2, 0, 2]


def test_prompts_cycle_as_the_datas_captions_and_do_not_depend_on_the_unit() -> None:
    asked = request(prompts=PROMPTS).asked
    whole = asked.cond(0, 8)
    assert whole.dtype == torch.int64
    assert texts_of(whole) == [PROMPTS[i % 3] for i in range(8)]
    assert torch.equal(asked.cond(1, 2), whole[1:2])  # the shortest one alone is padded as among the others
    assert texts_of(request(prompts=("", "a")).asked.cond(0, 2)) == ["", "a"]


def test_requests_of_classes_keep_their_digests() -> None:
    """Frozen: folders of before there were prompts name them, and an interrupted job must go on there."""
    assert request().digest == "4bd96322047e"
    assert request(labels=("two", "zero"), n=3).digest == "8cf495fc71ad"
    assert "prompts" not in request().plain()


def test_prompts_are_a_part_of_the_request() -> None:
    one = request(prompts=PROMPTS)
    assert "labels" not in one.plain()
    assert (
        len({request().digest, one.digest, request(prompts=PROMPTS[:2]).digest, request(prompts=PROMPTS[::-1]).digest})
        == 4
    )
    assert request(prompts=PROMPTS, labels=("two",)).digest == one.digest  # means nothing


@pytest.mark.parametrize("changes", [{}, {"labels": ("two", "zero")}, {"prompts": PROMPTS}])
def test_a_request_comes_back_from_its_manifest(changes: dict[str, object]) -> None:
    asked = request(**changes)
    assert Request.of(json.loads(json.dumps(asked.plain()))) == asked


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"n": 0}, "n"),
        ({"unit": 0}, "unit"),
        ({"model": "models:/noise@champion"}, "model"),
        ({"labels": ("ten",)}, "labels"),
        ({"prompts": ()}, "prompts"),
        ({"prompts": ("a\0b",)}, "prompts"),
    ],
)
def test_a_request_that_cannot_be_meant_names_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        request(**changes)
    assert caught.value.field == field


def test_images_are_the_samples_of_seed_and_place_whatever_the_unit(tmp_path: Path) -> None:
    run(tmp_path)
    found = read_images(tmp_path)
    cond = torch.arange(50) % 3
    expected = NoiseModel().sample(Keys.range(5, 0, 50), cond)
    np.testing.assert_array_equal(found.images, to_bytes(quantise(expected, 17), 17).numpy())
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, cond.numpy())
    assert found.prompts is None


@pytest.mark.parametrize("unit", [8, 50])
def test_so_they_are_of_prompts(tmp_path: Path, unit: int) -> None:
    run(tmp_path, prompts=PROMPTS, unit=unit)
    found = read_images(tmp_path)
    prompts = tuple(PROMPTS[i % 3] for i in range(50))
    expected = NoiseModel().sample(Keys.range(5, 0, 50), as_captions(prompts))
    np.testing.assert_array_equal(found.images, to_bytes(quantise(expected, 17), 17).numpy())
    assert (found.prompts, found.labels) == (prompts, None)


def test_every_sample_says_where_it_comes_from(tmp_path: Path) -> None:
    manifest = run(tmp_path)
    with tarfile.open(tmp_path / "samples-00001.tar") as tar:
        names = [name for name in tar.getnames() if name.startswith("sample-000000009")]
        said = json.loads(tar.extractfile("sample-000000009.json").read())  # type: ignore[union-attr]
    assert names == [f"sample-000000009.{ending}" for ending in ("cls", "json", "png")]
    assert said == {"ordinal": 9, "seed": 5, "label": 0, "class": "zero", "model": "models:/noise/7"}
    assert manifest["request"]["model"] == "models:/noise/7"  # type: ignore[index]
    assert manifest["samples"] == 50


def test_every_sample_of_a_prompt_says_it(tmp_path: Path) -> None:
    manifest = run(tmp_path, prompts=PROMPTS)
    with tarfile.open(tmp_path / "samples-00001.tar") as tar:
        names = [name for name in tar.getnames() if name.startswith("sample-000000011")]
        said = json.loads(tar.extractfile("sample-000000011.json").read())  # type: ignore[union-attr]
        text = tar.extractfile("sample-000000011.txt").read().decode()  # type: ignore[union-attr]
    assert names == [f"sample-000000011.{ending}" for ending in ("json", "png", "txt")]
    assert said == {"ordinal": 11, "seed": 5, "prompt": PROMPTS[2], "model": "models:/noise/7"}
    assert text == PROMPTS[2]
    assert manifest["request"]["prompts"] == list(PROMPTS)  # type: ignore[index]


@pytest.mark.parametrize("prompts", [None, PROMPTS], ids=["classes", "prompts"])
def test_killed_at_any_moment_and_run_again_it_gives_the_same_bytes(
    tmp_path: Path, prompts: tuple[str, ...] | None
) -> None:
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    run(undisturbed, prompts=prompts)
    writer = [sys.executable, str(Path(__file__).with_name("noise_model.py")), str(disturbed), *(prompts or ())]
    kills = 0
    for units_before_death in (1, 3, 5):
        child = subprocess.Popen(writer)
        while child.poll() is None and len(list(disturbed.glob("*.tar*"))) < units_before_death:
            time.sleep(0.002)
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.wait()
        assert not (disturbed / MANIFEST).exists()
    assert kills == 3
    run(disturbed, prompts=prompts)
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
