"""Bounds of a VAE and of latent diffusion, where log p(x) is known: one latent number, and images linear in it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from langevin.codecs.vae import KLCodec
from langevin.methods.latent import Density, FlowDensity, Latent
from langevin.methods.vae import VAE
from langevin.methods.vae import Normal as NormalLikelihood
from langevin.protocols import Batch, Bound
from langevin.randomness import Keys, Noise

from .exact import SCHEDULES, Normal, noise

LEVELS = 2**20 + 1  # so fine that a mass is a density times a cell
MAP = torch.tensor([0.2, -0.1, 0.05], dtype=torch.float64)  # x = MAP z + SPREAD times white noise
SPREAD = 0.05
VARIANCE = 1 / (1 + float(MAP @ MAP) / SPREAD**2)  # of z given x
X = (torch.tensor([0.13, -0.15, 0.07], dtype=torch.float64) * 2**19).round() / 2**19


class LinearEncoder(nn.Module):
    """The exact posterior of z given x, its mean moved and its variance multiplied."""

    def __init__(self, moved: float = 0.0, widened: float = 1.0) -> None:
        super().__init__()
        self.moved, self.widened = moved, widened

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        mean = VARIANCE / SPREAD**2 * (x.flatten(1) @ MAP) + self.moved
        log_var = torch.full_like(mean, math.log(VARIANCE * self.widened))
        return torch.stack([mean, log_var], dim=1)[:, :, None, None]


class LinearDecoder(nn.Module):
    def forward(self, z: Tensor, cond: Tensor | None) -> Tensor:
        return z * MAP.reshape(1, 3, 1, 1)


def codec(moved: float = 0.0, widened: float = 1.0, scale: float = 1.0) -> KLCodec:
    likelihood = NormalLikelihood(LEVELS, deviation=SPREAD).double()
    made = KLCodec(LinearEncoder(moved, widened), LinearDecoder(), (1, 1, 1), likelihood).double()
    made.scale.fill_(scale)
    return made


def surprise(x: Tensor = X) -> float:
    """-log P(x), closed form: N(0, MAP MAP' + SPREAD^2 I) times the cell."""
    covariance = torch.outer(MAP, MAP) + SPREAD**2 * torch.eye(3, dtype=torch.float64)
    density = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance).log_prob(x)
    return -float(density) - 3 * math.log(2 / (LEVELS - 1))


def repeated(count: int) -> tuple[Batch, Keys]:
    """One image many times: its bounds differ by their noise only."""
    images = X.reshape(1, 3, 1, 1).expand(count, -1, -1, -1)
    return Batch(images, None, torch.arange(count), tuple(map(str, range(count)))), Keys.range(1, 0, count)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), 4 * float(values.std()) / len(values) ** 0.5


def excess(moved: float, widened: float) -> float:
    """KL(q || exact posterior): what the bound lies above -log P(x)."""
    return 0.5 * (widened + moved**2 / VARIANCE - 1 - math.log(widened))


@pytest.mark.parametrize(("moved", "widened"), [(0.0, 1.0), (0.1, 1.0), (0.0, 2.5), (-0.3, 0.4)])
def test_the_bound_is_the_surprise_and_how_far_the_posterior_is_off(moved: float, widened: float) -> None:
    """Kingma & Welling 2013, eq. 1: tight for the exact posterior, too large by a known amount for others."""
    bound = VAE(codec(moved, widened)).bound(*repeated(20000)).total
    mean, error = mean_and_error(bound)
    assert mean == pytest.approx(surprise() + excess(moved, widened), abs=error)
    if (moved, widened) != (0.0, 1.0):
        assert mean - error > surprise()


def test_with_the_exact_posterior_every_importance_weight_is_the_likelihood() -> None:
    method = VAE(codec())
    for draws in (1, 5):
        values = method.importance_bound(*repeated(50), draws)
        torch.testing.assert_close(values, torch.full_like(values, surprise()), rtol=0, atol=1e-4)


def test_more_draws_come_closer_from_above() -> None:
    """Burda et al. 2016, theorem 1, for a posterior that is far off."""
    method, data = VAE(codec(moved=0.25, widened=2.0)), repeated(3000)
    found = [mean_and_error(method.importance_bound(*data, draws)) for draws in (1, 4, 32)]
    above = [mean - surprise() for mean, _ in found]
    assert above[0] == pytest.approx(excess(0.25, 2.0), abs=found[0][1])
    assert above[0] > 2 * above[1] > 4 * above[2]
    assert above[2] > -found[2][1]
    assert above[2] < 0.1 * above[0]


