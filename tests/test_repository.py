"""The frame of the repository: what lies at its top, what the lock pins, and what no file may name."""

from __future__ import annotations

import configparser
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import langevin

ROOT = Path(__file__).parents[1]
TOP = {
    *("pyproject.toml", "requirements.lock", "Makefile", "dvc.yaml", "dvc.lock"),
    *("platform", "jobs", "pipelines", "infra", "tests"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *(".ci", ".dvc", ".dvcignore", ".gitattributes", ".gitignore", ".pre-commit-config.yaml"),
}
ELSEWHERE = {  # what holds on one machine or for one user only
    "an option that names a package index": r"--(extra-)?index-url|--find-link[s]|^\s*(extra-)?index-url\s*=",
    "the address of a package index": r"https?://[^\s)\"']*/(simple|whl)\b",
    "a home folder": r"(?<![\w.$}*-])/(root|Users/\w+|home/(?!ray\b)\w+)/",  # /home/ray is the home in Ray's images
}


def tracked() -> list[Path]:
    """The files under version control, relative to ROOT; none in a copy without git."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [Path(name) for name in listing.split("\0") if name and (ROOT / name).exists()]


def pins() -> dict[str, str]:
    """Canonical name -> version, of every line of the lock that is no comment."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def declared() -> list[str]:
    """Every requirement that pyproject.toml names: to build, to run and to develop."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    return [*project["build-system"]["requires"], *project["project"]["dependencies"], *(r for e in extras for r in e)]


def test_the_top_level_holds_only_what_the_design_names() -> None:
    assert {path.parts[0] for path in tracked()} <= TOP


@pytest.mark.parametrize("entry", sorted(TOP - {"dvc.lock", ".gitattributes"}))
def test_the_top_level_is_complete(entry: str) -> None:
    assert (ROOT / entry).exists()


@pytest.mark.parametrize("requirement", declared())
def test_the_lock_pins_what_the_project_declares(requirement: str) -> None:
    wanted = Requirement(requirement)
    version = pins().get(canonicalize_name(wanted.name))
    assert version is not None, f"{wanted.name} is not in requirements.lock"
    assert wanted.specifier.contains(version, prereleases=True), f"{wanted} is not met by {version}"


def test_the_lock_is_pins_alone_in_order_and_once() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!]+", line)] == []
    names = [canonicalize_name(line.split("==")[0]) for line in lines]
    assert len(set(names)) == len(names)


def test_no_file_names_a_machine_or_a_package_host() -> None:
    found = []
    for path in tracked():
        text = (ROOT / path).read_bytes().decode(errors="ignore")
        for what, pattern in ELSEWHERE.items():
            if match := re.search(pattern, text, re.MULTILINE):
                found.append(f"{path}: {what}: {match.group().strip()}")
    assert found == []


def test_the_changelog_starts_with_the_version_of_the_package() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == langevin.__version__


def test_dvc_reports_nothing_home_and_stages_nothing() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    assert config["core"] == {"analytics": "false", "autostage": "false"}


def test_make_alone_lists_what_there_is_to_make() -> None:
    command = ["make", "--no-print-directory"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"help", "run", "test", "lint", "ui", "clean"} <= set(re.findall(r"^make (\w+) +\w", listing, re.MULTILINE))


@pytest.mark.parametrize(
    "script", [".ci/run", "infra/setup/environment.sh", "infra/s3/server.sh", "infra/mlflow/server.sh"]
)
def test_scripts_can_be_run_as_they_are(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111 == 0o111
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
