"""What earlier trainings left for a model that is made of their models: a codec's weights, a cascade's stages."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from langevin.config import model as sections
from langevin.config.paths import home, within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.errors import CheckpointError, DataError
from langevin.methods.captioned import captioned
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

CODEC = "codec."


def trained(name: str) -> Checkpoint:
    """The checkpoint that the recipe of this name was trained to. DataError where it was not yet."""
    path = home() / "out" / name / "training.json"
    if not path.is_file():
        raise DataError(
            f"the model {name} is not trained yet", file=path, mend="run `langevin train` on its recipe first"
        )
    return checkpoints.read(home() / json.loads(path.read_text())["checkpoint"])


def codec_of(recipe: Recipe) -> Checkpoint:
    """The codec of a latent model. CheckpointError unless it is the one that wrote the latents."""
    assert recipe.latents is not None
    found, written = trained(recipe.latents.codec), latents_of(recipe)
    assert written.latents is not None
    if found.sha256 != written.latents.codec_sha256:
        raise CheckpointError(
            f"is not the codec that wrote the latents at {recipe.latents.root} ({written.latents.codec_sha256[:12]})",
            file=found.folder, field="sha256", value=found.sha256[:12], mend="run `langevin encode RECIPE` again",
        )  # fmt: skip
    return found


def latents_of(recipe: Recipe) -> Manifest:
    """The manifest of a latent model's data set. DataError where none was written, or images lie there."""
    assert recipe.latents is not None
    root = within_home(recipe.latents.root)
    try:
        found = Manifest.load(root)
    except DataError as error:
        raise DataError(error.problem, file=error.file, mend="run `langevin encode RECIPE` first") from error
    if found.latents is None:
        raise DataError("holds images, not latents", file=root, field="latents.root", value=recipe.latents.root,
                        mend="name a folder of its own, and run `langevin encode RECIPE`")  # fmt: skip
    return found


def part_names(recipe: Recipe) -> tuple[str, ...]:
    """The recipes of the models that a cascade is put together of, from the smallest images up; none for any other."""
    model = recipe.model
    return (model.base, *model.stages) if isinstance(model, sections.Cascade) else ()


def parts_of(recipe: Recipe) -> list[Checkpoint]:
    """Their trained models."""
    return [trained(name) for name in part_names(recipe)]


def part_hashes(recipe: Recipe) -> list[str]:
    """sha256 of their weights: with other ones it is another model, which must not take the place of the one before."""
    return [part.sha256 for part in parts_of(recipe)]


def parts_said(recipe: Recipe) -> dict[str, Any]:
    """What the model's description says of its parts: their own, and which weights they had."""
    if isinstance(recipe.model, sections.Cascade):
        return {"parts": [_said(part) for part in parts_of(recipe)]}
    return {"codec": _said(codec_of(recipe))} if recipe.latents else {}


def _said(part: Checkpoint) -> dict[str, Any]:
    return part.model | {"sha256": part.sha256}


def fill(recipe: Recipe, module: nn.Module) -> None:
    """Puts the parts' averaged weights into the model that is made of them."""
    if isinstance(recipe.model, sections.Cascade):
        places = ["base", *(f"stage.{number}" for number in range(len(recipe.model.stages)))]
        for part, place in zip(parts_of(recipe), places, strict=True):
            stage = module.get_submodule(place)
            # in a cascade that reads, the base alone keeps the wrapper that it was trained in
            wrapped = part.model["model"].get("text") and place != "base"
            checkpoints.load_average(part, captioned(stage) if wrapped else stage)
    elif recipe.latents:
        weights = checkpoints.average(codec_of(recipe))
        own = {name.removeprefix(CODEC): value for name, value in weights.items() if name.startswith(CODEC)}
        written = latents_of(recipe).latents
        assert written is not None
        own["scale"] = torch.tensor(
            1 / written.scale
        )  # known since the latents were written, divided by their deviation
        next(part for name, part in module.named_modules() if f"{name}.".endswith(CODEC)).load_state_dict(own)
