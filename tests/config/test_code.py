"""A training is known by the code that decides its weights, and by no other code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from langevin.config import code

digest = code.code_digest.__wrapped__  # without its memory


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, that the digest is taken of."""
    copy = tmp_path / "langevin"
    shutil.copytree(Path(code.__file__).parents[1], copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "__file__", str(copy / "config" / "code.py"))
    return copy


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("# another line\n")


def test_a_copy_elsewhere_has_the_same_digest(package: Path) -> None:
    here = digest()
    assert here == code.code_digest()
    assert len(here) == 12
    (package / "diffusion" / "__pycache__").mkdir()
    (package / "diffusion" / "__pycache__" / "levels.pyc").write_bytes(b"compiled")
    assert digest() == here


@pytest.mark.parametrize("file", ["diffusion/samplers/ddim.py", "networks/unet.py", "training/loop.py"])
@pytest.mark.parametrize("change", [append, Path.unlink, lambda path: path.rename(path.with_name("renamed.py"))])
def test_code_that_decides_weights_is_in_it(package: Path, file: str, change: Callable[[Path], object]) -> None:
    here = digest()
    change(package / file)
    assert digest() != here


@pytest.mark.parametrize("file", ["cli.py", "reporting/page.py", "tracking/runs.py", "evaluation/suite.py"])
def test_code_beside_the_training_is_not(package: Path, file: str) -> None:
    here = digest()
    append(package / file)
    assert digest() == here


@pytest.mark.parametrize("file", ["randomness.py", "data/order.py", "data/reader.py"])
def test_single_files_that_decide_are_in_it(package: Path, file: str) -> None:
    here = digest()
    append(package / file)
    assert digest() != here
