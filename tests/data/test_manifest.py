from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langevin.data.manifest import Manifest
from langevin.errors import DataError


def test_load_gives_back_what_was_saved(digits: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(digits)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert (tmp_path / "manifest.json").read_bytes() == (digits / "manifest.json").read_bytes()


def test_the_digest_names_the_content(digits: Path) -> None:
    manifest = Manifest.load(digits)
    assert len(manifest.digest) == 32
    assert replace(manifest).digest == manifest.digest
    reordered = replace(manifest, splits=dict(reversed(manifest.splits.items())))
    assert reordered.digest == manifest.digest
    train = manifest.splits["train"]
    shard = replace(train.shards[0], sha256="0" * 64)
    changed = replace(manifest, splits={**manifest.splits, "train": replace(train, shards=(shard, *train.shards[1:]))})
    assert changed.digest != manifest.digest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(levels="17"), "levels"),
        (lambda m: m.update(colour=1), "colour"),
        (lambda m: m.pop("classes"), "classes"),
        (lambda m: m.update(schema=2), "schema"),
        (lambda m: m["splits"]["train"]["shards"][1].update(size=1.5), "splits.train.shards.1.size"),
        (lambda m: m["splits"]["train"]["shards"][1].update(sha256="0" * 64), "digest"),
        (lambda m: m.update(name="other"), "digest"),
        (lambda m: m.pop("digest"), "digest"),
    ],
)
def test_tampering_is_named(copy: Path, change: Callable[[dict[str, Any]], object], field: str) -> None:
    path = copy / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        Manifest.load(copy)
    assert caught.value.file == path
    assert caught.value.field == field
    assert caught.value.mend


def test_a_consistent_manifest_can_still_be_refused(digits: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(digits)
    train = manifest.splits["train"]
    outside = replace(train.shards[0], name="../train-00000.tar")
    for broken, field in (
        (replace(manifest, levels=1), "levels"),
        (replace(manifest, shape=(2, 8, 8)), "shape"),
        (replace(manifest, splits={"train": replace(train, samples=1)}), "splits.train.samples"),
        (
            replace(manifest, splits={"train": replace(train, shards=(outside, *train.shards[1:]))}),
            "splits.train.shards",
        ),
    ):
        broken.save(tmp_path)
        with pytest.raises(DataError) as caught:
            Manifest.load(tmp_path)
        assert caught.value.field == field


def test_what_cannot_be_read_names_the_mend(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing data set.*langevin prepare RECIPE.*dvc repro prepare"):
        Manifest.load(tmp_path / "nowhere")
    for content in (b'{"schema": 1', b"[1]", b"\xff\xfe"):
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(DataError, match=r"manifest\.json"):
            Manifest.load(tmp_path)
