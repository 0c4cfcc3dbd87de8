"""Where things lie: below one home folder, on every machine that works for it."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """LANGEVIN_HOME, else the working directory; in a Ray job's own copy of the project, ~/.langevin.

    A job's working directory is deleted with the job, so nothing that should stay may lie there.
    """
    if named := os.environ.get("LANGEVIN_HOME"):
        return Path(named).expanduser().absolute()
    here = Path.cwd()
    return Path.home() / ".langevin" if "_ray_pkg_" in str(here) else here


def within_home(path: str) -> Path:
    """A recipe's path: absolute, or relative to the home folder."""
    return home() / Path(path).expanduser()


def run_folder(run_name: str) -> Path:
    """Everything that a training leaves: checkpoints, the tracking spool, progress."""
    return home() / "runs" / run_name


def features_folder() -> Path:
    """Features of real images by what they are features of. May be deleted at any time: they are computed again."""
    return home() / "out" / "features"
