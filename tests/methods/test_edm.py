"""EDM and EDM2: what the preconditioned network sees and says is of unit size at every noise level."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from langevin.randomness import Keys

from .examples import SHAPE, batch, made, many, recording

COUNT = 3000
both = pytest.mark.parametrize(("name", "mean", "deviation"), [("edm", -1.2, 1.2), ("edm2", -0.4, 1.0)])


def normal(generator: torch.Generator) -> Tensor:
    """Data of deviation 0.5, EDM's sigma_data."""
    return 0.5 * torch.randn(COUNT, *SHAPE, generator=generator)


@both
def test_input_and_target_of_the_network_have_unit_variance_at_every_level(
    name: str, mean: float, deviation: float
) -> None:
    """And so has its error: that of a network that says 0 is its target's."""
    method = made(name)
    recorder = recording(method)
    losses = method.loss(many(COUNT, normal), Keys.range(5, 0, COUNT))
    error = losses.terms.get("error", losses.total)
    x, noise, _ = recorder.told[0]
    for third in noise.argsort().chunk(3):
        values = x[third]
        assert float(values.var()) == pytest.approx(1, abs=4 * (2 / values.numel()) ** 0.5)
        assert float(error[third].mean()) == pytest.approx(1, abs=5 * (2 / values.numel()) ** 0.5)
    assert float(4 * noise.mean()) == pytest.approx(mean, abs=0.01)  # ln(sigma) / 4, stratified
    assert float(4 * noise.std()) == pytest.approx(deviation, abs=0.03)


def test_sigma_data_is_the_recipes() -> None:
    method = made("edm", {"sigma_data": 1.0})
    recorder = recording(method)
    method.loss(many(COUNT, lambda generator: 2 * normal(generator)), Keys.range(5, 0, COUNT))
    x = recorder.told[0][0]
    assert float(x.var()) == pytest.approx(1, abs=4 * (2 / x.numel()) ** 0.5)


def test_uncertainty_learns_the_error_of_its_level_and_nothing_else_needs_it() -> None:
    """error / e^u + u, whose gradient in u is 1 - error / e^u."""
    method, keys, labels = made("edm2").eval(), Keys.range(3, 0, 2), torch.arange(2)
    part = method.parts["uncertainty"]
    noted: list[Tensor] = []
    part.register_forward_hook(lambda _module, _inputs, out: noted.append(out.detach()))
    losses = method.loss(batch(0, 8), Keys.range(5, 0, 8))
    error, u = losses.terms["error"], noted[0]
    torch.testing.assert_close(losses.total, error / u.exp() + u)
    losses.total.mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in part.parameters())

    sample, bound = method.sample(keys, labels), method.bound(batch(0, 2), keys).total
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.normal_()
    assert torch.equal(method.sample(keys, labels), sample)
    assert torch.equal(method.bound(batch(0, 2), keys).total, bound)
    assert len(noted) == 1


def test_edm2_of_uncertainty_0_is_edms_loss() -> None:
    method = made("edm2").eval()
    with torch.no_grad():
        for parameter in method.parts["uncertainty"].parameters():
            parameter.zero_()
    losses = method.loss(batch(0, 8), Keys.range(5, 0, 8))
    torch.testing.assert_close(losses.total, losses.terms["error"])
