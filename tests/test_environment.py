"""The set-up script: it builds, keeps, updates, repairs and rebuilds .venv, and says what to do where it cannot.

It runs as it is, in a small repository of its own whose lock names stones: wheels of one file, made here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = Path("infra/setup/environment.sh")
PYTHON = Path(sys.base_prefix) / "bin" / "python3"  # not .venv's own
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "quarry"
version = "1.0"
requires-python = ">=3.11"
"""
BACKEND = '''
import zipfile, pathlib

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """A wheel that puts this folder on the import path: what any build backend does, without one to install."""
    name, info = "quarry-1.0-py3-none-any.whl", "quarry-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        wheel.writestr("quarry.pth", str(pathlib.Path.cwd()))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: quarry\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
'''


@dataclass
class Quarry:
    """A repository with the set-up script, and the only place its pip finds packages at."""

    root: Path
    wheels: Path

    @classmethod
    def at(cls, folder: Path) -> Quarry:
        root, wheels = folder / "quarry", folder / "wheels"
        (root / SCRIPT).parent.mkdir(parents=True)
        wheels.mkdir()
        shutil.copy(ROOT / SCRIPT, root / SCRIPT)
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "backend.py").write_text(BACKEND)
        return cls(root, wheels)

    @property
    def python(self) -> Path:
        return self.root / ".venv" / "bin" / "python"

    @property
    def packages(self) -> Path:
        return next(self.root.glob(".venv/lib/python*/site-packages"))

    def lock(self, *pins: str) -> None:
        (self.root / "requirements.lock").write_text("\n".join(pins) + "\n")

    def wheel(self, name: str, version: str, requires: str = "") -> None:
        info = f"{name}-{version}.dist-info"
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        with zipfile.ZipFile(self.wheels / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", f"version = {version!r}\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")

    def start(self, python: Path | str = PYTHON) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "PYTHON": str(python),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        return subprocess.Popen(
            ["bash", str(SCRIPT)],
            cwd=self.root,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def set_up(self, python: Path | str = PYTHON) -> tuple[int, str]:
        """Exit code and stderr."""
        with self.start(python) as process:
            output, errors = process.communicate(timeout=120)
        assert output == ""
        return process.returncode, errors

    def version_of(self, name: str) -> str:
        code = f"import {name}; print({name}.version)"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def quarry(tmp_path_factory: pytest.TempPathFactory) -> Quarry:
    """A quarry whose .venv was built once; the tests change its lock, each to what it needs."""
    quarry = Quarry.at(tmp_path_factory.mktemp("built"))
    quarry.wheel("granite", "1.0")
    quarry.wheel("granite", "2.0")
    quarry.lock("granite==1.0")
    code, said = quarry.set_up()
    assert code == 0, said
    assert "building .venv" in said
    return quarry


def shell(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}")
    path.chmod(0o755)
    return path


def test_a_finished_environment_is_left_alone_in_silence(quarry: Quarry) -> None:
    quarry.set_up()
    started = time.perf_counter()
    assert quarry.set_up() == (0, "")
    assert time.perf_counter() - started < 2


def test_a_changed_lock_is_installed_into_the_same_environment(quarry: Quarry) -> None:
    quarry.lock("granite==1.0")
    quarry.set_up()
    built = quarry.python.lstat().st_ino
    quarry.lock("granite==2.0")
    code, said = quarry.set_up()
    assert code == 0
    assert "bringing .venv up to date" in said
    assert quarry.version_of("granite") == "2.0"
    assert quarry.python.lstat().st_ino == built


def test_what_an_interrupted_installation_left_is_repaired(quarry: Quarry) -> None:
    """As kill -9 leaves it: no stamp, an empty module, a RECORD without INSTALLER, another package put aside."""
    quarry.lock("granite==1.0")
    quarry.set_up()
    (quarry.root / ".venv" / "setup.stamp").unlink()
    (quarry.packages / "granite.py").write_text("")
    (quarry.packages / "granite-1.0.dist-info" / "RECORD").write_text("granite.py,,\n")
    (quarry.packages / "~arble").mkdir()
    assert quarry.set_up()[0] == 0
    assert quarry.version_of("granite") == "1.0"
    assert not (quarry.packages / "~arble").exists()


def test_two_at_once_wait_for_each_other(quarry: Quarry) -> None:
    quarry.lock("granite==1.0", f"# {time.time()}")
    with quarry.start() as first, quarry.start() as second:
        said = sorted(process.communicate(timeout=120)[1] for process in (first, second))
    assert (first.returncode, second.returncode) == (0, 0)
    assert "another make is setting up .venv" in said[0]
    assert "bringing" not in said[0]
    assert "bringing" in said[1]
    assert quarry.version_of("granite") == "1.0"


def test_without_packages_to_fetch_it_names_the_network_and_goes_on_later(quarry: Quarry) -> None:
    quarry.lock("basalt==1.0")
    code, said = quarry.set_up()
    assert code == 1
    assert "No matching distribution found for basalt==1.0" in said
    assert "Is there a network?" in said
    assert quarry.python.exists()
    quarry.wheel("basalt", "1.0")
    assert quarry.set_up()[0] == 0
    assert quarry.version_of("basalt") == "1.0"


def test_a_pin_that_does_not_exist_is_not_blamed_on_the_network(quarry: Quarry) -> None:
    quarry.lock("granite==3.0")
    code, said = quarry.set_up()
    assert code == 1
    assert "No matching distribution found for granite==3.0" in said
    assert "network" not in said


def test_what_a_build_asks_for_beyond_the_lock_is_installed(quarry: Quarry) -> None:
    """As a CUDA build of torch asks for its libraries, which the lock of a CPU build does not hold."""
    quarry.wheel("gneiss", "1.0", requires="mica==1.0")
    quarry.wheel("mica", "1.0")
    quarry.lock("gneiss==1.0")
    assert quarry.set_up()[0] == 0
    assert quarry.version_of("mica") == "1.0"


@pytest.mark.slow
def test_a_moved_environment_is_built_anew(tmp_path: Path) -> None:
    quarry = Quarry.at(tmp_path)
    quarry.lock("# nothing")
    assert quarry.set_up()[0] == 0
    moved = Quarry(quarry.root.rename(tmp_path / "moved"), quarry.wheels)
    code, said = moved.set_up()
    assert code == 0
    assert "building .venv" in said
    shebang = (moved.root / ".venv" / "bin" / "pip").read_text().splitlines()[0]
    assert shebang == f"#!{moved.python.parent}/{Path(shebang).name}"


@pytest.mark.slow
def test_an_environment_whose_python_vanished_is_built_anew(tmp_path: Path) -> None:
    quarry = Quarry.at(tmp_path)
    quarry.lock("# nothing")
    assert quarry.set_up()[0] == 0
    for link in quarry.python.parent.glob("python*"):
        link.unlink()
        link.symlink_to("/nonexistent/python3")
    code, said = quarry.set_up()
    assert code == 0
    assert "building .venv" in said


def test_without_python_it_says_what_to_install(tmp_path: Path) -> None:
    code, said = Quarry.at(tmp_path).set_up("python-that-is-not-here")
    assert code == 1
    assert "there is no python-that-is-not-here here" in said
    assert "apt-get install python3 python3-venv" in said


def test_a_python_too_old_is_named_with_its_version(tmp_path: Path) -> None:
    old = shell(tmp_path / "python3.9", 'case "$2" in *version_info*) exit 1 ;; *) echo 3.9.2 "$0" ;; esac')
    code, said = Quarry.at(tmp_path).set_up(old)
    assert code == 1
    assert "is Python 3.9.2, and 3.11 or newer is needed" in said
    assert "make PYTHON=python3.11" in said


def test_a_python_without_ensurepip_names_the_package(tmp_path: Path) -> None:
    bare = shell(tmp_path / "python3", f'case "$2" in *ensurepip*) exit 1 ;; *) exec {PYTHON} "$@" ;; esac')
    code, said = Quarry.at(tmp_path).set_up(bare)
    assert code == 1
    assert "apt-get install python3-venv" in said
    assert len(said.splitlines()) == 1
