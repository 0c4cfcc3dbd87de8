"""Which version of a data set DVC has: what `dvc.lock` names, where the very files that lie there are of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from langevin.data.manifest import MANIFEST, Manifest


def version_of(manifest: Manifest, root: str | Path) -> str:
    """DVC's digest of the data set at root ("... .dir", 36 characters), by which `git log -S` and `dvc get` find it; the
    manifest's own where DVC has another version or none.
    """
    return _by_dvc(Path(root)) or manifest.digest


def _by_dvc(root: Path) -> str | None:
    from dvc.api import DVCFileSystem  # half a second

    try:
        project = _project(root)
        files = DVCFileSystem(str(project))
        place = root.relative_to(project).as_posix()
        known, whole = (files.info(f"{place}{name}").get("dvc_info", {}) for name in (f"/{MANIFEST}", ""))
        # a manifest holds the sha256 of every shard, so it stands for all
        there = hashlib.md5((root / MANIFEST).read_bytes(), usedforsecurity=False).hexdigest()
    except Exception:  # whatever DVC, its databases and file systems raise: a name for the data stops no work
        return None
    return whole.get("md5") if known.get("md5") == there else None


def _project(root: Path) -> Path:
    """The folder of DVC's project. FileNotFoundError where root is in none."""
    for folder in root.parents:
        if (folder / ".dvc").is_dir():
            return folder
    raise FileNotFoundError(root)
