"""@champion moves only to what is better on the same spec by more than the interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from langevin.config.load import build, description
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.errors import ConfigError
from langevin.evaluation.suite import Evaluation
from langevin.stages.outputs import Outputs, read_json, write_json
from langevin.stages.prepare import prepare
from langevin.stages.promote import promote
from langevin.tracking.registry import Registry
from langevin.training import checkpoint as checkpoints
from langevin.training.ema import EMA
from langevin.training.optimiser import adamw
from langevin.training.state import TrainState

from .conftest import evaluation


class Candidates:
    """Trainings that are done and evaluated, as far as `promote` can see."""

    def __init__(self, recipe: Recipe, file: Path, home: Path) -> None:
        self.recipe, self.file, self.home = recipe, file, home
        self.outputs, self.manifest = Outputs.of(recipe), prepare(recipe)
        self.registry = Registry(f"sqlite:///{home}/mlflow/mlflow.db")

    def promote(self, number: int, ours: Evaluation, beside: tuple[str, Evaluation] | None = None) -> dict[str, Any]:
        """number: names the checkpoint; beside: the champion's address and its evaluation."""
        sha256 = self._checkpoint(number)
        champion = beside and {"model": beside[0], "evaluation": beside[1].to_json()}
        write_json(self.outputs.evaluation, {"sha256": sha256, "evaluation": ours.to_json(), "champion": champion})
        return promote(self.recipe, self.file)

    def champion(self) -> int | None:
        return self.registry.alias(self.recipe.name, "champion")

    def _checkpoint(self, number: int) -> str:
        model = build(self.recipe.model_copy(update={"seed": number}), self.manifest)
        state = TrainState(model, EMA(model, 0.9), adamw(model, 0.0, (0.9, 0.99)), images=32 * number)
        folder = self.home / f"runs/run-{number}/checkpoints/{32 * number:012d}"
        saved = checkpoints.save(folder, state, description(self.recipe, self.manifest))
        write_json(
            self.outputs.training,
            {
                "run": f"run-{number}",
                "checkpoint": str(folder.relative_to(self.home)),
                "sha256": saved.sha256,
                "images": saved.images,
                "dataset_digest": self.manifest.digest,
                "recipe_hash": self.recipe.training_hash(self.manifest.digest),
            },
        )
        return saved.sha256


@pytest.fixture
def candidates(recipe: Recipe, recipe_file: Path, home: Path) -> Candidates:
    torch.set_num_threads(1)
    return Candidates(recipe, recipe_file, home)


def test_the_champion_moves_only_by_more_than_the_interval(candidates: Candidates) -> None:
    before = evaluation(4.0)
    assert candidates.promote(1, before)["alias"] == "champion"
    first = ("models:/small/1", before)

    # sqrt(0.1^2 + 0.1^2) = 0.141: better, but not by more than the interval; worse; and better by more
    within = candidates.promote(2, evaluation(3.87), first)
    assert (within["alias"], candidates.champion()) == ("challenger", 1)
    assert within["reason"].startswith("not better than version 1 by more than the interval: fid 3.87 against 4")
    assert candidates.promote(3, evaluation(5.0), first)["alias"] == "challenger"
    assert (candidates.registry.alias("small", "challenger"), candidates.champion()) == (3, 1)
    moved = candidates.promote(4, evaluation(3.85), first)
    assert (moved["model"], moved["alias"], candidates.champion()) == ("models:/small/4", "champion", 4)
    assert moved["reason"].startswith("better than version 1: fid 3.85 against 4")

    found = candidates.registry.resolve("models:/small@champion")
    assert found.tags["langevin.promotion"] == moved["reason"]
    assert found.tags["langevin.checkpoint_sha256"] == moved["sha256"]
    assert found.tags["langevin.run_name"] == "run-4"
    assert found.tags["langevin.images"] == "128"
    assert read_json(candidates.outputs.promotion, "promote") == moved

    # the same checkpoint again is no new version and loses nothing
    again = candidates.promote(4, evaluation(3.85))
    assert (again["model"], again["alias"]) == ("models:/small/4", "champion")
    assert len(candidates.registry.versions("small")) == 4


def test_a_figure_of_another_spec_or_beside_another_champion_decides_nothing(candidates: Candidates) -> None:
    before = evaluation(4.0)
    candidates.promote(1, before)
    with pytest.raises(ConfigError, match=r"different specs are not compared.*seed"):
        candidates.promote(2, evaluation(1.0, seed=7), ("models:/small/1", before))
    for beside in (None, ("models:/small/2", before)):
        with pytest.raises(ConfigError, match=r"beside another champion.*langevin evaluate"):
            candidates.promote(3, evaluation(1.0), beside)
    assert candidates.champion() == 1


def test_the_evaluation_of_another_checkpoint_is_refused(candidates: Candidates) -> None:
    candidates.promote(1, evaluation(4.0))
    candidates._checkpoint(2)
    with pytest.raises(ConfigError, match=r"is of another checkpoint than the trained one.*langevin evaluate"):
        promote(candidates.recipe, candidates.file)


def test_the_manifest_is_the_digits(candidates: Candidates) -> None:
    assert candidates.manifest == Manifest.load(candidates.home / "out/data/digits")
