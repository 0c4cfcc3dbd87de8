"""Where things lie: one home folder, named or found."""

from __future__ import annotations

from pathlib import Path

import pytest

from langevin.config import paths


def test_the_home_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LANGEVIN_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert paths.home() == tmp_path
    assert paths.within_home("out/data") == tmp_path / "out" / "data"
    assert paths.run_folder("a-1") == tmp_path / "runs" / "a-1"


def test_a_named_home_is_taken_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGEVIN_HOME", str(tmp_path / "home"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert paths.home() == tmp_path / "home"
    monkeypatch.setenv("LANGEVIN_HOME", "~/here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.home() == tmp_path / "here"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    assert paths.within_home(str(tmp_path)) == tmp_path


def test_a_jobs_own_copy_of_the_project_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray deletes a job's working directory with the job."""
    copy = tmp_path / "_ray_pkg_0123456789abcdef"
    copy.mkdir()
    monkeypatch.delenv("LANGEVIN_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(copy)
    assert paths.home() == tmp_path / ".langevin"
