"""The search: one YAML file that says which settings of a recipe are tried, and what for. Frozen and strict."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from langevin.config.checks import check, check_sampling
from langevin.config.load import _completed, _config_error, _nearest, load_recipe
from langevin.config.recipe import Recipe
from langevin.config.sampling import Sample
from langevin.config.section import Count, Positive, Section
from langevin.errors import ConfigError
from langevin.search import space
from langevin.search.space import Settings

EMA_STD = "ema_std"  # the one sampling knob that is no field of `sample`: which averaged weights are sampled
TRAINED = ("model.", "train.", "upsampling.", "seed")  # where a training's knobs are; of train, not these:
BESIDE = ("images", "workers", "keep", "log_every", "validate_every", "checkpoint_every", "snapshot_every")
COMBINATIONS = 2000  # so many at most are looked at before anything runs


class Range(Section):
    """Numbers from low to high, whole ones where both are; log: equally likely in each octave."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("a range with log must begin above 0")
        return self


Choices = Annotated[list[Any], Field(min_length=1)]
Knob = Annotated[
    Annotated[Choices, Tag("choices")] | Annotated[Range, Tag("range")],
    Discriminator(lambda given: "range" if isinstance(given, dict | Range) else "choices"),
]


class Budget(Section):
    """images: over all trainings; minutes: of the whole search, after which nothing more is begun. None: without end."""

    images: Count | None = None
    minutes: Positive | None = None


class Search(Section):
    """A search. recipe: the file whose settings are varied, relative to this one; its train.images are a whole training's.

    training: knobs that need a training each, by their dotted names; sampling: fields of the recipe's ``sample``, and
    ema_std, tried on finished trainings. algorithm: every combination of the training's knobs, or ``trials`` of them, drawn
    or chosen by Optuna. scheduler: which trainings go on at a rung, an image count: the best 1 / reduction of those that
    are there (asha: each trial when it arrives; halving: when all have arrived, so that the same go on whatever
    happens). objectives: less of each is better; the first decides. concurrent: trainings at a time; workers: of each,
    None for the recipe's.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    recipe: str
    seed: Annotated[int, Field(ge=0)] = 0
    training: dict[str, Knob] = Field({})
    sampling: dict[str, Choices] = Field({})
    algorithm: Literal["grid", "random", "optuna"] = "grid"
    trials: Count | None = None
    scheduler: Literal["asha", "halving", "none"] = "none"
    reduction: Annotated[int, Field(ge=2)] = 3
    rungs: tuple[Count, ...] = ()
    objectives: Annotated[tuple[Literal["fid", "nll", "network_calls"], ...], Field(min_length=1)] = ("fid",)
    budget: Budget = Budget()
    concurrent: Count = 1
    workers: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Search:
        if not self.training and not self.sampling:
            raise ValueError("training and sampling name no knobs: there is nothing to search")
        if (self.algorithm == "grid") != (self.trials is None):
            raise ValueError("trials (how many) is for the algorithms random and optuna, and they need it")
        if (self.scheduler == "none") != (not self.rungs):
            raise ValueError("rungs (images at which trials are compared) is for schedulers, and they need it")
        if self.algorithm == "optuna" and self.scheduler == "halving":
            raise ValueError(
                "scheduler halving compares trials that are all known, and optuna thinks of them one by one"
            )
        if self.sampling and "fid" not in self.objectives:
            raise ValueError("sampling moves the FID alone: add it to the objectives")
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError("rungs must rise")
        if len(set(self.objectives)) < len(self.objectives) or self.objectives[0] == "network_calls":
            raise ValueError("objectives must differ, and the first, which decides what trains on, be fid or nll")
        return self

    @property
    def knobs(self) -> dict[str, space.Choices | space.Range]:
        """Those of the training."""
        return {
            name: space.Range(knob.low, knob.high, knob.log) if isinstance(knob, Range) else space.Choices(tuple(knob))
            for name, knob in self.training.items()
        }

    @property
    def settings(self) -> list[Settings] | None:
        """Of every training that will be tried, in their order; None where that is not known before."""
        if self.algorithm == "optuna":
            return None
        return space.grid(self.knobs) if self.trials is None else space.draws(self.knobs, self.seed, self.trials)


@dataclass(frozen=True)
class Loaded:
    """A search with the recipe that it is of. values: the recipe's own, as its file has them."""

    search: Search
    path: Path
    base: Recipe
    values: Mapping[str, Any]

    def recipe(self, knobs: Settings) -> Recipe:
        """The recipe with these settings. ConfigError that names this file where they do not go together."""
        return _recipe(self.changed(knobs), self.path)

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
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(message[:1].lower() + message[1:], file=self.path, mend="correct it",
                              field=f"sampling.{name}" if name else "sampling",
                              value=fields[name] if name else None) from None  # fmt: skip
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
    loaded = Loaded(search, path, load_recipe(base), _completed(YAML(typ="safe").load(base)))
    _check_rungs(loaded)
    _check_training(loaded)
    _check_sampling(loaded)
    return loaded


