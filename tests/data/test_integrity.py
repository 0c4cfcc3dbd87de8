from __future__ import annotations

import os
from pathlib import Path

from langevin.data.integrity import verify


def test_a_sound_data_set_has_no_problems(digits: Path) -> None:
    assert verify(digits) == []


def test_every_damage_is_found_at_its_place(copy: Path) -> None:
    flipped = bytearray((copy / "train-00000.tar").read_bytes())
    keys = [flipped.index(b"IDAT"), flipped.rindex(b"IDAT")]
    for at in keys:
        flipped[at + 6] ^= 1
    (copy / "train-00000.tar").write_bytes(flipped)
    os.truncate(copy / "train-00001.tar", 7000)
    (copy / "validation-00000.tar").unlink()
    tail = bytearray((copy / "test-00000.tar").read_bytes())
    tail[-1] = 1
    (copy / "test-00000.tar").write_bytes(tail)

    first, second, truncated, missing, padding = verify(copy)
    assert first.shard == second.shard == "train-00000.tar"
    assert first.offset == 0
    assert second.offset is not None
    assert 0 < second.offset < keys[1]
    assert second.key
    assert f"train-00000.tar at offset {second.offset} ({second.key})" in str(second)
    assert (truncated.shard, truncated.offset) == ("train-00001.tar", 7000)
    assert (missing.shard, missing.offset) == ("validation-00000.tar", None)
    assert padding.shard == "test-00000.tar"
    assert "sha256" in padding.problem