def test_the_bound_is_least_at_the_true_deviation() -> None:
    """With the exact posterior held: the gradient of the mean bound to the learned deviation vanishes over the data."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(20000, 1, generator=generator, dtype=torch.float64)
    x = z * MAP + SPREAD * torch.randn(20000, 3, generator=generator, dtype=torch.float64)
    images = ((x * 2**19).round() / 2**19).clamp(-1, 1)[:, :, None, None]
    method = VAE(codec(), dropped=0.0)
    batch = Batch(images, None, torch.arange(20000), ("",) * 20000)
    method.loss(batch, Keys.range(1, 0, 20000)).total.mean().backward()
    slope = method.codec.likelihood.log_deviation.grad
    # of E[3 - |x - MAP z|^2 / SPREAD^2], whose variance is at most 2 x 3
    assert float(slope) == pytest.approx(0, abs=4 * (6 / 20000) ** 0.5)  # type: ignore[arg-type]


class White(nn.Module):
    """p(z) = N(0, variance), bounded as inner methods bound it."""

    def __init__(self, bounding: Density | FlowDensity, variance: float = 1.0) -> None:
        super().__init__()
        self.bounding, self.model = bounding, Normal(SCHEDULES["linear VP"], 0.0, variance)

    def bound(self, batch: Batch, keys: Keys) -> Bound:
        return self.bounding(self.model, batch.images, batch.labels, Noise(keys))


@pytest.mark.parametrize(("scale", "widened"), [(1.0, 1.0), (0.4, 1.0), (2.0, 1.7)])
def test_latent_diffusions_bound_is_the_surprise_and_the_posteriors_excess(scale: float, widened: float) -> None:
    """An exact denoiser of the scaled latents: at any scale of them -log P(x) comes out."""
    inner = White(Density(calls=12, last=1e-3), scale**2)
    bound = Latent(codec(widened=widened, scale=scale), inner).bound(*repeated(3000)).total
    mean, error = mean_and_error(bound)
    assert mean == pytest.approx(surprise() + excess(0.0, widened), abs=error + 0.01)
    assert error < 0.4


def test_along_the_flow_latent_diffusions_bound_is_the_same() -> None:
    bound = Latent(codec(), White(FlowDensity(1, 1e-5, 1e-5))).bound(*repeated(500)).total
    mean, error = mean_and_error(bound)
    assert mean == pytest.approx(surprise(), abs=error + 1e-3)


@pytest.mark.parametrize(("name", "last"), [("linear VP", 1e-3), ("cosine VP", 0.02), ("linear VE", 2e-4)])
@pytest.mark.parametrize("z", [-1.0, 0.3, 2.0])
def test_a_density_is_bounded_tightly_on_every_schedule(name: str, last: float, z: float) -> None:
    """-log p(z) of N(0, 1), by its exact denoiser."""
    model = Normal(SCHEDULES[name], 0.0, 1.0)
    values = torch.full((2000, 1), z, dtype=torch.float64)
    mean, error = mean_and_error(Density(8, last)(model, values, None, noise(2000)).total)
    assert mean == pytest.approx(0.5 * (z**2 + math.log(2 * math.pi)), abs=error + 2e-3)


@pytest.mark.parametrize("last", [0.1, 0.03, 1e-3])
def test_a_density_of_other_data_is_above_by_what_the_last_variance_is_off(last: float) -> None:
    """It is white data's: for N(3, 1/25) too large, the less so the less noise there is."""
    var = 0.04
    model = Normal(SCHEDULES["linear VP"], 3.0, var)
    z = 3 + var**0.5 * noise(6000).normal("data", torch.zeros(6000, 1, dtype=torch.float64))
    mean, error = mean_and_error(Density(6, last)(model, z, None, noise(6000, 1)).total)
    at = SCHEDULES["linear VP"](torch.tensor(last, dtype=torch.float64))
    ratio = float(var * at.sigma**2 / (var * at.alpha**2 + at.sigma**2) * (1 + torch.exp(at.log_snr)))
    excess = 0.5 * (ratio - 1 - math.log(ratio))
    entropy = 0.5 * math.log(2 * math.pi * math.e * var)
    assert mean == pytest.approx(entropy + excess, abs=error + 1e-3)
    assert (excess > 0.2) == (last == 0.1)
