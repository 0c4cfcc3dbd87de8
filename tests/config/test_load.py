"""From a recipe, or from what a checkpoint says of itself, to a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from langevin.config.load import build, description, load_recipe, restore
from langevin.config.sampling import Bound, Sample
from langevin.data.manifest import Manifest
from langevin.diffusion import parameterizations, weightings
from langevin.diffusion.samplers import DDIM, Ancestral
from langevin.errors import CheckpointError
from langevin.methods.gaussian import GaussianDiffusion
from langevin.protocols import Bounded, Samples, Trainable
from langevin.randomness import Keys
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import MANIFEST, Checkpoint
from langevin.training.ema import EMA
from langevin.training.optimiser import adamw
from langevin.training.state import TrainState

Written = Callable[..., Path]
KEYS, LABELS = Keys.range(1, 0, 4), torch.tensor([0, 4, 9, -1])
SMALL = {"model.network.channels": 8, "sample.steps": 3}


@pytest.fixture
def saved(written: Written, manifest: Manifest, tmp_path: Path) -> tuple[GaussianDiffusion, Checkpoint]:
    """A model whose every weight is random, and its checkpoint."""
    recipe = load_recipe(written(SMALL))
    model = build(recipe, manifest)
    assert isinstance(model, GaussianDiffusion)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    state = TrainState(model, EMA(model, 0.9), adamw(model, 0.0, (0.9, 0.99)), images=8)
    return model, checkpoints.save(tmp_path / "000000000008", state, description(recipe, manifest))


def test_weights_are_drawn_from_the_recipes_seed_alone(written: Written, manifest: Manifest) -> None:
    recipe = load_recipe(written(SMALL))
    before = torch.get_rng_state()
    first = build(recipe, manifest).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = build(recipe, manifest).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = build(load_recipe(written(SMALL | {"seed": 1})), manifest).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_recipe_becomes_its_parts(written: Written, manifest: Manifest) -> None:
    changes = {
        "model.prediction": "data", "model.weighting": "min_snr", "sample.sampler": "ancestral", "sample.guidance": 2.5,
        "model.schedule.steps": 200, "model.condition_dropout": 0.3, "bound.calls": 7, "bound.steps": 30,
    }  # fmt: skip
    model: Any = build(load_recipe(written(SMALL | changes)), manifest)
    assert isinstance(model.denoiser.parameterization, parameterizations.Data)
    assert isinstance(model.objective.weighting, weightings.MinSNR)
    assert isinstance(model.sampling.sampler, Ancestral)
    assert (model.sampling.scale, model.dropped, model.objective.times.steps) == (2.5, 0.3, 200)
    assert (model.bounding.calls, len(model.bounding.grid), model.bounding.levels) == (7, 31, 17)
    assert model.image_shape == (1, 8, 8)
    ddim: Any = build(load_recipe(written(SMALL | {"sample.eta": 0.4})), manifest)
    assert ddim.sampling.sampler == DDIM(0.4)


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "score", "flow"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "scaled_linear", "sigmoid"])
def test_every_combination_is_a_method(written: Written, manifest: Manifest, prediction: str, schedule: str) -> None:
    """It trains, samples and bounds, with finite numbers, before its first step."""
    model = build(
        load_recipe(written(SMALL | {"model.prediction": prediction, "model.schedule.name": schedule})), manifest
    )
    assert isinstance(model, Trainable)
    assert isinstance(model, Samples)
    assert isinstance(model, Bounded)
    assert bool(torch.isfinite(model.sample(KEYS, LABELS)).all())


def test_a_checkpoint_becomes_its_model_again(saved: tuple[GaussianDiffusion, Checkpoint]) -> None:
    model, checkpoint = saved
    again = restore(checkpoint)
    assert not again.training
    assert torch.equal(again.sample(KEYS, LABELS), model.sample(KEYS, LABELS))


def test_sampling_may_be_chosen_anew(saved: tuple[GaussianDiffusion, Checkpoint]) -> None:
    model, checkpoint = saved
    sample = Sample(sampler="ancestral", steps=4, guidance=2.0)
    again = restore(checkpoint, sample)
    assert (len(again.sampling.grid), again.sampling.scale) == (5, 2.0)
    assert not torch.equal(again.sample(KEYS, LABELS), model.sample(KEYS, LABELS))


def test_a_bound_may_be_chosen_anew(saved: tuple[GaussianDiffusion, Checkpoint]) -> None:
    """An evaluation's spec holds the recipe's bound: it must be the one that is taken, not the checkpoint's."""
    again = restore(saved[1], bound=Bound(steps=30, calls=7, last=0.1))
    assert (len(again.bounding.grid), again.bounding.calls) == (31, 7)


def test_a_sampling_that_the_chain_cannot_do_is_named(saved: tuple[GaussianDiffusion, Checkpoint]) -> None:
    with pytest.raises(CheckpointError) as caught:
        restore(saved[1], Sample(steps=1001))
    assert (caught.value.field, caught.value.value) == ("sample.steps", 1001)


def test_a_checkpoint_says_what_it_is_in_plain_json(
    saved: tuple[GaussianDiffusion, Checkpoint], manifest: Manifest
) -> None:
    _, checkpoint = saved
    assert json.loads(json.dumps(checkpoint.model)) == checkpoint.model
    assert checkpoint.model["data"]["digest"] == manifest.digest
    assert checkpoint.model["recipe"] == "ddpm-digits"


def test_a_checkpoint_that_says_another_architecture_is_refused(saved: tuple[GaussianDiffusion, Checkpoint]) -> None:
    """Its manifest was changed, its weights were not."""
    _, checkpoint = saved
    manifest = json.loads((checkpoint.folder / MANIFEST).read_text())
    manifest["model"]["model"]["network"]["channels"] = 16
    (checkpoint.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="is of another architecture") as caught:
        restore(checkpoints.read(checkpoint.folder))
    assert str(checkpoint.folder) in str(caught.value)


@pytest.mark.parametrize(
    ("part", "said"),
    [("model", None), ("model", {}), ("model", 3), ("sample", 3), ("sample", {"sampler": "x"}), ("bound", {"steps": 1}),
     ("data", None), ("data", {}), ("data", {"shape": [1, 8, 8], "classes": []})],
)  # fmt: skip
def test_a_checkpoint_that_does_not_say_what_it_is_is_refused(
    saved: tuple[GaussianDiffusion, Checkpoint], part: str, said: object
) -> None:
    _, checkpoint = saved
    with pytest.raises(CheckpointError, match="does not say what its model is") as caught:
        restore(replace(checkpoint, model={**checkpoint.model, part: said}))
    assert caught.value.file == checkpoint.folder
    assert "\n" not in str(caught.value)
