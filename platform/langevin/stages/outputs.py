"""What the stages leave for each other: small files below out/RECIPE/, which is what DVC looks at."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langevin.config.paths import home
from langevin.config.recipe import Recipe
from langevin.errors import DataError


@dataclass(frozen=True)
class Outputs:
    """The places of one recipe's results."""

    folder: Path

    @classmethod
    def of(cls, recipe: Recipe) -> Outputs:
        return cls.named(recipe.name)

    @classmethod
    def named(cls, name: str) -> Outputs:
        """Of the recipe of this name."""
        return cls(home() / "out" / name)

    @property
    def extractor(self) -> Path:
        return self.folder / "extractor"

    @property
    def training(self) -> Path:
        return self.folder / "training.json"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def fid_curve(self) -> Path:
        return self.folder / "fid.csv"

    def sweep(self, field: str) -> Path:
        return self.folder / "sweeps" / f"{field}.json"

    @property
    def sweeps(self) -> list[Path]:
        """Those that were made, by the name of the field."""
        return sorted((self.folder / "sweeps").glob("*.json"))

    @property
    def promotion(self) -> Path:
        return self.folder / "promotion.json"

    @property
    def generated(self) -> Path:
        return self.folder / "generated"

    @property
    def report(self) -> Path:
        return self.folder / "report"


def write_json(path: Path, values: dict[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """DataError where the stage that makes the file has not run."""
    if not path.is_file():
        raise DataError("is missing", file=path, mend=f"run `langevin {made_by} RECIPE` first")
    values: dict[str, Any] = json.loads(path.read_text())
    return values
