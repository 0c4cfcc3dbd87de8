"""Rectified flow: the network learns the straight path's velocity."""

from __future__ import annotations

import pytest
import torch

from langevin.diffusion.denoiser import Denoiser
from langevin.randomness import Keys, Noise

from .examples import SHAPE, batch, made, recording


def test_the_target_is_noise_minus_data() -> None:
    """||(eps - x_0) - 0||^2 of a network that says 0, at x_t = (1 - t) x_0 + t eps."""
    method, data = made("rectified"), batch(0, 200)
    recorder = recording(method)
    losses = method.loss(data, Keys.range(5, 0, 200)).total.double()
    x, t, _ = recorder.told[0]
    t = t.double()[:, None, None, None]
    eps = (x.double() - (1 - t) * data.images) / t
    seen = t.flatten() > 0.02
    expected = (eps - data.images).square().flatten(1).mean(1)
    torch.testing.assert_close(losses[seen], expected[seen], rtol=1e-3, atol=1e-4)
    assert 0 < float(t.min()) < 0.01 < 0.99 < float(t.max()) <= 1


@pytest.mark.parametrize("prediction", ["data", "velocity"])
def test_the_loss_is_the_same_of_any_prediction_of_the_same_data(prediction: str) -> None:
    """A network that says 0 as flow is another as data: with x_0 expected to be 0 the error is (x_0 / t)^2."""
    method, data = made("rectified", {"prediction": prediction}), batch(0, 50)
    recorder = recording(method)
    losses = method.loss(data, Keys.range(5, 0, 50)).total.double()
    x, t, _ = recorder.told[0]
    t = t.double()
    denoiser = Denoiser(recorder, method.denoiser.schedule, method.denoiser.parameterization)
    expected_data = denoiser(x, t).x0.double()
    seen = t > 0.02
    expected = ((data.images - expected_data) / t[:, None, None, None]).square().flatten(1).mean(1)
    torch.testing.assert_close(losses[seen], expected[seen], rtol=1e-3, atol=1e-4)


def test_eulers_method_on_the_flow_is_ddim() -> None:
    method = made("rectified", sample={"sampler": "ddim", "threshold": "none"})
    keys, labels = Keys.range(0, 0, 2), torch.tensor([3, 4])
    with torch.no_grad():
        states = list(method.walk(keys, labels))
        x = Noise(keys).normal("prior", torch.empty(2, *SHAPE))
        for number, t in enumerate((1.0, 0.8, 0.6, 0.4, 0.2)):
            torch.testing.assert_close(states[number], x, rtol=1e-4, atol=1e-5)
            x = x - 0.2 * method.denoiser.network(x, torch.full((2,), t), labels)
    torch.testing.assert_close(states[-1], x, rtol=1e-4, atol=1e-5)
