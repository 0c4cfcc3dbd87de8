"""A copy of the project, as a fresh clone would hold it: what git tracks, and what it would."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .recipes import ROOT

AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")


def copy_project(folder: Path) -> Path:
    """The project in ``folder``, committed to a repository of its own. Nothing that .gitignore names comes along."""
    listing = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, *AUTHOR, "commit", "-q", "--no-verify", "-m", "as it is")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout
