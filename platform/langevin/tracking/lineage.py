"""Where a model comes from: commit -> dataset -> recipe -> run -> checkpoint, as tags that travel with all of them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

_UNKNOWN = "unknown"
COMMIT_VARIABLE = "LANGEVIN_COMMIT"


@dataclass(frozen=True)
class Lineage:
    """The ancestors of a checkpoint. git_commit: 40 hex digits or "unknown"; images: seen in training."""

    git_commit: str
    git_dirty: bool
    dataset_digest: str
    dataset_name: str
    recipe: str
    recipe_hash: str
    run_name: str
    run_id: str | None = None
    checkpoint_sha256: str | None = None
    images: int | None = None

    def tags(self) -> dict[str, str]:
        """One tag a known field, ``langevin.FIELD``, as MLflow's runs and model versions carry them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {f"langevin.{name}": _text(value) for name, value in values.items() if value is not None}


def git_state(folder: Path) -> tuple[str, bool]:
    """The commit that a folder is at, and whether its repository's files differ from it.

    dvc.lock does not count: the pipeline itself writes it while it runs. Outside a repository, as in a job's copy of the
    project, it is what LANGEVIN_COMMIT says ("COMMIT", or "COMMIT+" where files differ), else ("unknown", False).
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        told = os.environ.get(COMMIT_VARIABLE, _UNKNOWN)
        return told.rstrip("+"), told.endswith("+")
    return commit, bool(_git(folder, "status", "--porcelain", "--", ":(top)", ":(top,exclude)dvc.lock"))


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
