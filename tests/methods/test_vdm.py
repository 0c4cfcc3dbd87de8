"""VDM: the network minimises the bound, the schedule its variance."""

from __future__ import annotations

import torch

from langevin.randomness import Keys

from .examples import batch, made, recording


def test_the_schedules_gradient_is_that_of_the_squared_losses() -> None:
    """The mean does not depend on the curve, so less of the mean square is less variance. Kingma et al. 2021, I.2."""
    method, keys, data = made("vdm"), Keys.range(5, 0, 16), batch(0, 16)
    curve, network = list(method.denoiser.schedule.parameters()), list(method.denoiser.network.parameters())
    method.loss(data, keys).total.mean().backward()
    found = [p.grad.clone() for p in (*curve, *network)]

    losses = method.loss(data, keys).total
    method.denoiser.schedule.reduce_variance_of(0.5 * torch.ones_like(losses))  # plain gradients
    squares = torch.autograd.grad(losses.square().mean(), curve, retain_graph=True)
    plain = torch.autograd.grad(losses.mean(), (*curve, *network))
    for got, expected in zip(found, (*squares, *plain[len(curve) :]), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    assert not torch.allclose(squares[0], plain[0], rtol=0.1)


def test_the_network_is_told_the_log_snr_and_not_the_time() -> None:
    """0 at gamma_min, 1 at gamma_max; the first schedule is near the identity, another curve tells another number."""
    method = made("vdm")
    recorder = recording(method)
    method.loss(batch(0, 50), Keys.range(5, 0, 50))
    with torch.no_grad():
        for parameter in method.denoiser.schedule.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    method.loss(batch(0, 50), Keys.range(5, 0, 50))
    first, second = (noise for _, noise, _ in recorder.told)
    assert not torch.allclose(first, second, atol=1e-2)
    x = recorder.told[1][0]
    gamma = -13.3 + second.double() * 18.3
    sigma = torch.sigmoid(gamma).sqrt()[:, None, None, None]
    eps = (x - (1 - sigma**2).sqrt() * batch(0, 50).images) / sigma
    quiet = gamma > -8  # float32 noise below is lost in the image
    assert abs(float(eps[quiet].var()) - 1) < 4 * (2 / eps[quiet].numel()) ** 0.5


def test_the_loss_is_the_bounds_integrand_in_bits() -> None:
    """gamma'(t) / 2 ||eps||^2 / ln 2 a dimension, of a network that says 0: on average (gamma_max - gamma_min) / 2 ln 2."""
    method = made("vdm")
    recording(method)
    losses = method.loss(batch(0, 400), Keys.range(5, 0, 400)).total
    expected = 18.3 / 2 / 0.6931472
    assert abs(float(losses.detach().mean()) / expected - 1) < 0.03
