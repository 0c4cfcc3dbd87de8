"""Against DVC itself, in a project of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from langevin.data.manifest import MANIFEST, Manifest
from langevin.data.version import version_of


def run(*command: str, within: Path) -> None:
    told = {"GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1"}
    subprocess.run(command, cwd=within, env=os.environ | told, check=True, capture_output=True)


@pytest.fixture
def tracked(digits: Path, tmp_path: Path) -> Path:
    """A data set that DVC keeps, two folders down in a project."""
    run("git", "init", "--quiet", within=tmp_path)
    run(sys.executable, "-m", "dvc", "init", "--quiet", within=tmp_path)
    root = shutil.copytree(digits, tmp_path / "out/data/digits")
    run(sys.executable, "-m", "dvc", "add", "--quiet", "out/data/digits", within=tmp_path)
    return root


def test_what_dvc_keeps_goes_by_its_digest_there(tracked: Path) -> None:
    manifest = Manifest.load(tracked)
    (known,) = yaml.safe_load((tracked.parent / "digits.dvc").read_text())["outs"]
    assert version_of(manifest, tracked) == known["md5"]
    assert len(known["md5"]) == 36

    # another data set in its place is not what DVC has
    (tracked / MANIFEST).chmod(0o644)
    (tracked / MANIFEST).write_text((tracked / MANIFEST).read_text() + " ")
    assert version_of(manifest, tracked) == manifest.digest


def test_elsewhere_it_goes_by_its_own(tracked: Path, digits: Path) -> None:
    manifest = Manifest.load(digits)
    assert version_of(manifest, digits) == manifest.digest
    beside = shutil.copytree(digits, tracked.with_name("beside"))
    assert version_of(manifest, beside) == manifest.digest
