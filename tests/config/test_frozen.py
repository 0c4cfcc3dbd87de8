"""The codec's perceptual term in recipes: what a file of weights decides, and what is said of one that is none."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from langevin.config import frozen
from langevin.config.load import build, description, load_recipe, restore
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.errors import CheckpointError, ConfigError, UserError
from langevin.networks.perceptual import VGG16
from langevin.protocols import Batch
from langevin.randomness import Keys
from langevin.training import checkpoint as checkpoints
from langevin.training.ema import EMA
from langevin.training.optimiser import adamw
from langevin.training.state import TrainState

from .combinations import sections

Written = Callable[..., Path]
NETWORK = {"channels": 8, "multipliers": [1, 2], "latent_channels": 2}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """VGG16 as torchvision's files have it, the classifier on top cut short."""
    torch.manual_seed(0)
    return {name: value.clone() for name, value in VGG16().state_dict().items()} | {"classifier.0.bias": torch.zeros(3)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Tensor]) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture
def coloured(manifest: Manifest) -> Manifest:
    return replace(manifest, shape=(3, 16, 16), levels=256)


def recipe_of(written: Written, perceptual: Path | str | None, **model: Any) -> Recipe:
    changes = {f"model.{name}": value for name, value in model.items()}
    if perceptual is not None:
        changes["model.perceptual"] = str(perceptual)
    return load_recipe(written(sections("autoencoder", **{"model.network": NETWORK, **changes})))


def batch() -> Batch:
    images = 2 * torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    return Batch(images, None, torch.arange(4), ("a", "b", "c", "d"))


def test_the_term_is_the_recipes(written: Written, coloured: Manifest, file: Path) -> None:
    looks: Any = build(recipe_of(written, file, perceptual_weight=2.5), coloured)
    plain: Any = build(recipe_of(written, None), coloured)
    keys = Keys.range(0, 0, 4)
    found, without = looks.loss(batch(), keys), plain.loss(batch(), keys)
    assert float(found.terms["perceptual"].min()) > 0
    torch.testing.assert_close(found.total, without.total + 2.5 * found.terms["perceptual"])


def test_it_is_in_no_checkpoint_and_needed_by_none(
    written: Written, coloured: Manifest, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    """Trained for a step, saved and restored where the file is gone."""
    gone = tmp_path / "vgg16.pth"
    torch.save(weights, gone)
    recipe, x = recipe_of(written, gone), batch().images
    before = torch.get_rng_state()
    model: Any = build(recipe, coloured)
    assert torch.equal(torch.get_rng_state(), before)
    state = TrainState(model, EMA(model, 0.9), adamw(model, 0.0, (0.9, 0.99)), images=4)
    model.loss(batch(), Keys.range(0, 0, 4)).total.mean().backward()
    state.optimiser.step()
    state.ema.update(model)
    saved = checkpoints.save(tmp_path / "000000000004", state, description(recipe, coloured))
    gone.unlink()
    again = restore(saved)
    names = build(recipe_of(written, None), coloured).state_dict().keys()
    assert checkpoints.average(saved).keys() == again.state_dict().keys() == names
    average: Any = state.ema.model
    assert torch.equal(again.reconstruct(x), average.reconstruct(x))
    assert torch.equal(again.codec.encode(x, None), average.codec.encode(x, None))


def test_a_training_is_known_by_what_it_looked_through(
    written: Written, coloured: Manifest, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "vgg16.pth"
    torch.save(weights, path)
    recipe = recipe_of(written, path)
    first = recipe.training_hash("d")
    assert recipe_of(written, path).training_hash("d") == first
    assert recipe_of(written, None).training_hash("d") != first
    assert recipe_of(written, path, perceptual_weight=0.5).training_hash("d") != first
    torch.save(weights | {"features.0.bias": weights["features.0.bias"] + 1e-3}, path)
    assert recipe.training_hash("d") != first
    torch.save(weights, path)
    assert recipe.training_hash("d") == first
    assert description(recipe, coloured)["training"] == recipe.training_hash(coloured.digest)


def test_both_kinds_of_files_are_the_same_network(weights: dict[str, Tensor], file: Path, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "vgg16.pth")
    one, other = frozen.vgg16(str(file)).state_dict(), frozen.vgg16(str(tmp_path / "vgg16.pth")).state_dict()
    assert one.keys() == other.keys() == {name for name in weights if name.startswith("features.")}
    assert all(torch.equal(one[name], other[name]) and torch.equal(one[name], weights[name]) for name in one)


def refused(recipe: Recipe, manifest: Manifest, kind: type[UserError]) -> str:
    with pytest.raises(kind) as caught:
        build(recipe, manifest)
    assert caught.value.exit_code == 2
    assert caught.value.field == "model.perceptual"
    assert caught.value.mend is not None
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_file_that_is_missing(written: Written, coloured: Manifest, tmp_path: Path) -> None:
    line = refused(recipe_of(written, tmp_path / "none.pth"), coloured, ConfigError)
    place = f"{tmp_path}/none.pth"
    assert line.startswith(f"{place}: model.perceptual = '{place}': there is no such file; give torchvision's vgg16")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_of_other_tensors(
    written: Written, coloured: Manifest, weights: dict[str, Tensor], tmp_path: Path, ending: str
) -> None:
    """Another network, and one with a tensor of another shape, found before any training starts."""
    path = tmp_path / f"w.{ending}"
    save: Callable[..., Any] = torch.save if ending == "pth" else save_file
    save({"features.0.weight": weights["features.0.weight"]}, path)
    assert "features.0.bias is not [64]" in refused(recipe_of(written, path), coloured, CheckpointError)
    save(weights | {"features.28.weight": torch.zeros(3, 3)}, path)
    line = refused(recipe_of(written, path), coloured, CheckpointError)
    assert "model.perceptual = [3, 3]: holds no VGG16: features.28.weight is not [512, 512, 3, 3]" in line


class Attack:
    """What unpickling would run."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> Any:
        return Path.touch, (self.touched,)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"not tensors", pickle.dumps([1, 2], 2), None], ids=["nothing", "text", "numbers", "attack"]
)
def test_a_file_of_anything_else(
    written: Written, coloured: Manifest, tmp_path: Path, ending: str, content: bytes | None
) -> None:
    path, touched = tmp_path / f"w.{ending}", tmp_path / "touched"
    if content is None:
        torch.save({"features.0.weight": Attack(touched)}, path)
    else:
        path.write_bytes(content)
    assert "holds no plain tensors" in refused(recipe_of(written, path), coloured, CheckpointError)
    assert not touched.exists()


def test_images_that_it_cannot_look_at(written: Written, coloured: Manifest, file: Path) -> None:
    recipe = recipe_of(written, file)
    for shape in ((3, 8, 8), (4, 16, 16)):
        assert "images of 16 pixels a side or more" in refused(recipe, replace(coloured, shape=shape), ConfigError)
    grey: Any = build(recipe, replace(coloured, shape=(1, 16, 16)))
    data = replace(batch(), images=batch().images[:, :1])
    assert bool(torch.isfinite(grey.loss(data, Keys.range(0, 0, 4)).terms["perceptual"]).all())


def test_a_weight_of_nothing(written: Written) -> None:
    with pytest.raises(ConfigError, match="perceptual_weight means nothing without perceptual") as caught:
        recipe_of(written, None, perceptual_weight=2.0)
    assert caught.value.exit_code == 2
