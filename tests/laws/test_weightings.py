"""Losses of other papers are weights on one error: computed both ways and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion import parameterizations, weightings
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.weightings import Weighting
from langevin.randomness import Noise

from .exact import SCHEDULES, noise

COUNT = 64
DATA = noise(COUNT, seed=3).normal("data", torch.zeros(COUNT, 2, 3, dtype=torch.float64))
VP = ["linear VP", "cosine VP", "linear chain", "cosine chain"]


@dataclass(frozen=True)
class Spread:
    """Times from 0.02 to 0.98, one a sample."""

    def __call__(self, noise: Noise) -> Tensor:
        return torch.linspace(0.02, 0.98, COUNT, dtype=torch.float64)


class Guess(nn.Module):
    """An untrained network: some function of its input, the noise and the condition."""

    def forward(self, x: Tensor, told: Tensor, cond: Any = None) -> Tensor:
        return torch.sin(3 * x + told[:, None, None]) + (0 if cond is None else cond[:, None, None])


def both_ways(
    schedule_name: str,
    parameterization: Parameterization,
    weighting: Weighting,
    target: Callable[[Tensor, Tensor, NoiseLevel], Tensor],
) -> tuple[Tensor, Tensor]:
    """(the objective, mean over the elements of (target - F)^2 written out), each (COUNT,)."""
    schedule, network = SCHEDULES[schedule_name], Guess()
    found = Denoising(Spread(), weighting)(Denoiser(network, schedule, parameterization), DATA, None, noise(COUNT))
    eps = noise(COUNT).normal("forward", DATA)
    t = Spread()(noise(COUNT))
    level = schedule(t).against(DATA)
    x = level.alpha * DATA + level.sigma * eps
    expected = (target(DATA, eps, level) - network(x, t)).square().mean(dim=(1, 2))
    return found, expected


@pytest.mark.parametrize("schedule", [*VP, "sub-VP", "geometric VE", "rectified"])
def test_simple_is_the_noise_loss(schedule: str) -> None:
    """Ho et al. 2020, eq. 14."""
    found, expected = both_ways(
        schedule, parameterizations.Noise(), weightings.Simple(), lambda x0, eps, level: eps
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", VP)
def test_velocity_error_is_the_v_loss(schedule: str) -> None:
    """Salimans & Ho 2022, section 4."""
    found, expected = both_ways(
        schedule,
        parameterizations.Velocity(),
        weightings.VelocityError(),
        lambda x0, eps, level: level.alpha * eps - level.sigma * x0,
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", [*VP, "sub-VP", "geometric VE", "rectified"])
def test_data_error_is_the_x0_loss(schedule: str) -> None:
    found, expected = both_ways(
        schedule, parameterizations.Data(), weightings.DataError(), lambda x0, eps, level: x0
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", [*VP, "geometric VE"])
def test_score_matching_with_sigma_squared_is_the_noise_loss(schedule: str) -> None:
    """Song & Ermon 2019, eq. 5-6: sigma^2 |score + eps / sigma|^2."""
    found, _ = both_ways(schedule, parameterizations.Score(), weightings.Simple(), lambda x0, eps, level: eps)
    eps, t = noise(COUNT).normal("forward", DATA), Spread()(noise(COUNT))
    level = SCHEDULES[schedule](t).against(DATA)
    score = Guess()(level.alpha * DATA + level.sigma * eps, t)
    expected = (level.sigma**2 * (score + eps / level.sigma) ** 2).mean(dim=(1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_is_min_of_snr_and_gamma_on_the_x0_loss(gamma: float) -> None:
    """Hang et al. 2023, eq. 8: min(snr, gamma) |x_0 - D|^2."""
    found, x0_loss = both_ways(
        "cosine chain", parameterizations.Data(), weightings.MinSNR(gamma), lambda x0, eps, level: x0
    )
    level = SCHEDULES["cosine chain"](Spread()(noise(COUNT)))
    snr = level.alpha**2 / level.sigma**2
    assert bool((snr < gamma).any())
    assert bool((snr > gamma).any())
    torch.testing.assert_close(found, x0_loss * torch.minimum(snr, torch.full_like(snr, gamma)), rtol=1e-9, atol=0)


@pytest.mark.parametrize("weighting", [weightings.Simple(), weightings.VelocityError(), weightings.MinSNR()])
def test_one_loss_over_all_parameterizations(weighting: Weighting) -> None:
    """What the network predicts is not what the loss weighs: the same D, however said, has the same loss."""
    schedule = SCHEDULES["cosine VP"]

    class SaysV(nn.Module):
        """F = v of the denoiser whose F = eps is Guess."""

        def forward(self, x: Tensor, told: Tensor, cond: Any = None) -> Tensor:
            level, eps = schedule(told).against(x), Guess()(x, told)
            return level.alpha * eps - level.sigma * (x - level.sigma * eps) / level.alpha

    objective = Denoising(Spread(), weighting)
    as_noise = objective(Denoiser(Guess(), schedule, parameterizations.Noise()), DATA, None, noise(COUNT))
    as_velocity = objective(Denoiser(SaysV(), schedule, parameterizations.Velocity()), DATA, None, noise(COUNT))
    torch.testing.assert_close(as_velocity, as_noise, rtol=1e-9, atol=0)


def test_the_objective_knows_only_weights_images_and_keys() -> None:
    """Half a batch has the whole batch's losses, sample by sample; the condition reaches the network."""
    model = Denoiser(Guess(), SCHEDULES["cosine VP"], parameterizations.Noise())
    cond = torch.arange(COUNT, dtype=torch.float64)

    @dataclass(frozen=True)
    class Keyed:
        def __call__(self, noise: Noise) -> Tensor:
            return 0.1 + 0.8 * noise.uniform("timestep", noise.keys.ordinals.double())

    objective = Denoising(Keyed(), weightings.Simple())
    whole = objective(model, DATA, cond, noise(COUNT))
    keys = noise(COUNT).keys
    odd = objective(model, DATA[1::2], cond[1::2], Noise(type(keys)(keys.seed, keys.ordinals[1::2])))
    torch.testing.assert_close(whole[1::2], odd, rtol=1e-13, atol=0)
    assert not torch.allclose(whole, objective(model, DATA, cond + 1, noise(COUNT)))
    assert not torch.allclose(whole, objective(model, DATA, cond, noise(COUNT, seed=1)))
