"""Two small models on their way through the platform, reported to one MLflow: what a team has after a morning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e.recipes import ELSEWHERE, write_recipe

from langevin.cli import main

from .servers import Store

FIRST = ("prepare", "extractor", "train", "evaluate", "promote", "generate", "report")
SECOND = ("train", "evaluate", "promote")  # of the same recipe with another learning rate
IMAGES = 512


@dataclass(frozen=True)
class Way:
    """home: where it was walked; recipe: of the first model; name: of the experiment and of the registered model."""

    home: Path
    recipe: Path
    name: str
    store: Store


def walked(home: Path, store: Store) -> Way:
    """All commands succeed, one after the other, in this process."""
    few = {"train__images": IMAGES, "train__checkpoint_every": IMAGES // 2, "train__validate_every": IMAGES // 2}
    first = write_recipe(home / "first.yaml", **few)
    second = write_recipe(home / "second.yaml", **few, train__lr=4e-3)
    with pytest.MonkeyPatch.context() as patch:
        surroundings(patch, home, store)
        for recipe, commands in ((first, FIRST), (second, SECOND)):
            for command in commands:
                assert langevin(command, recipe) == 0, command
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
