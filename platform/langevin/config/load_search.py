"""A search with the recipe that it is of, read and checked: everything that it may try, before anything runs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from langevin.config.checks import check, check_sampling
from langevin.config.load import completed, load_recipe, parsed
from langevin.config.recipe import Recipe
from langevin.config.sampling import Sample
from langevin.config.search import Budget, Range, Search
from langevin.config.validation import as_json, first_of, nearest, read_yaml, unknown_field, wrong_value
from langevin.errors import ConfigError
from langevin.search import space
from langevin.search.space import Settings

EMA_STD = "ema_std"  # the one sampling knob that is no field of `sample`: which averaged weights are sampled
TRAINED = ("model.", "train.", "upsampling.", "seed")  # where a training's knobs are; of train, not these:
BESIDE = ("images", "workers", "keep", "log_every", "validate_every", "checkpoint_every", "snapshot_every")
# what may change in the middle of a training: it moves neither the state's shape, nor what the network's output means, nor
# the order of the images
CHANGEABLE = (
    "train.lr", "train.decay", "train.decay_images", "train.warmup", "train.betas", "train.weight_decay",
    "train.gradient_clip", "train.ema_decay", "model.weighting", "model.objective", "model.condition_dropout", "model.mean",
    "model.deviation", "model.kl", "upsampling.largest",
)  # fmt: skip
COMBINATIONS = 2000  # so many at most are looked at before anything runs


@dataclass(frozen=True)
class Loaded:
    """A search with the recipe that it is of. values: the recipe's own, as its file has them."""

    search: Search
    path: Path
    base: Recipe
    values: Mapping[str, Any]

    def recipe(self, knobs: Settings) -> Recipe:
        """The recipe with these settings. ConfigError that names this file where they do not go together."""
        recipe = parsed(self.changed(knobs), self.path)
        check(recipe, self.path)
        return recipe

    def changed(self, knobs: Settings) -> dict[str, Any]:
        """The recipe's values with these settings, as a file would hold them."""
        values: dict[str, Any] = json.loads(json.dumps(self.values))
        self._set(values, knobs)
        return values

    def text(self, knobs: Settings, sampling: Settings) -> str:
        """The recipe's file with these settings, its comments included."""
        yaml, written = YAML(), io.StringIO()
        yaml.width = 120
        values = yaml.load(self.path.parent / self.search.recipe)
        fields = {f"sample.{name}": value for name, value in sampling.items() if name != EMA_STD}
        self._set(values, knobs | fields)
        yaml.dump(values, written)
        return f"# The best that the search {self.search.name} found.\n{written.getvalue()}"

    def _set(self, values: Any, knobs: Settings) -> None:
        for name, value in knobs.items():
            *way, last = name.split(".")
            section = values
            for part in way:
                section = section.setdefault(part, {})
                if not isinstance(section, dict):
                    raise ConfigError("is not a field of the recipe", file=self.path, field=name,
                                      mend=f"{part} is no section")  # fmt: skip
            section[last] = value

    def samples(self, recipe: Recipe) -> Iterator[tuple[Settings, Sample, float | None]]:
        """Every sampling setting, as its knobs, its section, and the length of the averaged weights."""
        for knobs in space.grid({name: space.Choices(tuple(values)) for name, values in self.search.sampling.items()}):
            fields = {name: value for name, value in knobs.items() if name != EMA_STD}
            yield knobs, self._sample(recipe, fields), knobs.get(EMA_STD)

    def _sample(self, recipe: Recipe, fields: Settings) -> Sample:
        try:
            sample = Sample.model_validate_json(json.dumps(recipe.sample.plain() | fields))
        except ValidationError as error:
            first = error.errors()[0]
            name = next((str(part) for part in first["loc"] if part in fields), None)
            field, value = (f"sampling.{name}", fields[name]) if name else ("sampling", None)
            raise wrong_value(dict(first), self.path, field, value) from None
        check_sampling(recipe.model, sample, recipe.bound, self.path, latent=recipe.latents is not None)
        return sample


def load_search(path: Path) -> Loaded:
    """Reads and checks a search and everything that it may try, as far as that is known before. ConfigError in one line."""
    if not path.is_file():
        raise ConfigError("there is no such search", file=path, mend="`ls pipelines/searches` lists those there are")
    search = _search(path)
    base = path.parent / search.recipe
    if not base.is_file():
        raise ConfigError("there is no such recipe", file=path, field="recipe", value=search.recipe,
                          mend="give its place, relative to this file's folder")  # fmt: skip
    loaded = Loaded(search, path, load_recipe(base), completed(read_yaml(base)))
    _check_rungs(loaded)
    _check_training(loaded)
    _check_population(loaded)
    _check_sampling(loaded)
    return loaded


