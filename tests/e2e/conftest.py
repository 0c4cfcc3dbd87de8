"""Homes with the digits in them, prepared once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .recipes import langevin, write_recipe

Homes = Callable[[str], Path]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """out/data/digits of a home."""
    home = tmp_path_factory.mktemp("d")
    prepared = langevin("prepare", write_recipe(home / "r.yaml"), home=home)
    assert prepared.returncode == 0, prepared.stderr
    return home / "out/data/digits"


@pytest.fixture(scope="session")
def new_home(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """Makes homes with the digits prepared. Short names: a socket's path has 107 characters at most."""

    def made(name: str) -> Path:
        home = tmp_path_factory.mktemp(name)
        shutil.copytree(digits, home / "out/data/digits")
        return home

    return made
