"""Where things lie, on the machine of a person and in a job on a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from langevin.config import paths
from langevin.config.paths import run_folder, within_home


def test_the_named_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "_ray_pkg_0123456789abcdef"
    inside.mkdir()
    monkeypatch.chdir(inside)
    monkeypatch.setenv("LANGEVIN_HOME", str(tmp_path / "named"))
    assert paths.home() == tmp_path / "named"
    monkeypatch.setenv("LANGEVIN_HOME", "relative")
    assert paths.home() == inside / "relative"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LANGEVIN_HOME", "~/mine")
    assert paths.home() == tmp_path / "mine"


@pytest.mark.parametrize("place", ["_ray_pkg_0123456789abcdef", "runtime_resources/working_dir_files/_ray_pkg_01/jobs"])
def test_a_jobs_own_copy_of_the_project_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / place)
    monkeypatch.delenv("LANGEVIN_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert paths.home() == tmp_path / "user/.langevin"
    monkeypatch.chdir(tmp_path)
    assert paths.home() == tmp_path


def test_paths_of_a_recipe_are_below_home_unless_they_are_absolute(home: Path) -> None:
    assert within_home("out/data/digits") == home / "out/data/digits"
    assert within_home("/data/digits") == Path("/data/digits")
    assert run_folder("small-0123") == home / "runs/small-0123"
