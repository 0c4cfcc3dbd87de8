"""The repository's own recipe, to be changed by one field, and a manifest of the data that it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from langevin.data.manifest import Manifest

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """written({"train.lr": 1}, remove=["name"]): the digits recipe with these changes, in a file."""

    def write(changes: dict[str, Any], remove: tuple[str, ...] = ()) -> Path:
        values = YAML(typ="safe").load(RECIPES / "ddpm-digits.yaml")
        for field, value in changes.items():
            *sections, name = field.split(".")
            place = values
            for section in sections:
                place = place[section]
            place[name] = value
        for field in remove:
            *sections, name = field.split(".")
            place = values
            for section in sections:
                place = place[section]
            del place[name]
        path = tmp_path / "changed.yaml"
        YAML(typ="safe").dump(values, path)
        return path

    return write


@pytest.fixture
def manifest() -> Manifest:
    """Of the digits, without their shards."""
    classes = tuple(str(digit) for digit in range(10))
    return Manifest(1, "digits", (1, 8, 8), 17, classes, captions=False, splits={})
