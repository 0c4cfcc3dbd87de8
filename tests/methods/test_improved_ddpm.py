"""Improved DDPM: the second head is the variance, and loss-aware times are part of the training's state."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from langevin.diffusion.kernels import ancestral_variance, transition_variance
from langevin.diffusion.times import LossAware
from langevin.diffusion.variance import Learned
from langevin.protocols import Adapts
from langevin.randomness import Keys

from .examples import batch, made, recording

KEYS, LABELS = Keys.range(3, 0, 3), torch.arange(3)
CHAIN = {"schedule": {"name": "cosine", "steps": 20}}


def biased(method: Any, by: float) -> Any:
    """The method with its second head moved by so much everywhere."""
    last = [module for module in method.denoiser.network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    assert last.bias.shape == (2,)
    with torch.no_grad():
        last.bias[1] += by
    return method


def test_the_second_head_is_the_variance_of_ancestral_steps_and_of_nothing_else() -> None:
    ddim = {"sampler": "ddim"}
    torch.testing.assert_close(
        biased(made("improved_ddpm", sample=ddim), 1.0).sample(KEYS, LABELS),
        made("improved_ddpm", sample=ddim).sample(KEYS, LABELS),
    )
    plain, moved = made("improved_ddpm"), biased(made("improved_ddpm"), 1.0)
    assert not torch.allclose(moved.sample(KEYS, LABELS), plain.sample(KEYS, LABELS), atol=1e-3)
    assert not torch.allclose(moved.bound(batch(0, 3), KEYS).total, plain.bound(batch(0, 3), KEYS).total, rtol=1e-3)
    fixed = {"sampler": "ancestral", "variance": "lower"}
    torch.testing.assert_close(
        biased(made("improved_ddpm", sample=fixed), 1.0).sample(KEYS, LABELS),
        made("improved_ddpm", sample=fixed).sample(KEYS, LABELS),
    )


@pytest.mark.parametrize("end", [1.0, -1.0])
def test_at_its_ends_the_learned_variance_is_the_fixed_one(end: float) -> None:
    method = made("improved_ddpm")
    variance = method.sampling.sampler.variance
    assert isinstance(variance, Learned)
    s, t = (method.denoiser.schedule(torch.tensor([at], dtype=torch.float64)) for at in (0.6, 0.7))
    expected = transition_variance(s, t) if end > 0 else ancestral_variance(s, t)
    torch.testing.assert_close(variance(s, t, torch.full((1, 1), end, dtype=torch.float64))[0], expected)


@pytest.mark.parametrize(("objective", "terms"), [("hybrid", {"mse", "vlb"}), ("vlb", {"vlb"})])
def test_the_objectives_terms(objective: str, terms: set[str]) -> None:
    """L_simple + 0.001 L_vlb, or L_vlb."""
    method = made("improved_ddpm", {"objective": objective, "times": "stratified"})
    assert not isinstance(method, Adapts)
    losses = method.loss(batch(0, 6), Keys.range(5, 0, 6))
    assert set(losses.terms) == terms | {"time", "unweighted"}
    expected = losses.terms["vlb"]
    if objective == "hybrid":
        expected = losses.terms["mse"] + 0.001 * expected
    torch.testing.assert_close(losses.total, expected)


def learned(method: Any) -> Any:
    """The method after steps that saw each of 20 nodes 10 times, with losses of 10 at node 15 and 1 elsewhere."""
    nodes = torch.arange(1, 21).repeat(10)
    losses = torch.where(nodes == 15, 10.0, 1.0)
    method.adapt(torch.arange(200), {"time": nodes.double() / 20, "unweighted": losses, "vlb": losses})
    return method


def test_loss_aware_times_look_where_the_losses_are() -> None:
    """p ~ 10 at one node and 1 at 19 others; the weight 1 / (T p) keeps the loss's mean."""
    method = learned(made("improved_ddpm", CHAIN))
    losses = method.loss(batch(0, 500), Keys.range(5, 0, 500))
    at_15 = (losses.terms["time"] * 20).round() == 15
    p = 0.999 * 10 / 29 + 0.001 / 20
    assert float(at_15.double().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / 500) ** 0.5)
    weight = losses.total / losses.terms["unweighted"]
    torch.testing.assert_close(weight[at_15], torch.full_like(weight[at_15], 1 / (20 * p)))


def test_losses_that_are_not_finite_teach_nothing() -> None:
    method = made("improved_ddpm", CHAIN)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    bad = torch.tensor([torch.nan, torch.inf])
    method.adapt(torch.arange(2), {"time": torch.tensor([0.5, 0.55]), "unweighted": bad})
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_the_history_is_in_the_state_and_goes_on_from_it() -> None:
    method, fresh = learned(made("improved_ddpm", CHAIN)), made("improved_ddpm", CHAIN)
    keys = Keys.range(5, 0, 40)
    expected = method.loss(batch(0, 40), keys)
    assert not torch.equal(fresh.loss(batch(0, 40), keys).terms["time"], expected.terms["time"])
    fresh.load_state_dict(method.state_dict())
    assert torch.equal(fresh.loss(batch(0, 40), keys).terms["time"], expected.terms["time"])
    assert isinstance(fresh.parts["times"], LossAware)


def test_samples_do_not_depend_on_the_history() -> None:
    torch.testing.assert_close(
        learned(made("improved_ddpm", CHAIN)).sample(KEYS, LABELS), made("improved_ddpm", CHAIN).sample(KEYS, LABELS)
    )


def test_the_network_has_two_channels_a_colour() -> None:
    assert recording(made("improved_ddpm")).channels == 2
