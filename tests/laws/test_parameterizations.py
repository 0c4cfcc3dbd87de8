"""One denoiser, said in five ways."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from langevin.diffusion import parameterizations
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.schedules import Schedule

from .exact import SCHEDULES, Network, Normal, noise

T = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
X = torch.linspace(-3, 3, 75, dtype=torch.float64).reshape(25, 3)
SIGMA_DATA = 0.5


def eps_of(x: Tensor, x0: Tensor, level: NoiseLevel) -> Tensor:
    return (x - level.alpha * x0) / level.sigma


def as_noise(exact: Normal) -> Network:
    return Network(exact, eps_of)


def as_data(exact: Normal) -> Network:
    return Network(exact, lambda x, x0, level: x0)


def as_velocity(exact: Normal) -> Network:
    """Of any alpha and sigma, VP or not."""
    return Network(exact, lambda x, x0, level: level.alpha * eps_of(x, x0, level) - level.sigma * x0)


def as_score(exact: Normal) -> Network:
    """grad log N(x_t; alpha mean, alpha^2 var + sigma^2)."""
    return Network(
        exact,
        lambda x, x0, level: (level.alpha * exact.mean - x) / (level.alpha**2 * exact.var + level.sigma**2),
    )


def as_karras(exact: Normal) -> Network:
    """F of Karras et al. 2022, table 1, in their variables y = x / alpha and s = sigma / alpha."""

    def target(x: Tensor, x0: Tensor, level: NoiseLevel) -> Tensor:
        s, y = level.sigma / level.alpha, x / level.alpha
        c_skip = SIGMA_DATA**2 / (s**2 + SIGMA_DATA**2)
        c_out = s * SIGMA_DATA / torch.sqrt(s**2 + SIGMA_DATA**2)
        return (x0 - c_skip * y) / c_out

    def state(given: Tensor, level: NoiseLevel) -> Tensor:
        s = level.sigma / level.alpha
        return given * torch.sqrt(s**2 + SIGMA_DATA**2) * level.alpha  # input = y / sqrt(s^2 + sigma_data^2)

    def time(c_noise: Tensor) -> Tensor:
        return exact.schedule.time(-8 * c_noise)  # c_noise = ln(s) / 4

    return Network(exact, target, state, time)


EXPRESSED: dict[str, tuple[Parameterization, Callable[[Normal], Network]]] = {
    "noise": (parameterizations.Noise(), as_noise),
    "data": (parameterizations.Data(), as_data),
    "velocity": (parameterizations.Velocity(), as_velocity),
    "score": (parameterizations.Score(), as_score),
    "Karras": (parameterizations.Karras(SIGMA_DATA), as_karras),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", EXPRESSED)
def test_the_denoiser_does_not_depend_on_what_its_network_predicts(name: str, schedule: Schedule) -> None:
    exact = Normal(schedule)
    parameterization, express = EXPRESSED[name]
    found = Denoiser(express(exact), schedule, parameterization)(X, T)
    expected = exact(X, T)
    torch.testing.assert_close(found.x0, expected.x0, rtol=1e-8, atol=1e-8)
    level = schedule(T)
    eps = found.eps(X, level)
    torch.testing.assert_close(level.diffuse(found.x0, eps), X, rtol=1e-12, atol=1e-12)
    assert found.head is None


@pytest.mark.parametrize("name", ["velocity", "data"])
def test_velocity_and_data_need_no_signal_at_t_1(name: str) -> None:
    """Where alpha = 0 the denoiser is the mean of the data, and finite."""
    exact = Normal(SCHEDULES["rectified"])
    parameterization, express = EXPRESSED[name]
    t = torch.ones(25, dtype=torch.float64)
    found = Denoiser(express(exact), exact.schedule, parameterization)(X, t).x0
    torch.testing.assert_close(found, torch.full_like(X, exact.mean))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_karras_input_and_target_have_unit_variance(schedule: Schedule) -> None:
    """At every level, for data of deviation sigma_data: Karras et al. 2022, appendix B.6."""
    level, c = schedule(T), parameterizations.Karras(SIGMA_DATA)(schedule(T))
    var = level.alpha**2 * SIGMA_DATA**2 + level.sigma**2
    torch.testing.assert_close(c.scale**2 * var, torch.ones_like(T))
    # target (x_0 - skip x_t) / out: x_0 and the noise are independent
    target = ((1 - c.skip * level.alpha) ** 2 * SIGMA_DATA**2 + (c.skip * level.sigma) ** 2) / c.out**2
    torch.testing.assert_close(target, torch.ones_like(T))
    torch.testing.assert_close(c.noise, torch.log(level.sigma / level.alpha) / 4)


@pytest.mark.parametrize("name", EXPRESSED)
def test_a_network_may_say_more_than_the_data(name: str) -> None:
    """Channels beyond the image's are the head, untouched by skip and out."""
    exact = Normal(SCHEDULES["cosine VP"])
    parameterization, express = EXPRESSED[name]
    base = express(exact)

    class WithHead(torch.nn.Module):
        def forward(self, x: Tensor, told: Tensor, cond: object) -> Tensor:
            return torch.cat([base(x, told, cond), torch.full_like(x, 7.0)], dim=1)

    found = Denoiser(WithHead(), exact.schedule, parameterization)(X, T)
    torch.testing.assert_close(found.x0, exact(X, T).x0)
    assert found.head is not None
    assert torch.equal(found.head, torch.full_like(X, 7.0))


def test_one_time_serves_a_whole_batch() -> None:
    exact = Normal(SCHEDULES["cosine VP"])
    model = Denoiser(as_noise(exact), exact.schedule, parameterizations.Noise())
    assert torch.equal(model(X, T[3]).x0, model(X, T[3].expand(25)).x0)


def test_images_meet_their_own_level() -> None:
    """Every sample of (B, C, H, W) at its own t equals the sample by itself."""
    exact = Normal(SCHEDULES["cosine VP"])
    model = Denoiser(as_velocity(exact), exact.schedule, parameterizations.Velocity())
    images = noise(5).normal("images", torch.zeros(5, 2, 3, 4, dtype=torch.float64))
    t = torch.tensor([0.1, 0.9, 0.3, 0.5, 0.7], dtype=torch.float64)
    alone = [model(images[i : i + 1], t[i]).x0 for i in range(5)]
    torch.testing.assert_close(model(images, t).x0, torch.cat(alone), rtol=1e-14, atol=0)
