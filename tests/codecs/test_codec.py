"""The posterior that a codec gives an image, against torch.distributions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from langevin.codecs.codec import DiagonalGaussian
from langevin.randomness import Keys, Noise


def posterior(count: int = 5) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(1)
    mean, log_var = (torch.randn(count, 3, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return DiagonalGaussian(mean, log_var)


def normal(q: DiagonalGaussian) -> Normal:
    return Normal(q.mean, torch.exp(q.log_var / 2))


def total(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)


def test_its_divergence_density_and_entropy_are_those_of_torch() -> None:
    q = posterior()
    z = q.sample(Noise(Keys.range(0, 0, 5)))
    white = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    torch.testing.assert_close(q.kl(), total(kl_divergence(normal(q), white)))
    torch.testing.assert_close(q.log_prob(z), total(normal(q).log_prob(z)))
    torch.testing.assert_close(q.entropy(), total(normal(q).entropy()))


def test_a_posterior_that_is_the_prior_has_no_divergence() -> None:
    nothing = torch.zeros(2, 4)
    assert torch.equal(DiagonalGaussian(nothing, nothing).kl(), torch.zeros(2, dtype=torch.float64))


def test_log_variances_stay_between_their_ends() -> None:
    q = DiagonalGaussian(torch.zeros(1, 3), torch.tensor([[-100.0, 0.5, 100.0]]))
    assert q.log_var.tolist() == [[-30.0, 0.5, 20.0]]
    assert bool(torch.isfinite(q.kl()).all())


def test_draws_have_its_moments_and_are_each_samples_own() -> None:
    count = 20000
    q = DiagonalGaussian(torch.full((count, 1), 0.7), torch.full((count, 1), -1.0))
    z = q.sample(Noise(Keys.range(3, 0, count)))
    deviation = float(torch.exp(torch.tensor(-0.5)))
    assert float(z.mean()) == pytest.approx(0.7, abs=4 * deviation / count**0.5)
    assert float(z.std()) == pytest.approx(deviation, rel=4 / (2 * count) ** 0.5)
    part = DiagonalGaussian(q.mean[:2], q.log_var[:2])
    assert torch.equal(part.sample(Noise(Keys(3, torch.tensor([7, 5])))), z[[7, 5]])


def test_a_draw_has_gradients_to_mean_and_deviation() -> None:
    mean, log_var = torch.zeros(4, 3, requires_grad=True), torch.zeros(4, 3, requires_grad=True)
    noise = Noise(Keys.range(0, 0, 4))
    z = DiagonalGaussian(mean, log_var).sample(noise)
    z.sum().backward()
    assert mean.grad is not None
    assert log_var.grad is not None
    assert torch.equal(mean.grad, torch.ones(4, 3))
    torch.testing.assert_close(log_var.grad, 0.5 * noise.normal("posterior", z))


def test_scaled_is_the_law_of_the_scaled_draw() -> None:
    q, by = posterior(), torch.tensor(0.3, dtype=torch.float64)
    z = q.sample(Noise(Keys.range(0, 0, 5)))
    scaled = q.scaled(by)
    torch.testing.assert_close(scaled.sample(Noise(Keys.range(0, 0, 5))), by * z)
    torch.testing.assert_close(scaled.log_prob(by * z), q.log_prob(z) - 12 * torch.log(by))
    torch.testing.assert_close(scaled.entropy(), q.entropy() + 12 * torch.log(by))
