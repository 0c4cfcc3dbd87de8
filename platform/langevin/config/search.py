"""The search: one YAML file that says which settings of a recipe are tried, and what for. Frozen and strict."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from langevin.config.section import Count, Positive, Section
from langevin.search import space
from langevin.search.space import Settings


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
    happens); or all, the worst 1 / reduction from the states of the best, with knobs a little changed (population).
    objectives: less of each is better; the first decides. concurrent: trainings at a time; workers: of each, None for the
    recipe's.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    recipe: str
    seed: Annotated[int, Field(ge=0)] = 0
    training: dict[str, Knob] = Field({})
    sampling: dict[str, Choices] = Field({})
    algorithm: Literal["grid", "random", "optuna"] = "grid"
    trials: Count | None = None
    scheduler: Literal["asha", "halving", "population", "none"] = "none"
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
        if self.algorithm == "optuna" and self.scheduler in ("halving", "population"):
            raise ValueError(
                f"scheduler {self.scheduler} compares trials that are all known, and optuna thinks of them one by one"
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
