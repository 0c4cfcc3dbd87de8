"""The codec of two networks: its scale and its likelihood of grey levels."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Laplace as Peer

from langevin.codecs.vae import KLCodec, Laplace, discretised_laplace
from langevin.networks.autoencoder import Decoder, Encoder
from langevin.randomness import Keys, Noise

SHAPE, LEVELS = (1, 8, 8), 17


def codec() -> KLCodec:
    torch.manual_seed(0)
    encoder, decoder = Encoder(SHAPE, 2, 16, (1, 2)), Decoder(SHAPE, 2, 16, (1, 2))
    return KLCodec(encoder, decoder, encoder.latent_shape, Laplace(LEVELS))


def images(count: int) -> torch.Tensor:
    return torch.randint(0, LEVELS, (count, *SHAPE), generator=torch.Generator().manual_seed(1)) / 8 - 1.0


@pytest.mark.parametrize("width", [0.003, 0.1, 3.0])
@pytest.mark.parametrize("mean", [-1.7, -1.0, -0.0625, 0.0, 0.01, 0.9, 1.3])
def test_the_masses_of_all_grey_levels_add_up_to_one(mean: float, width: float) -> None:
    grey = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
    mass = discretised_laplace(grey, torch.tensor(mean).double(), torch.tensor(width).double(), LEVELS)
    assert float(mass.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_a_mass_is_the_difference_of_torchs_distribution_function() -> None:
    grey, mean = torch.linspace(-1, 1, 17, dtype=torch.float64)[1:-1], torch.tensor(0.21, dtype=torch.float64)
    peer = Peer(mean, 0.3)
    expected = peer.cdf(grey + 1 / 16) - peer.cdf(grey - 1 / 16)
    torch.testing.assert_close(discretised_laplace(grey, mean, torch.tensor(0.3).double(), 17).exp(), expected)


def test_masses_and_slopes_are_finite_far_out_and_at_the_edges_of_cells() -> None:
    grey = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)[:, None]
    edges = torch.linspace(-1, 1, LEVELS, dtype=torch.float64) + 1 / 16
    means = torch.cat([edges, torch.tensor([-1e4, -3.0, 3.0, 1e4])]).requires_grad_()
    width = torch.tensor(1e-3, dtype=torch.float64, requires_grad=True)
    mass = discretised_laplace(grey, means, width, LEVELS)
    mass.sum().backward()
    assert means.grad is not None
    assert width.grad is not None
    assert all(bool(torch.isfinite(values).all()) for values in (mass, means.grad, width.grad))
    # far out a mass falls by 1 / width for each unit of distance
    slope = torch.autograd.functional.jacobian(
        lambda mean: discretised_laplace(grey[:1] * 0, mean, torch.tensor(0.5).double(), LEVELS),
        torch.tensor(3.0).double(),
    )
    assert float(slope) == pytest.approx(-2)


def test_the_width_that_learns_is_the_mean_distance() -> None:
    """The maximum of a Laplace likelihood; grey levels far finer than it."""
    distances = torch.tensor([0.05, 0.1, 0.3]).double()
    likelihood = Laplace(2**16 + 1)
    with torch.no_grad():
        likelihood.log_width.fill_(float(torch.log(distances.mean())))
    x = torch.zeros(1, 3, dtype=torch.float64)
    likelihood(x, distances[None]).sum().backward()
    assert float(likelihood.log_width.grad) == pytest.approx(0, abs=1e-4)  # type: ignore[arg-type]


def test_scaled_latents_have_deviation_one_and_decode_to_the_same_images() -> None:
    model, x, noise = codec(), images(64), Noise(Keys.range(2, 0, 64))
    before = model.encode(x, noise).detach()
    decoded, kl_free = model.decode(before), model.log_likelihood(x, before)
    assert abs(float(before.std()) - 1) > 0.05
    model.scale /= before.std()
    after = model.encode(x, noise).detach()
    assert float(after.std()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(after, before * model.scale)
    torch.testing.assert_close(model.decode(after), decoded, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.log_likelihood(x, after), kl_free, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(model.posterior(x).sample(noise), after)


def test_the_scale_is_stored_with_the_weights() -> None:
    model, other = codec(), codec()
    model.scale.fill_(0.25)
    other.load_state_dict(model.state_dict())
    assert float(other.scale) == 0.25


def test_without_noise_an_image_is_encoded_as_its_mean() -> None:
    model, x = codec(), images(3)
    assert torch.equal(model.encode(x, None), model.posterior(x).mean)
    assert not torch.allclose(model.encode(x, Noise(Keys.range(0, 0, 3))), model.encode(x, None), atol=0.1)
