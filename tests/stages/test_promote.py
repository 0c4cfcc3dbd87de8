"""@champion moves only to what is better on the same spec by more than the interval."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from langevin.config.load import build, description
from langevin.config.recipe import Promote, Recipe
from langevin.data.manifest import Manifest
from langevin.errors import ConfigError, RegistryError
from langevin.evaluation.intervals import Figure
from langevin.evaluation.suite import Evaluation
from langevin.stages.outputs import Outputs, read_json, write_json
from langevin.stages.prepare import prepare
from langevin.stages.promote import promote, roll_back
from langevin.tracking.registry import Registry
from langevin.tracking.store import client
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

    def promote(
        self, number: int, ours: Evaluation, beside: tuple[str, Evaluation] | None = None, **margins: float
    ) -> dict[str, Any]:
        """number: names the checkpoint; beside: the champion's address and its evaluation; margins: of paired differences."""
        sha256 = self._checkpoint(number)
        champion: dict[str, Any] | None = None
        if beside:
            apart = {name: Figure(0, -margin, margin, 1250).plain() for name, margin in margins.items()}
            champion = {"model": beside[0], "evaluation": beside[1].to_json(), "differences": apart}
        write_json(self.outputs.evaluation, {"sha256": sha256, "evaluation": ours.to_json(), "champion": champion})
        return promote(self.recipe, self.file)

    def by(self, *better: str, no_worse: tuple[str, ...] = ()) -> Candidates:
        """The same, judged by another rule."""
        rule = {"promote": Promote(better=better, no_worse=no_worse)}
        return Candidates(self.recipe.model_copy(update=rule), self.file, self.home)

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


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which take seconds to make."""
    folder = tmp_path_factory.mktemp("store")
    client(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder


@pytest.fixture
def candidates(recipe: Recipe, recipe_file: Path, home: Path, empty_store: Path) -> Candidates:
    torch.set_num_threads(1)
    shutil.copytree(empty_store, home / "mlflow")
    return Candidates(recipe, recipe_file, home)


def test_the_champion_moves_only_by_more_than_the_interval(candidates: Candidates) -> None:
    before = evaluation(4.0)
    assert candidates.promote(1, before)["alias"] == "champion"
    first = ("models:/small/1", before)

    # 2.58 / 1.96 sqrt(0.1^2 + 0.1^2) = 0.186: better, but not by more than the interval; worse; and better by more
    within = candidates.promote(2, evaluation(3.82), first)
    assert (within["alias"], candidates.champion()) == ("challenger", 1)
    assert within["reason"].startswith("not better than version 1 by more than the interval: fid 3.82 against 4")
    assert candidates.promote(3, evaluation(5.0), first)["alias"] == "challenger"
    assert (candidates.registry.alias("small", "challenger"), candidates.champion()) == (3, 1)
    moved = candidates.promote(4, evaluation(3.8), first)
    assert (moved["model"], moved["alias"], candidates.champion()) == ("models:/small/4", "champion", 4)
    assert moved["reason"].startswith("better than version 1: fid 3.8 against 4")

    found = candidates.registry.resolve("models:/small@champion")
    assert found.tags["langevin.promotion"] == moved["reason"]
    assert found.tags["langevin.checkpoint_sha256"] == moved["sha256"]
    assert found.tags["langevin.run_name"] == "run-4"
    assert found.tags["langevin.images"] == "128"
    assert read_json(candidates.outputs.promotion, "promote") == moved

    # the same checkpoint again is no new version and loses nothing
    again = candidates.promote(4, evaluation(3.8))
    assert again == moved
    assert len(candidates.registry.versions("small")) == 4


def test_a_figure_of_another_spec_or_beside_another_champion_decides_nothing(candidates: Candidates) -> None:
    before = evaluation(4.0)
    candidates.promote(1, before)
    with pytest.raises(ConfigError, match=r"different specs are not compared: seed: 1 against 7"):
        candidates.promote(2, evaluation(1.0, seed=7), ("models:/small/1", before))
    for beside in (None, ("models:/small/2", before)):
        with pytest.raises(ConfigError, match=r"beside another champion.*langevin evaluate"):
            candidates.promote(3, evaluation(1.0), beside)
    assert candidates.champion() == 1
    assert len(candidates.registry.versions("small")) == 1  # nor is anything registered


def test_the_paired_interval_decides_where_both_were_measured_side_by_side(candidates: Candidates) -> None:
    first = ("models:/small/1", evaluation(4.0))
    candidates.promote(1, first[1])
    # two strangers' interval would be 0.186
    within = candidates.promote(2, evaluation(3.95), first, fid=0.06)
    assert within["reason"] == (
        "not better than version 1 by more than the interval: fid 3.95 against 4, 99 % interval of the difference 0.079 "
        "(paired)"
    )
    assert candidates.promote(3, evaluation(3.95), first, fid=0.03)["alias"] == "champion"


def test_a_declared_rule_of_several_figures(candidates: Candidates) -> None:
    first = ("models:/small/1", evaluation(4.0, others={"nll": 2.0, "recall": 0.5}))
    candidates.promote(1, first[1])
    judged = candidates.by("fid", "nll", no_worse=("recall",))
    lost = judged.promote(2, evaluation(3.0, others={"nll": 2.1, "recall": 0.5}), first)
    assert (lost["alias"], candidates.champion()) == ("challenger", 1)
    assert lost["reason"].startswith("not better than version 1 by more than the interval: nll 2.1 against 2, 99 %")
    lost = judged.promote(3, evaluation(3.0, others={"nll": 1.9, "recall": 0.4}), first)
    assert lost["reason"].startswith("worse than version 1 by more than the interval: recall 0.4 against 0.5, 99 %")
    won = judged.promote(4, evaluation(3.0, others={"nll": 1.9, "recall": 0.49}), first)
    assert (won["alias"], candidates.champion()) == ("champion", 4)
    assert won["reason"].startswith(
        "better than version 1: fid 3 against 4, 99 % interval of the difference 0.19; nll 1.9 "
    )
    assert "; no worse: recall 0.49 against 0.5, 99 % interval of the difference 0.019" in won["reason"]


@pytest.mark.parametrize(
    ("better", "no_worse", "line"),
    [
        (("fdi",), (), "promote.better = 'fdi': is no figure of this evaluation; did you mean fid?"),
        ((), ("psnr",), "promote.no_worse = 'psnr': is no figure of this evaluation; choose from fid, nll"),
        (
            ("fid_floor",),
            (),
            "promote.better = 'fid_floor': says nothing of the model that another figure does not; choose from fid, nll",
        ),
    ],
)
def test_a_figure_that_there_is_not_is_named_before_anything_is_registered(
    candidates: Candidates, better: tuple[str, ...], no_worse: tuple[str, ...], line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        candidates.by(*better, no_worse=no_worse).promote(1, evaluation(4.0, others={"nll": 2.0}))
    assert str(caught.value) == f"{candidates.file}: {line}"
    assert candidates.registry.names() == []


def test_what_was_rolled_back_does_not_win_again_by_the_same_spec(candidates: Candidates) -> None:
    first, registry = ("models:/small/1", evaluation(4.0)), candidates.registry
    candidates.promote(1, first[1])
    won = candidates.promote(2, evaluation(3.0), first)
    back = roll_back(candidates.recipe)
    assert back | {"sha256": ""} == {"model": "models:/small/1", "alias": "champion", "sha256": "", "run_id": None,
                                     "reason": "rolled back from version 2"}  # fmt: skip
    lost = registry.resolve("models:/small/2")
    assert (candidates.champion(), lost.aliases) == (1, ("challenger",))
    assert lost.tags["langevin.promotion"] == "rolled back to version 1"
    said = read_json(candidates.outputs.promotion, "promote")
    assert said == won | {"alias": "challenger", "reason": "rolled back to version 1"}

    again = candidates.promote(2, evaluation(3.0), first)  # as `dvc repro` would
    assert (again["alias"], candidates.champion()) == ("challenger", 1)
    assert again["reason"].startswith("was rolled back to version 1 on 20")
    assert again["reason"].endswith("is what it had won by: another one would be new evidence")
    # another model may win, and so may this one by other images
    assert candidates.promote(3, evaluation(3.5), first)["alias"] == "champion"
    roll_back(candidates.recipe)
    assert (
        candidates.promote(2, evaluation(3.0, seed=2), ("models:/small/1", evaluation(4.0, seed=2)))["alias"]
        == "champion"
    )
    roll_back(candidates.recipe)
    with pytest.raises(RegistryError, match=r"models:/small/1': is the first champion"):
        roll_back(candidates.recipe)
    assert candidates.champion() == 1


def test_the_evaluation_of_another_checkpoint_is_refused(candidates: Candidates) -> None:
    candidates.promote(1, evaluation(4.0))
    candidates._checkpoint(2)
    with pytest.raises(ConfigError, match=r"is of another checkpoint than the trained one.*langevin evaluate"):
        promote(candidates.recipe, candidates.file)


def test_the_manifest_is_the_digits(candidates: Candidates) -> None:
    assert candidates.manifest == Manifest.load(candidates.home / "out/data/digits")
