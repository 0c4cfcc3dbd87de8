"""Points of FID over images seen: each is computed once, and stands in the run of its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from langevin.config.load import load_recipe
from langevin.config.recipe import Recipe
from langevin.errors import ConfigError
from langevin.stages.curve import Curve, prefix
from langevin.stages.progress import Stage
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

from .conftest import SPEC, write_recipe


class Counted:
    """An evaluator of which only the number of its evaluations matters here."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.drawn = recipe, 0

    def model(self, checkpoint: Checkpoint) -> Checkpoint:
        return checkpoint

    def images(self, model: Checkpoint, count: int, stage: Stage, before: int) -> Checkpoint:
        self.drawn += count
        return model

    def fid(self, drawn: Checkpoint) -> float:
        return drawn.images / 3


def made(home: Path, images: int, value: float = 1.0) -> Checkpoint:
    return checkpoints.save_average(home / f"{images:012d}", {"w": torch.full((2,), value)}, images, {})


def test_a_point_is_computed_once_for_each_weights_and_spec(home: Path, recipe: Recipe) -> None:
    curve, counted = Curve.of(recipe, home, SPEC), Counted(recipe)
    evaluator: Any = counted
    first, second = made(home, 512), made(home, 1024)
    with Stage("test", 1) as stage:
        assert [curve.fid(one, evaluator, stage) for one in (first, second, first)] == [512 / 3, 1024 / 3, 512 / 3]
        assert counted.drawn == 2 * recipe.evaluate.curve_images
        assert curve.points() == {512: 512 / 3, 1024: 1024 / 3}
        assert curve.known(made(home, 512, value=2.0)) is None  # other weights at the same images
        other = Curve.of(recipe, home, replace(SPEC, sampling={"sampler": "ddim", "steps": 26}))
        assert other.points() == {}
        other.fid(second, evaluator, stage)
        assert counted.drawn == 3 * recipe.evaluate.curve_images
    assert Curve.of(recipe, home, replace(SPEC, generated_n=5000)) == curve  # of a full evaluation with more images


def test_the_first_spec_has_the_plain_name(home: Path) -> None:
    assert [prefix(home, spec) for spec in ("a", "b", "a")] == ["test", "test-b", "test"]


def test_what_is_put_together_is_not_trained(home: Path) -> None:
    path = write_recipe(
        home / "c.yaml", model={"method": "cascade", "base": "a", "stages": ["b"]}, evaluate__beside=True
    )
    with pytest.raises(ConfigError, match=r"evaluate\.beside = True: is for trainings"):
        load_recipe(path)


def test_a_training_is_the_same_with_evaluations_beside_it(home: Path, recipe: Recipe) -> None:
    asked = load_recipe(write_recipe(home / "asked.yaml", evaluate__beside=True))
    assert asked.evaluate.beside
    assert not recipe.evaluate.beside
    assert asked.run_name("d") == recipe.run_name("d")
