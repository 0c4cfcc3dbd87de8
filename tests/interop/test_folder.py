"""A folder that one library wrote is a model in the other, and both draw the same images from the same noise."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from langevin.diffusion import parameterizations
from langevin.diffusion.denoiser import Clamped, Denoiser
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.samplers import DDIM, Ancestral, Sampler, walk
from langevin.diffusion.schedules import Tabulated, cosine_betas, linear_betas, scaled_linear_betas
from langevin.diffusion.variance import Learned
from langevin.errors import CheckpointError, ConfigError
from langevin.interop.folder import load, save
from langevin.networks.unet import Anatomy, UNet
from langevin.randomness import Keys, Noise

from .peer import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel, awake, unet

CHAINS = {
    "linear": Tabulated(linear_betas(1000)),
    "cosine": Tabulated(cosine_betas(1000)),
    "scaled linear": Tabulated(scaled_linear_betas(1000)),
    "of its own": Tabulated(torch.linspace(0.001, 0.015, 1000, dtype=torch.float64) ** 1.1),
}
PREDICTIONS = {
    "noise": parameterizations.Noise(),
    "data": parameterizations.Data(),
    "velocity": parameterizations.Velocity(),
}
IMAGES = 3


def denoiser(chain: str = "cosine", predicts: Parameterization = PREDICTIONS["velocity"], **options: Any) -> Denoiser:
    network = awake(UNet((1, 8, 8), 16, (1, 2), 1, (4,), classes=10, **options))
    return Denoiser(network, CHAINS[chain], predicts).eval()


@dataclass(frozen=True)
class Drawn(Noise):
    """The numbers that a pipeline draws from its generator, in the order in which it draws them."""

    generator: torch.Generator = field(default_factory=torch.Generator)

    @classmethod
    def of(cls, seed: int) -> Drawn:
        return cls(Keys.range(0, 0, IMAGES), "", torch.Generator().manual_seed(seed))

    def within(self, scope: str) -> Drawn:
        return self

    def normal(self, stream: str, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator)


@torch.no_grad()
def ours(model: Denoiser, sampler: Sampler, steps: int, label: int = -1) -> Tensor:
    """(B, H, W, C) in [0, 1], as a pipeline gives them."""
    noise = Drawn.of(5)
    x = noise.normal("prior", torch.empty(IMAGES, *model.network.image_shape))
    grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    for x in walk(Clamped(model), sampler, x, grid, torch.full((IMAGES,), label), noise):  # noqa: B007, B020
        pass
    return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def theirs(kind: Any, folder: Path, steps: int, **options: Any) -> Tensor:
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    found = pipeline(IMAGES, generator, num_inference_steps=steps, output_type="np", **options).images
    return torch.from_numpy(found)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_pipelines_draw_our_images(tmp_path: Path, chain: str, prediction: str) -> None:
    """DDIM at eta 0, and ancestrally. diffusers computes the levels in float32; to 1e-4 in [-1, 1]."""
    model = denoiser(chain, PREDICTIONS[prediction])
    save(model, tmp_path / "out", label=3)
    options = {"use_clipped_model_output": True}  # the noise is that of the clamped data, as with us
    pairs = [
        (ours(model, DDIM(), 20, 3), theirs(DDIMPipeline, tmp_path / "out", 20, **options)),
        (ours(model, Ancestral(), 20, 3), theirs(DDPMPipeline, tmp_path / "out", 20)),
    ]
    for expected, found in pairs:
        assert float(expected.std()) > 0.05
        assert float((found - expected).abs().max()) < 0.5e-4


def test_ddim_with_noise_too(tmp_path: Path) -> None:
    model = denoiser()
    save(model, tmp_path / "out")
    expected = ours(model, DDIM(0.7), 10)
    found = theirs(DDIMPipeline, tmp_path / "out", 10, eta=0.7, use_clipped_model_output=True)
    # diffusers adds noise in the last step, of variance 0
    assert float((found - expected).abs().max()) < 0.5e-4


def test_a_learned_variance(tmp_path: Path) -> None:
    """Along the whole chain: with fewer steps diffusers adds noise in the last one, too."""
    network = awake(UNet((1, 8, 8), 16, (1, 2), 1, (4,), channels_out=2, anatomy=Anatomy(steps=20)))
    model = Denoiser(network, Tabulated(cosine_betas(20)), PREDICTIONS["noise"])
    save(model, tmp_path / "out")
    grid = torch.linspace(1, 0, 21, dtype=torch.float64)
    expected = ours(model, Ancestral(Learned.of(model.schedule, grid)), 20)
    assert float((theirs(DDPMPipeline, tmp_path / "out", 20) - expected).abs().max()) < 0.5e-4


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    model = denoiser()
    save(model, tmp_path / "out", label=4)
    again = load(tmp_path / "out")
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([0.001, 0.4, 1.0], dtype=torch.float64)
    with torch.no_grad():
        expected, found = model(x, t, torch.full((3,), 4)).x0, again(x, t).x0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not again.training


@pytest.mark.parametrize("kind", [DDPMPipeline, DDIMPipeline])
def test_their_folder_is_our_model(tmp_path: Path, kind: Any) -> None:
    """Of both pipelines, also with everything in one folder, as older models lie."""
    scheduler = {DDPMPipeline: DDPMScheduler, DDIMPipeline: DDIMScheduler}[kind](beta_schedule="squaredcos_cap_v2")
    network = unet(in_channels=1, out_channels=1)
    kind(network, scheduler).save_pretrained(tmp_path / "new")
    model = load(tmp_path / "new")
    x, i = torch.randn(4, 1, 16, 16), torch.tensor([0, 30, 500, 999])
    with torch.no_grad():
        expected = network(x, i).sample
        found = model.network(x, ((i + 1) / 1000).float(), None)
    assert float((found - expected).abs().max()) < 1e-5
    assert isinstance(model.parameterization, parameterizations.Noise)
    at = model.schedule((i + 1).double() / 1000)
    torch.testing.assert_close(at.alpha**2, scheduler.alphas_cumprod[i].double(), rtol=1e-3, atol=0)
    flat = tmp_path / "old"
    flat.mkdir()
    for part in [*(tmp_path / "new/unet").iterdir(), *(tmp_path / "new/scheduler").iterdir()]:
        part.rename(flat / part.name)
    with torch.no_grad():
        assert torch.equal(load(flat).network(x, ((i + 1) / 1000).float(), None), found)


def test_a_second_export_takes_the_firsts_place(tmp_path: Path) -> None:
    save(denoiser(), tmp_path / "out")
    save(denoiser("linear"), tmp_path / "out")
    assert json.loads((tmp_path / "out/scheduler/scheduler_config.json").read_text())["beta_schedule"] == "linear"
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert names == [
        "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something else; name a new folder"):
        save(denoiser(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_no_pipeline_can_run(tmp_path: Path) -> None:
    short = Denoiser(UNet((1, 8, 8), 8, (1,), 1), Tabulated(linear_betas(100)), parameterizations.Noise())
    with pytest.raises(ConfigError, match=r"schedule.steps = 100: .*; train on a chain of 1000 steps"):
        save(short, tmp_path / "out")
    with pytest.raises(ConfigError, match="network = 'Identity'"):
        save(Denoiser(torch.nn.Identity(), CHAINS["linear"], parameterizations.Noise()), tmp_path / "out")
    with pytest.raises(ConfigError, match="2 channels in and 1 out"):
        save(denoiser(channels_in=2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"out/config.json: is missing"):
        load(folder)
    save(denoiser(), folder)
    config = folder / "unet/config.json"
    whole = config.read_text()
    config.write_text(whole.replace("UNet2DModel", "UNet2DConditionModel"))
    with pytest.raises(ConfigError, match=r"unet/config.json: _class_name = 'UNet2DConditionModel'.*UNet2DModel"):
        load(folder)
    config.write_text(json.dumps(json.loads(whole) | {"act_fn": "gelu"}))
    with pytest.raises(ConfigError, match=r"unet/config.json: act_fn = 'gelu'"):
        load(folder)
    config.write_text("{")
    with pytest.raises(ConfigError, match=r"unet/config.json: is no JSON"):
        load(folder)
    config.write_text(whole)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model.safetensors: holds no plain tensors"):
        load(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"is missing; save the pipeline with safe_serialization=True"):
        load(folder)


def test_diffusers_reads_the_parts_alone(tmp_path: Path) -> None:
    save(denoiser(), tmp_path / "out")
    network = UNet2DModel.from_pretrained(tmp_path / "out", subfolder="unet")
    assert network.config.sample_size == 8
    assert DDIMScheduler.from_pretrained(tmp_path / "out", subfolder="scheduler").config.prediction_type == (
        "v_prediction"
    )
