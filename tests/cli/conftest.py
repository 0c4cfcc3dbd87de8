"""Homes for the command line, called in this process: what is made once is copied for every test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from e2e.recipes import ELSEWHERE, write_recipe

from langevin.cli import main

Call = Callable[..., "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout, and the lines on stderr."""

    code: int
    out: str
    lines: list[str]

    @property
    def line(self) -> str:
        """The one line on stderr."""
        assert len(self.lines) == 1, self.lines
        return self.lines[0]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.fixture(scope="package", autouse=True)
def _one_cpu() -> Iterator[None]:
    """Small matrices: a second thread only waits."""
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(before)})
    torch.set_num_threads(1)
    yield
    os.sched_setaffinity(0, before)
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the digits, their extractor, two trainings of different networks ("small", "other") and their recipes."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGEVIN_HOME", str(home))
        recipe = write_recipe(home / "small.yaml", train__images=128, train__checkpoint_every=64)
        other = write_recipe(home / "other.yaml", name="other", train__images=64, model__network__channels=12)
        assert run("prepare", recipe) == 0
        assert run("extractor", recipe) == 0
        assert run("train", recipe) == 0
        assert run("train", other) == 0
    return home


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it."""
    monkeypatch.setenv("LANGEVIN_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained home."""
    copy = tmp_path / "h"
    shutil.copytree(trained, copy)
    monkeypatch.setenv("LANGEVIN_HOME", str(copy))
    return copy


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def called(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        code = run(*arguments)
        out, err = capsys.readouterr()
        return Outcome(code, out, err.splitlines())

    return called
