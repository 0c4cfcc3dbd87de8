"""Two small models on their way through the platform, reported to one MLflow: what a team has after a morning."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e.recipes import ELSEWHERE, write_recipe

from langevin.cli import main
from langevin.tracking.runs import Tracker

from .servers import Store

READY = ("prepare", "extractor")  # what reports nothing
MEASURED = ("train", "evaluate", "promote")
IMAGES = 512
FEW = {"train__images": IMAGES, "train__checkpoint_every": IMAGES // 2, "train__validate_every": IMAGES // 2}


@dataclass(frozen=True)
class Way:
    """home: where it was walked; recipe: of the first model; name: of the experiment and of the registered model."""

    home: Path
    recipe: Path
    name: str
    store: Store


def made_ready(home: Path) -> Path:
    """A home with data and extractor, and no store."""
    with pytest.MonkeyPatch.context() as patch:
        surroundings(patch, home, Store("", {}))
        for command in READY:
            assert langevin(command, write_recipe(home / "first.yaml", **FEW)) == 0, command
    return home


def walked(ready: Path, home: Path, store: Store, then: Sequence[str] = ()) -> Way:
    """All commands succeed, one after the other, in this process: two trainings of a recipe, of which the first goes on with
    the commands of ``then``.
    """
    shutil.copytree(ready / "out", home / "out")
    first = write_recipe(home / "first.yaml", **FEW)
    second = write_recipe(home / "second.yaml", **FEW, train__lr=4e-3)
    with pytest.MonkeyPatch.context() as patch:
        surroundings(patch, home, store)
        for recipe, commands in ((first, (*MEASURED, *then)), (second, MEASURED)):
            for command in commands:
                assert langevin(command, recipe) == 0, command
        for run in (
            home / "runs"
        ).iterdir():  # a busy server may have let some points wait: who opens the run delivers them
            with Tracker(store.uri, "small", run.name, run):
                pass
    return Way(home, first, "small", store)


def surroundings(patch: pytest.MonkeyPatch, home: Path, store: Store) -> None:
    """The environment of who works in a home with a store."""
    for name in ELSEWHERE:
        patch.delenv(name, raising=False)
    patch.setenv("LANGEVIN_HOME", str(home))
    for name, value in store.variables.items():
        patch.setenv(name, value)


def langevin(*arguments: str | Path) -> int:
    """A command in this process: every start of Python with its libraries takes seconds."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as left:
        return int(left.code or 0)
    raise AssertionError("it always leaves by SystemExit")
