"""The features by which FID and its kin see: a small classifier of the data set's own, or Inception."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from langevin.config.paths import within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.data.quantisation import quantise, to_bytes
from langevin.data.reader import read_split
from langevin.evaluation.crew import ALONE, Crew
from langevin.evaluation.extractors import Extractor, load_extractor, train_extractor
from langevin.evaluation.suite import RealImages
from langevin.stages.outputs import Outputs
from langevin.stages.progress import say


def make_extractor(recipe: Recipe) -> Extractor:
    """Trains the data set's own extractor ("cnn"), or checks that the one named can be had; leaves out/RECIPE/extractor."""
    root, folder = within_home(recipe.data.root), Outputs.of(recipe).extractor
    manifest = Manifest.load(root)
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.evaluate.extractor != "cnn":
        found = extractor_of(recipe)
        (folder / "extractor.json").write_text(
            json.dumps({"name": found.name, "sha256": found.sha256, "dim": found.dim})
        )
        return found
    train, test = real_images(root, "train", manifest), real_images(root, "test", manifest)
    assert train.labels is not None
    assert test.labels is not None
    say(f"extractor: training cnn-{manifest.name}-64 on {len(train.images)} images")
    made = train_extractor(
        train.images, train.labels, test.images, test.labels, len(manifest.classes),
        seed=0, name=f"cnn-{manifest.name}-64", dataset=manifest.digest,
    )  # fmt: skip
    made.save(folder)
    say(f"extractor: {made.name}, test accuracy {made.accuracy:.2%}")
    return made


def ensure_extractor(recipe: Recipe) -> None:
    """Trains the data set's own extractor where the recipe sees by it and there is none yet."""
    if recipe.evaluate.extractor == "cnn" and not Outputs.of(recipe).extractor.is_dir():
        make_extractor(recipe)


def extractor_of(recipe: Recipe, crew: Crew = ALONE) -> Extractor:
    """The recipe's extractor, ready to use. crew: who looks at images by it."""
    section = recipe.evaluate
    if section.extractor == "cnn":
        return load_extractor(Outputs.of(recipe).extractor, crew=crew)
    weights = within_home(section.extractor_weights) if section.extractor_weights else None
    trained = "/" in section.extractor  # another recipe's folder, such as out/RECIPE/extractor
    return load_extractor(within_home(section.extractor) if trained else section.extractor, weights, crew)


def real_images(root: Path, split: str, manifest: Manifest) -> RealImages:
    """A split as bytes: images (N, C, H, W) uint8."""
    batch = read_split(root, split)
    return RealImages(as_bytes(batch.images, manifest.levels), batch.labels)


def as_bytes(images: Tensor, levels: int) -> Tensor:
    """(N, C, H, W) in [-1, 1] -> uint8 on the data's own grey levels, which is what is written, and so what is judged."""
    return to_bytes(quantise(images, levels), levels).to(torch.uint8)
