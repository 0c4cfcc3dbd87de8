"""The journal of a search: what is in it after a kill, and one writer at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from langevin.errors import ConfigError
from langevin.search.journal import Journal


def write(path: Path) -> None:
    with Journal.opened(path) as journal:
        journal.begun("a", {"train.lr": 1e-3})
        journal.begun("b", {"train.lr": 1e-2})
        journal.figures("b", {"images": 64, "fid": 9.0}, seconds=3.0)
        journal.figures("a", {"images": 64, "fid": float("inf")}, seconds=4.0)
        journal.stop("a", "diverged")


def test_what_was_written_is_read_in_its_order(tmp_path: Path) -> None:
    write(tmp_path / "j")
    with Journal.opened(tmp_path / "j") as journal:
        assert list(journal.trials) == ["a", "b"]
        assert journal.reached == [("b", 0), ("a", 0)]
        assert journal.trials["a"].stopped == "diverged"
        assert journal.trials["b"].figures == [{"images": 64, "fid": 9.0}]
        assert journal.trials["b"].knobs == {"train.lr": 1e-2}
        assert journal.seconds == 4.0


def test_cut_off_at_any_byte_it_is_what_its_whole_lines_say(tmp_path: Path) -> None:
    write(tmp_path / "j")
    whole = (tmp_path / "j").read_bytes()
    for size in range(len(whole) + 1):
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:size])
        with Journal.opened(cut) as journal:
            lines = whole[:size].count(b"\n")
            assert len(journal.trials) == min(lines, 2)
            assert len(journal.reached) == min(max(lines - 2, 0), 2)
            journal.begun("c", {})
        with Journal.opened(cut) as journal:
            assert "c" in journal.trials


def test_a_second_writer_is_refused_while_the_first_is_there(tmp_path: Path) -> None:
    with (
        Journal.opened(tmp_path / "j"),
        pytest.raises(ConfigError, match="another process"),
        Journal.opened(tmp_path / "j"),
    ):
        pytest.fail("both write")
    with Journal.opened(tmp_path / "j"):
        pass