def _search(path: Path) -> Search:
    try:
        values = YAML(typ="safe").load(path)
        return Search.model_validate_json(json.dumps(values))
    except YAMLError as error:
        raise ConfigError(f"is no YAML ({error})", file=path) from None
    except ValidationError as error:
        raise _refused(error, path) from None
    except (TypeError, ValueError) as error:  # a date, a set
        raise ConfigError(f"holds what no search needs ({error})", file=path, mend="use numbers and texts") from None


def _refused(error: ValidationError, path: Path) -> ConfigError:
    first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"] if part not in ("choices", "range")]
    field = ".".join(location) or None
    if first["type"] == "extra_forbidden":
        known = list((Budget if location[0] == "budget" else Range if len(location) > 1 else Search).model_fields)
        near = _nearest(location[-1], known)
        return ConfigError("is not a field", file=path, field=field,
                           mend=f"did you mean {near}?" if near else f"the fields here are {', '.join(known)}")  # fmt: skip
    if location[:1] in (["training"], ["sampling"]) and first["type"] == "list_type":
        mend = "give a list of values" + (", or {low: ..., high: ...}" if location[0] == "training" else "")
        return ConfigError("is no set of values", file=path, field=field, value=first.get("input"), mend=mend)
    message = first["msg"].removeprefix("Value error, ")
    value = None if isinstance(first.get("input"), dict) else first.get("input")
    return ConfigError(message[:1].lower() + message[1:], file=path, field=field, value=value,
                       mend="add it" if first["type"] == "missing" else "correct it")  # fmt: skip


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
                _parsed(loaded.changed({name: value}), path)
            except ConfigError as error:
                blame = "training." + (error.field or name)
                shown = error.value if error.value is not None or blame != field else value
                raise ConfigError(error.problem, file=path, field=blame, value=shown, mend=error.mend) from None
    together = search.settings or space.grid(search.knobs)
    if len(together) > COMBINATIONS and search.algorithm != "optuna":
        raise ConfigError(f"are {len(together):,} combinations", file=path, field="training",
                          mend="take the algorithm random or optuna")  # fmt: skip
    for settings in together[:COMBINATIONS]:
        loaded.recipe(settings)


def _check_sampling(loaded: Loaded) -> None:
    search, path = loaded.search, loaded.path
    for name, values in search.sampling.items():
        if name not in (*Sample.model_fields, EMA_STD):
            near = _nearest(name, list(Sample.model_fields))
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
    for settings in (search.settings or space.grid(search.knobs))[:COMBINATIONS]:
        for _ in loaded.samples(loaded.recipe(settings)):
            pass


def _recipe(values: Mapping[str, Any], path: Path) -> Recipe:
    recipe = _parsed(values, path)
    check(recipe, path)
    return recipe


def _parsed(values: Mapping[str, Any], path: Path) -> Recipe:
    try:
        return Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise _config_error(error, path) from None