def is_search(path: Path) -> bool:
    """Whether a file is a search, which names a recipe, and no recipe itself. False of what is no file or no YAML: whoever
    loads it says so.
    """
    try:
        values = read_yaml(path) if path.is_file() else None
    except ConfigError:
        return False
    return isinstance(values, dict) and "recipe" in values and "model" not in values


def _search(path: Path) -> Search:
    try:
        return Search.model_validate_json(as_json(read_yaml(path), path))
    except ValidationError as error:
        raise _refused(error, path) from None


def _refused(error: ValidationError, path: Path) -> ConfigError:
    first = first_of(error)
    location = [str(part) for part in first["loc"] if part not in ("choices", "range")]
    field = ".".join(location) or None
    if first["type"] == "extra_forbidden":
        section = Budget if location[0] == "budget" else Range if len(location) > 1 else Search
        return unknown_field(path, location, list(section.model_fields))
    if location[:1] in (["training"], ["sampling"]) and first["type"] == "list_type":
        mend = "give a list of values" + (", or {low: ..., high: ...}" if location[0] == "training" else "")
        return ConfigError("is no set of values", file=path, field=field, value=first.get("input"), mend=mend)
    found = first.get("input")
    return wrong_value(first, path, field, None if isinstance(found, dict) else found)


def _check_rungs(loaded: Loaded) -> None:
    search, images = loaded.search, loaded.base.train.images
    for rung in search.rungs:
        if rung >= images:
            raise ConfigError(f"is no less than the {images} images of a whole training, which is the last rung by itself",
                              file=loaded.path, field="rungs", value=rung, mend="lower it")  # fmt: skip


def _check_training(loaded: Loaded) -> None:
    """Each knob with each of its values or ends alone, which names the culprit; then what is tried together."""
    search, path = loaded.search, loaded.path
    for name, knob in search.knobs.items():
        field = f"training.{name}"
        if not name.startswith(TRAINED) or name in {f"train.{one}" for one in BESIDE}:
            mend = "move it to the section sampling" if name.startswith("sample.") else "take fields of model or train"
            raise ConfigError("moves no trained weights", file=path, field=field, mend=mend)
        if isinstance(knob, space.Range) and search.algorithm == "grid":
            raise ConfigError("is a range, and a grid needs values", file=path, field=field,
                              mend="give a list, or take the algorithm random or optuna")  # fmt: skip
        for value in knob.ends:
            try:
                parsed(loaded.changed({name: value}), path)
            except ConfigError as error:
                blame = "training." + (error.field or name)
                shown = error.value if error.value is not None or blame != field else value
                raise ConfigError(error.problem, file=path, field=blame, value=shown, mend=error.mend) from None
    together = _together(search)
    if len(together) > COMBINATIONS and search.algorithm == "grid":
        raise ConfigError(f"are {len(together):,} combinations", file=path, field="training",
                          mend="take the algorithm random or optuna")  # fmt: skip
    for settings in together[:COMBINATIONS]:
        loaded.recipe(settings)


def _together(search: Search) -> list[Settings]:
    """The settings of the trainings; those of all ends together where they are not all known before."""
    known = None if search.scheduler == "population" else search.settings
    return known or space.grid(search.knobs)


def _check_population(loaded: Loaded) -> None:
    search, path = loaded.search, loaded.path
    if search.scheduler != "population":
        return
    for name in search.training:
        if name not in CHANGEABLE:
            raise ConfigError("cannot change in the middle of a training, and a population changes it there", file=path,
                              field=f"training.{name}", mend=f"take some of {', '.join(CHANGEABLE)}")  # fmt: skip
    if len(search.settings or []) < 2:
        raise ConfigError("is a population of one, who has nobody to copy", file=path,
                          field="training" if search.trials is None else "trials", value=search.trials,
                          mend="take more")  # fmt: skip


def _check_sampling(loaded: Loaded) -> None:
    search, path = loaded.search, loaded.path
    for name, values in search.sampling.items():
        if name not in (*Sample.model_fields, EMA_STD):
            near = nearest(name, list(Sample.model_fields))
            mend = f"did you mean {near}?" if near else f"choose from {', '.join(Sample.model_fields)}"
            raise ConfigError("is no setting of the sampling", file=path, field=f"sampling.{name}", mend=mend)
        if name != EMA_STD:
            continue
        for value in values:
            if not isinstance(value, float) or not 0 < value < 0.29 or not math.isfinite(value):
                raise ConfigError("is no length of a power-function average", file=path, field="sampling.ema_std",
                                  value=value, mend="take one between 0 and 0.29")  # fmt: skip
        if not loaded.base.train.ema_stds:
            raise ConfigError("needs snapshots, which the recipe does not keep", file=path, field="sampling.ema_std",
                              mend="set train.ema_stds in the recipe")  # fmt: skip
    for settings in _together(search)[:COMBINATIONS]:
        for _ in loaded.samples(loaded.recipe(settings)):
            pass
