"""From a recipe's file to a recipe, and from a recipe or a checkpoint to a model. The one place that joins them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from langevin.config.assembly import assembled
from langevin.config.checks import check, check_sampling
from langevin.config.model import MODEL
from langevin.config.recipe import Recipe
from langevin.config.sampling import Bound, Sample
from langevin.config.trained import fill, latents_of, part_hashes, parts_said
from langevin.config.validation import as_json, read_yaml, refused
from langevin.data.manifest import Manifest
from langevin.errors import CheckpointError, ConfigError
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe. ConfigError in one line: file, field, value and mend."""
    if not path.is_file():
        raise ConfigError("there is no such recipe", file=path, mend="`langevin recipes` lists those there are")
    recipe = parsed(completed(read_yaml(path)), path)
    check(recipe, path)
    return recipe


def parsed(values: Any, path: Path) -> Recipe:
    """A file's values as a recipe whose fields are right each for itself. ConfigError in one line."""
    try:
        return Recipe.model_validate_json(as_json(values, path))
    except ValidationError as error:
        raise refused(error, path) from None


def completed(values: Any) -> Any:
    """A cascade is put together and not trained: its recipe has no section of it to give."""
    model = values.get("model") if isinstance(values, dict) else None
    if isinstance(model, dict) and model.get("method") == "cascade" and "train" not in values:
        return values | {"train": {"images": 1, "workers": 0}}
    return values


def build(recipe: Recipe, manifest: Manifest) -> torch.nn.Module:
    """The recipe's model with fresh weights, drawn from the recipe's seed without touching the global generator.

    manifest: of its images. Parts that were trained before, a latent model's codec or a cascade's models, have their weights.
    """
    said = description(recipe, manifest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        module = assembled(said)
    fill(recipe, module)
    if looks := getattr(module, "perceptual", None):
        looks.load()  # a file of other weights is found here
    return module


def description(recipe: Recipe, manifest: Manifest) -> dict[str, Any]:
    """What a checkpoint says of itself: enough to build its model again, as plain JSON. manifest: of its images."""
    data = {"name": manifest.name, "digest": manifest.digest, "shape": list(manifest.shape), "levels": manifest.levels}
    captions = {"captions": True} if manifest.captions else {}
    read = latents_of(recipe) if recipe.latents else manifest
    upsampling = {"upsampling": recipe.upsampling.plain()} if recipe.upsampling else {}
    return {
        "recipe": recipe.name,
        "training": recipe.training_hash(read.digest, part_hashes(recipe)),
        "model": recipe.model.plain(),
        "sample": recipe.sample.plain(),
        "data": data | {"classes": list(manifest.classes)} | captions,
        "bound": recipe.bound.plain(),
        **upsampling,
        **parts_said(recipe),
    }


def restore(checkpoint: Checkpoint, sample: Sample | None = None, bound: Bound | None = None) -> Any:
    """The checkpoint's model with its averaged weights; ``sample`` and ``bound`` override its own."""
    try:
        said = checkpoint.model
        model = MODEL.validate_json(json.dumps(said["model"]))
        sample = sample or Sample.model_validate_json(json.dumps(said["sample"]))
        bound = bound or Bound.model_validate_json(json.dumps(said["bound"]))
        check_sampling(model, sample, bound, None, latent="codec" in said)
        module = assembled(said, sample, bound)
    except (KeyError, TypeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"does not say what its model is ({first})", file=checkpoint.folder) from None
    except ConfigError as error:
        raise CheckpointError(
            f"cannot sample so: {error.problem}", file=checkpoint.folder, field=error.field, value=error.value, mend=error.mend
        ) from None  # fmt: skip
    checkpoints.load_average(checkpoint, module)
    return module.eval()
