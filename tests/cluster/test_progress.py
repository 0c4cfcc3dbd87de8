"""What a training tells the one who waits for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from langevin.cluster.progress import FILE, watched, write_progress


def test_the_watcher_hears_what_is_written_and_the_last_words(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    with watched(tmp_path / "run", told.append):
        write_progress(tmp_path / "run", {"images": 32, "loss": 0.5})
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.02)
        assert told == [{"images": 32, "loss": 0.5}]
        write_progress(tmp_path / "run", {"images": 64, "loss": 0.25})
    assert told == [{"images": 32, "loss": 0.5}, {"images": 64, "loss": 0.25}]
    assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE]


def test_what_an_earlier_training_wrote_is_not_told_again(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    write_progress(tmp_path, {"images": 32})
    with watched(tmp_path, told.append):
        pass
    assert told == []


def test_a_failing_body_ends_the_watch_and_keeps_its_error(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def fail() -> None:
        with watched(tmp_path, told.append):
            write_progress(tmp_path, {"images": 32})
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert told == [{"images": 32}]
