"""From a recipe's file to a recipe, and from a recipe or a checkpoint to a model. The one place that joins them."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import torch
from pydantic import BaseModel, Tag, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from langevin.config.assembly import assembled
from langevin.config.checks import check, check_sampling
from langevin.config.model import MODEL
from langevin.config.recipe import Recipe
from langevin.config.sampling import Bound, Sample
from langevin.config.trained import fill, latents_of, parts_said
from langevin.data.manifest import Manifest
from langevin.errors import CheckpointError, ConfigError
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe. ConfigError in one line: file, field, value and mend."""
    if not path.is_file():
        raise ConfigError("there is no such recipe", file=path, mend="`langevin recipes` lists those there are")
    try:
        values = YAML(typ="safe").load(path)  # YAML 1.2: 2e-3 is a number
    except YAMLError as error:
        raise ConfigError(f"is no YAML ({error})", file=path) from None
    try:
        recipe = Recipe.model_validate_json(json.dumps(_completed(values)))
    except ValidationError as error:
        raise _config_error(error, path) from None
    except (TypeError, ValueError) as error:  # a date, a set, an alias to itself
        raise ConfigError(
            f"holds what no recipe needs ({error})", file=path, mend="use numbers, texts and lists"
        ) from None
    check(recipe, path)
    return recipe


def _completed(values: Any) -> Any:
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
        "training": recipe.training_hash(read.digest),
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


def _config_error(error: ValidationError, path: Path) -> ConfigError:
    # a misspelt section is also a missing one: its nearest name says more
    first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    location, section = _located(first["loc"])
    if first["type"].startswith("union_tag"):  # the name that chooses a section's fields
        location = (*location, first["ctx"]["discriminator"].strip("'_()"))
        if first["type"] == "union_tag_not_found":
            return ConfigError("field required", file=path, field=".".join(location), mend="add it")
        known = first["ctx"]["expected_tags"].replace("'", "")
        return ConfigError("is not known", file=path, field=".".join(location), value=first["ctx"]["tag"],
                           mend=f"choose from {known}")  # fmt: skip
    field = ".".join(location) or None
    found = first.get("input")
    value = None if isinstance(found, dict) or first["type"] in ("missing", "extra_forbidden") else found
    if first["type"] == "extra_forbidden":
        known = list(section.model_fields) if section else []
        near = _nearest(location[-1], known)
        prefix = "".join(f"{part}." for part in location[:-1])
        mend = f"did you mean {prefix}{near}?" if near else f"the fields here are {', '.join(known)}"
        return ConfigError("is not a field", file=path, field=field, mend=mend)
    message = first["msg"].removeprefix("Value error, ")
    correction = "add it" if first["type"] == "missing" else "correct it"
    return ConfigError(message[:1].lower() + message[1:], file=path, field=field, value=value, mend=correction)


def _nearest(name: str, known: list[str]) -> str | None:
    """The longest field that begins ``name`` (lr of lr_rate), else the one that is spelt most alike."""
    begun = [field for field in known if name.startswith(f"{field}_")]
    return max(begun, key=len, default=None) or next(
        iter(difflib.get_close_matches(name, known, n=1, cutoff=0.4)), None
    )


def _located(location: tuple[str | int, ...]) -> tuple[tuple[str, ...], type[BaseModel] | None]:
    """The fields on the way, without the names that pydantic puts in for a union's choices, and the last one's section."""
    section: type[BaseModel] | None = Recipe
    fields: list[str] = []
    annotation: Any = Recipe
    for part in map(str, location):
        choices = _choices(annotation)
        if len(choices) > 1:
            annotation = next(one for one, tags in choices if part in tags)
            continue
        section = choices[0][0] if choices else annotation if _is_section(annotation) else None
        fields.append(part)
        annotation = section.model_fields[part].annotation if section and part in section.model_fields else None
    return tuple(fields), section


def _choices(annotation: Any) -> list[tuple[type[BaseModel], tuple[Any, ...]]]:
    """The sections of a union, each with the tags by which a recipe chooses it; the one of a section that may be left out."""
    found: list[tuple[type[BaseModel], tuple[Any, ...]]] = []
    for one in get_args(annotation):
        bare, *notes = get_args(one) if get_origin(one) is Annotated else (one,)
        own = tuple(note.tag for note in notes if isinstance(note, Tag))
        found += [(bare, own or _tags(bare))] if _is_section(bare) else _choices(bare)
    return found


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tags(section: type[BaseModel]) -> tuple[Any, ...]:
    """The names by which a recipe chooses this section of several."""
    return tuple(tag for name in ("method", "name", "kind") if name in section.model_fields
                 for tag in get_args(section.model_fields[name].annotation))  # fmt: skip
