"""What denoising methods share, seen from the network: the times and conditions that it is told and how often."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from langevin.diffusion.denoiser import Clamped, DynamicallyClamped
from langevin.diffusion.guidance import ClassifierFree, Interval
from langevin.methods.gaussian import dropping
from langevin.protocols import Batch
from langevin.randomness import Keys, Noise

from .examples import SHAPE, batch, made, recording

TWO = Keys.range(0, 0, 2)


@pytest.mark.parametrize(
    ("name", "sample", "calls"),
    [
        ("ddpm", {"sampler": "ddim"}, 5),
        ("ddpm", {"sampler": "ddim", "guidance": 0.0}, 5),
        ("ddpm", {"sampler": "ddim", "guidance": 1.5}, 10),
        ("ddpm", {"sampler": "ddim", "guidance": -1.0}, 10),
        ("ddpm", {"sampler": "ancestral"}, 5),
        ("ddpm", {"sampler": "dpm_solver"}, 5),
        ("ddpm", {"sampler": "dpm_solver", "eta": 1.0}, 5),
        ("ddpm", {"sampler": "heun"}, 9),  # Euler's step to the data
        ("ddpm", {"sampler": "reverse_diffusion"}, 5),
        ("ddpm", {"sampler": "predictor_corrector", "corrector_steps": 2}, 5 + 2 * 4),  # the data have no score
        ("ddpm", {"sampler": "euler_maruyama", "grid": "uniform", "last": 1e-3}, 5 + 1),  # and a last look
        ("edm", {"sampler": "heun", "grid": "karras", "steps": 18}, 35),  # Karras et al. 2022, table 2
        ("ncsn", {"sampler": "annealed_langevin", "corrector_steps": 3}, 5 * 3 + 1),
        ("score_sde ve", {"sampler": "predictor_corrector"}, 5 * 2 + 1),
        ("cld", {"sampler": "sscs", "last": 1e-3}, 5 + 1),
        ("rectified", {"sampler": "heun"}, 8),  # there is no second look from where no signal is left
    ],
)
def test_what_a_sample_costs(name: str, sample: dict[str, Any], calls: int) -> None:
    method = made(name, sample=sample)
    recorder = recording(method)
    method.sample(TWO, torch.tensor([1, 2]))
    assert len(recorder.told) == calls


def test_what_a_bound_costs_and_that_it_asks_about_its_own_class() -> None:
    for name, calls in (("ddpm", 6 + 1), ("vdm", 6 + 1), ("cld", 8 + 2)):  # the ends of a flow are looked at first
        method = made(name)
        recorder = recording(method)
        method.bound(batch(3, 7), Keys.range(2, 3, 7))
        assert len(recorder.told) == calls
        assert all(cond is not None and cond.tolist() == [3, 4, 5, 6] for _, _, cond in recorder.told)


def test_the_sampler_meets_the_guided_denoiser_kept_in_range() -> None:
    plain = made("ddpm").drawn_by()[0]
    assert isinstance(plain, Clamped)
    assert isinstance(plain.base, ClassifierFree)
    model, _ = made("ddpm", guidance=3.0, guidance_interval=[0.3, 2.0], threshold="dynamic").drawn_by()
    assert isinstance(model, DynamicallyClamped)
    assert isinstance(model.base, Interval)
    assert (model.base.lo, model.base.hi, model.base.base.scale) == (0.3, 2.0, 3.0)
    bare = made("ddpm", guidance=3.0, threshold="none").drawn_by()[0]
    assert isinstance(bare, ClassifierFree)


def test_guidance_acts_within_its_interval() -> None:
    """Outside of it a step costs one call, inside two."""
    method = made("ddpm", sample={"sampler": "ddim", "steps": 10, "guidance": 3.0, "guidance_interval": [0.3, 2.0]})
    recorder = recording(method)
    method.sample(TWO, torch.tensor([1, 2]))
    times = method.sampling.grid[:-1]
    level = method.denoiser.schedule(times)
    inside = ((level.sigma > 0.3 * level.alpha) & (level.sigma <= 2 * level.alpha)).sum()
    assert 0 < inside < 10
    assert len(recorder.told) == 10 + int(inside)


def test_a_grid_that_starts_below_t_1_starts_at_its_own_noise() -> None:
    """Karras' grid to sigma_max = 8 on a schedule that goes on to 80."""
    method = made("edm", sample={"sampler": "heun", "grid": "karras", "sigma_max": 8.0})
    start = next(method.walk(Keys.range(0, 0, 500), torch.zeros(500, dtype=torch.int64)))
    assert float(start.std()) == pytest.approx(8, rel=4 * (0.5 / start.numel()) ** 0.5)


def test_images_without_classes_have_no_condition() -> None:
    method = made("ddpm")
    recorder = recording(method)
    flat = Batch(torch.ones(3, *SHAPE), None, torch.arange(3), ("a", "b", "c"))
    method.loss(flat, Keys.range(5, 0, 3))
    assert recorder.told[0][2] is None
    assert dropping(None, 0.5, Noise(TWO)) is None


@pytest.mark.parametrize(("share", "gone"), [(0.0, 0), (1.0, 2000)])
def test_no_class_is_dropped_at_0_and_every_one_at_1(share: float, gone: int) -> None:
    labels = torch.arange(2000) % 10
    assert int((dropping(labels, share, Noise(Keys.range(1, 0, 2000))) == -1).sum()) == gone
