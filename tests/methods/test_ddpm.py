"""DDPM: times of the whole chain, and its parts as the recipe names them."""

from __future__ import annotations

import pytest
import torch

from langevin.protocols import Batch
from langevin.randomness import Keys

from .examples import SHAPE, made, recording


def test_images_meet_every_step_of_the_chain() -> None:
    """x_t = alpha x_0 + sigma eps at the nodes, as the schedule has them, each as likely as the others."""
    method = made("ddpm")
    recorder = recording(method)
    flat = Batch(torch.ones(2000, *SHAPE), None, torch.arange(2000), tuple(map(str, range(2000))))
    method.loss(flat, Keys.range(5, 0, 2000))
    x, t, _ = recorder.told[0]
    nodes = (t.double() * 1000).round()
    torch.testing.assert_close(t.double(), nodes / 1000, rtol=0, atol=1e-7)
    assert (len(nodes.unique()), nodes.min(), nodes.max()) == (1000, 1, 1000)
    level = method.denoiser.schedule(nodes / 1000)
    eps = (x.double() - level.alpha[:, None, None, None]) / level.sigma[:, None, None, None]
    assert float(eps.mean()) == pytest.approx(0, abs=4 / 128_000**0.5)
    assert float(eps.var()) == pytest.approx(1, abs=4 * (2 / 128_000) ** 0.5)


def test_the_loss_of_a_network_that_says_no_noise_is_the_noise() -> None:
    """L_simple = mean ||eps||^2 with eps_hat = 0."""
    method = made("ddpm", {"prediction": "noise", "schedule": {"name": "linear"}})
    recorder = recording(method)
    flat = Batch(torch.zeros(50, *SHAPE), None, torch.arange(50), tuple(map(str, range(50))))
    loss = method.loss(flat, Keys.range(5, 0, 50)).total
    x, t, _ = recorder.told[0]
    eps = x.double() / method.denoiser.schedule(t.double()).sigma[:, None, None, None]
    torch.testing.assert_close(loss.double(), eps.square().flatten(1).mean(1), rtol=1e-3, atol=1e-5)
