"""Lineage in a real git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from langevin.tracking.lineage import COMMIT_VARIABLE, Lineage, git_state


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_folder_knows_its_commit_and_whether_it_differs(tmp_path: Path) -> None:
    assert git_state(tmp_path) == ("unknown", False)
    assert git_state(tmp_path / "missing") == ("unknown", False)
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == ("unknown", False)  # no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "first", "--no-verify")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == (commit, False)
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == (commit, True)


@pytest.mark.parametrize(("told", "known"), [("abc", ("abc", False)), ("abc+", ("abc", True))])
def test_a_jobs_copy_of_the_project_is_told_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, known: tuple[str, bool]
) -> None:
    monkeypatch.setenv(COMMIT_VARIABLE, told)
    assert git_state(tmp_path) == known


def test_every_ancestor_is_a_tag() -> None:
    lineage = Lineage("c" * 40, True, "d", "digits", "ddpm.yaml", "e", "run-a", "r1", "f" * 64, 1280)
    assert lineage.tags() == {
        "langevin.git_commit": "c" * 40,
        "langevin.git_dirty": "true",
        "langevin.dataset_digest": "d",
        "langevin.dataset_name": "digits",
        "langevin.recipe": "ddpm.yaml",
        "langevin.recipe_hash": "e",
        "langevin.run_name": "run-a",
        "langevin.run_id": "r1",
        "langevin.checkpoint_sha256": "f" * 64,
        "langevin.images": "1280",
    }
