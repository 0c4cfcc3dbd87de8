"""A trained model as another library's folder, and the mistakes on the way there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from e2e.recipes import write_recipe
from interop.peer import DDIMPipeline

from langevin.config.load import restore
from langevin.diffusion.denoiser import Clamped
from langevin.diffusion.samplers import DDIM, walk
from langevin.randomness import Keys, Noise
from langevin.tracking.registry import CHECKPOINT_TAG, Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints

from .conftest import Call


def test_diffusers_draws_the_images_of_the_trained_model(call: Call, home: Path) -> None:
    out = home / "exported"
    found = call("export", home / "small.yaml", "--format", "diffusers", "--out", out, "--class", "7", "--json")
    assert found.code == 0, found.lines
    said = json.loads(found.out)
    assert (said["folder"], said["format"], said["class"]) == (str(out), "diffusers", "7")
    denoiser = restore(checkpoints.read(Path(said["checkpoint"]))).denoiser
    start = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    grid = torch.linspace(1, 0, 11, dtype=torch.float64)
    with torch.no_grad():
        labels = torch.full((4,), 7)
        *_, expected = walk(Clamped(denoiser), DDIM(), start, grid, labels, Noise(Keys.range(0, 0, 4)))
    pipeline = DDIMPipeline.from_pretrained(out)
    generator = torch.Generator().manual_seed(3)
    options = {"num_inference_steps": 10, "use_clipped_model_output": True, "output_type": "np"}
    images = torch.from_numpy(pipeline(4, generator, **options).images).permute(0, 3, 1, 2)
    assert float((2 * images - 1 - expected.clamp(-1, 1)).abs().max()) < 1e-4


def test_without_a_class_it_is_the_unconditional_model(call: Call, home: Path) -> None:
    weights = []
    for name, more in (("none", []), ("seven", ["--class", "7"])):
        assert call("export", home / "small.yaml", "--format", "diffusers", "--out", home / name, *more).code == 0
        weights.append((home / name / "unet/diffusion_pytorch_model.safetensors").read_bytes())
    assert weights[0] != weights[1]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--format", "onnx"], ["--format = 'onnx': is no format", "take diffusers"]),
        (["--format", "diffusers", "--class", "12"], ["--class = '12'", "the classes are 0, 1, 2"]),
        ([], ["Missing option", "--format"]),
    ],
)
def test_an_option_that_cannot_be(call: Call, home: Path, options: list[str], named: list[str]) -> None:
    found = call("export", home / "small.yaml", "--out", home / "exported", *options)
    assert found.code == 2
    assert [part for part in named if part not in found.line] == []
    assert not (home / "exported").exists()


def test_before_a_training(call: Call, empty: Path) -> None:
    recipe = write_recipe(empty / "r.yaml")
    found = call("export", recipe, "--format", "diffusers", "--out", empty / "exported")
    assert found.code == 2
    assert str(empty / "out/small/training.json") in found.line
    assert "run `langevin train RECIPE` first" in found.line


def test_a_registered_model(call: Call, home: Path) -> None:
    checkpoint = checkpoints.read(home / json.loads((home / "out/small/training.json").read_text())["checkpoint"])
    tags = {CHECKPOINT_TAG: checkpoint.sha256}
    version = Registry(tracking_uri(home)).register("small", str(checkpoint.folder), None, tags)
    folders = home / "recipe", home / "registered"
    for what, out in zip((home / "small.yaml", f"models:/small/{version}"), folders, strict=True):
        assert call("export", what, "--format", "diffusers", "--out", out).code == 0
    first, second = ((out / "unet/diffusion_pytorch_model.safetensors").read_bytes() for out in folders)
    assert first == second


def test_a_model_that_is_not_registered(call: Call, home: Path) -> None:
    found = call("export", "models:/nothing/1", "--format", "diffusers", "--out", home / "exported")
    assert found.code == 2
    assert "is not a registered model" in found.line


def test_a_folder_of_something_else(call: Call, home: Path) -> None:
    found = call("export", home / "small.yaml", "--format", "diffusers", "--out", home / "out")
    assert found.code == 2
    assert f"{home / 'out'}: holds something else; name a new folder" in found.line
