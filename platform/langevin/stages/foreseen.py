"""What a recipe's images and the parts of its model will be, told before they are there: by the recipe and those beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langevin.config import model as sections
from langevin.config.load import load_recipe
from langevin.config.paths import within_home
from langevin.config.recipe import Data, Recipe
from langevin.data.sources import Digits, Shapes, SourceInfo
from langevin.errors import ConfigError
from langevin.stages.prepare import check_classes


def source_info(data: Data, path: Path) -> SourceInfo:
    """What the recipe's images will be. ConfigError where nothing says how many classes there are."""
    if data.source == "digits":
        return Digits.info
    size = data.size
    assert size is not None  # the recipe's own check
    if data.source == "shapes":
        largest = Shapes(data.reduced_from or size, 1).info
        return SourceInfo(largest.name, (largest.shape[0], size, size), largest.levels, largest.classes, captions=True)
    return SourceInfo("folder", (data.channels, size, size), 256, tuple(map(str, range(_classes(data, path)))))


def _classes(data: Data, path: Path) -> int:
    """As the folder has them, where it is there, else as the recipe says. DataError where the two differ."""
    assert data.images is not None
    folder = within_home(data.images)
    if folder.is_dir() and (
        found := len([part for part in folder.iterdir() if part.is_dir() and not part.name.startswith(".")])
    ):
        check_classes(data, found)
        return found
    if data.classes is None:
        raise ConfigError(f"is needed where {folder} is not there to be counted", file=path, field="data.classes",
                          mend="give the number of its class folders")  # fmt: skip
    return data.classes


def described(recipe: Recipe, path: Path) -> dict[str, Any]:
    """What a checkpoint of the recipe would say of its model (config/load.py), as far as the model is made from it.

    A discriminator that joins later is counted from the first image.
    """
    info, model = source_info(recipe.data, path), recipe.model.plain()
    if "adversarial_from" in model:
        model["adversarial_from"] = 0
    said: dict[str, Any] = {
        "model": model,
        "sample": recipe.sample.plain(),
        "bound": recipe.bound.plain(),
        "data": {
            "shape": list(info.shape),
            "levels": info.levels,
            "classes": list(info.classes),
            "captions": info.captions,
        },
    }
    if recipe.upsampling:
        said["upsampling"] = recipe.upsampling.plain()
    if recipe.latents:
        there = beside(path, recipe.latents.codec, "latents.codec")
        codec = load_recipe(there)
        if not isinstance(codec.model, sections.Autoencoder):
            raise ConfigError(f"names a recipe of {codec.model.method}, which makes no latents", file=path, field="latents.codec",
                              value=recipe.latents.codec, mend="name one of an autoencoder")  # fmt: skip
        said["codec"] = described(codec, there)
    return said


def beside(path: Path, name: str, field: str) -> Path:
    """The recipe of this name, which lies where the one at path does."""
    there = path.parent / f"{name}.yaml"
    if not there.is_file():
        raise ConfigError("there is no such recipe beside this one", file=path, field=field, value=name,
                          mend=f"lay it at {there}")  # fmt: skip
    return there
